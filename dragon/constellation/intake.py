"""From a page of a peer's relay to the store: verified, sifted, counted; three pages under way at most (back-pressure)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from dragon.clock import Clock
from dragon.constellation.claims import Claims, Seen
from dragon.constellation.event import Event
from dragon.constellation.frames import Frame
from dragon.constellation.judging import Judges
from dragon.constellation.outcome import Outcome, PeerOutcome
from dragon.constellation.relay import RelayFailed
from dragon.constellation.resuming import Marks
from dragon.constellation.sieve import Sieve
from dragon.constellation.store import Sink
from dragon.constellation.wanted import FAR_FUTURE, Wanted
from dragon.errors import DragonError

BAD = frozenset({"bad id", "bad signature", "malformed", "unrequested", "future"})
"""Reasons that speak against the peer: an honest relay never gives such an event, or seldom, from before it checked."""

TOLERATED_BAD = 20
TOLERATED_SHARE = 0.05
"""A peer beyond both, that many bad events and that share of all it gave, is dropped for the run. One bad event says nothing:
relays keep what they once let in."""

GREETING = b"Hello NOSTR visitor."
"""What the stations' relays answer strangers with: the scripts do not pass it on."""

BATCH_BYTES = 2 * 1024 * 1024
"""Bytes that are gathered for the store at most, for each peer that is being read."""


class PeerDropped(RelayFailed):
    """The peer gave too many bad events; it is not asked again in this run."""


@dataclass(slots=True)
class Shared:
    """What all peers of a run share."""

    judges: Judges
    sink: Sink
    outcome: Outcome
    clock: Clock
    drop_visitors: bool = False
    sieve: Sieve = field(default_factory=Sieve)
    seen: Seen = field(default_factory=Seen)
    marks: Marks = field(default_factory=Marks)
    claims: Claims = field(init=False)
    bridged: bool = True
    """Whether our own relay speaks NIP-77, as far as we know."""
    released: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a peer is through with what it claimed."""
    on_event: Callable[[Event], None] = lambda _: None
    """Called with each event that is worth storing."""
    report: Callable[[], None] = lambda: None
    """Called when the counts have changed."""

    def __post_init__(self) -> None:
        self.claims = Claims(self.seen)


class Intake:
    """The way of one peer's events. `put` waits while the page before is being verified, and that while the store is busy.

    What is under way goes on when whoever waits for it is cancelled: `end` then waits for the rest.
    """

    def __init__(self, shared: Shared, peer: PeerOutcome) -> None:
        self._shared = shared
        self._peer = peer
        self._judging: asyncio.Task[None] | None = None
        self._storing: asyncio.Task[None] | None = None
        self._gathered: list[Event] = []
        self._gathered_bytes = 0

    async def put(self, page: Sequence[Frame], wanted: Wanted, ids: Collection[bytes] | None = None) -> None:
        """Hand over a page that answers `wanted`, and names only `ids` where such were asked for; those are released when done.

        Raises `PeerDropped`, or the `LocalError` of a store that cannot store, of an earlier page.
        """
        await self._judged()
        self._judging = asyncio.create_task(self._judge(page, wanted, ids))

    async def finish(self) -> None:
        """Wait until everything that was put is stored. Raises as `put` does, when nothing is left under way."""
        trouble: DragonError | None = None
        for step in (self._judged, self._flush, self._stored):
            try:
                await step()
            except DragonError as error:
                trouble = trouble or error
        if trouble is not None:
            raise trouble

    async def end(self) -> None:
        """Finish for the last time: who cancels this very wait wants no more of it, and what is under way is dropped."""
        try:
            await self.finish()
        except asyncio.CancelledError:
            left = [task for task in (self._judging, self._storing) if task is not None]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
            raise

    async def _judged(self) -> None:
        if (task := self._judging) is not None:
            try:
                await asyncio.shield(task)
            finally:
                if task.done():
                    self._judging = None

    async def _stored(self) -> None:
        if (task := self._storing) is not None:
            try:
                await asyncio.shield(task)
            finally:
                if task.done():
                    self._storing = None

    async def _judge(self, page: Sequence[Frame], wanted: Wanted, ids: Collection[bytes] | None) -> None:
        shared, peer = self._shared, self._peer
        try:
            peer.received += len(page)
            news = [frame for frame in page if not frame.id or bytes.fromhex(frame.id) not in shared.seen]
            peer.duplicate += len(page) - len(news)
            good: list[Event] = []
            future = shared.clock.now_ms() // 1000 + FAR_FUTURE
            for verdict in await shared.judges.judge([frame.text for frame in news]):
                reason = verdict if isinstance(verdict, str) else self._reason(verdict, wanted, ids, future)
                if reason == "duplicate":
                    peer.duplicate += 1
                elif reason:
                    peer.rejected[reason] += 1
                elif isinstance(verdict, Event):
                    shared.seen.add(bytes.fromhex(verdict.id))
                    good.append(verdict)
            shared.sieve.note(good)
            await self._gather(good)
        finally:
            if ids is not None:
                shared.claims.release(peer.node_id, ids)
            shared.released.set()
            shared.report()
        bad = sum(count for reason, count in peer.rejected.items() if reason in BAD)
        if bad > TOLERATED_BAD and bad > TOLERATED_SHARE * peer.received:
            raise PeerDropped(f"gave {bad} bad events out of {peer.received}: {', '.join(sorted(BAD & set(peer.rejected)))}")

    def _reason(self, event: Event, wanted: Wanted, ids: Collection[bytes] | None, future: int) -> str:
        identity = bytes.fromhex(event.id)
        if event.created_at > future:
            return "future"
        if not wanted.admits(event) or (ids is not None and identity not in ids):
            return "unrequested"
        if identity in self._shared.seen:
            return "duplicate"
        if self._shared.drop_visitors and GREETING in event.data.partition(b',"content":"')[2]:
            return "visitor"
        return ""

    async def _gather(self, events: list[Event]) -> None:
        shared, peer = self._shared, self._peer
        for event in events:
            if reason := shared.sieve.verdict(event):
                peer.rejected[reason] += 1
                if reason == "deleted":
                    shared.outcome.deletions += 1
                else:
                    shared.outcome.superseded += 1
                continue
            peer.by_kind[event.kind] += 1
            shared.on_event(event)
            self._gathered.append(event)
            self._gathered_bytes += len(event.data)
            if len(self._gathered) >= shared.sink.batch or self._gathered_bytes >= BATCH_BYTES:
                await self._flush()

    async def _flush(self) -> None:
        await self._stored()
        if self._gathered:
            self._storing = asyncio.create_task(self._store(self._gathered))
            self._gathered, self._gathered_bytes = [], 0

    async def _store(self, events: list[Event]) -> None:
        done = await self._shared.sink.store(events)
        self._peer.new += done.added
        self._peer.duplicate += done.duplicate
        self._peer.refused += done.refused
        self._shared.outcome.stored += done.added
        self._shared.outcome.refused += done.refused
        self._shared.report()

"""One peer, from the first connection to the last event: what it has and we lack comes here."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from dragon.constellation.asking import NoNegentropy, offer, read
from dragon.constellation.bridge import Found
from dragon.constellation.comparing import Comparison, NoBridge, NothingHere, OwnRelayFailed, on_our_side, own
from dragon.constellation.frames import Frame
from dragon.constellation.intake import Intake, PeerDropped, Shared
from dragon.constellation.job import Job, Peer
from dragon.constellation.outcome import PeerOutcome
from dragon.constellation.paging import Pages
from dragon.constellation.portions import Portions
from dragon.constellation.relay import Patience, Relay, RelayFailed, RelaySilent, connected
from dragon.constellation.wanted import Wanted
from dragon.errors import DragonError, RemoteError

FRUITLESS = 2
"""Connections in a row that brought nothing, after which a peer has failed: its turn comes again with the next run."""

CONNECTIONS = 12
"""Connections to one peer in a run, however much each brought."""

PAUSE = 1.0
"""Seconds before a peer is connected to again."""

AT_ONCE = 3
"""Pages of named events that are asked for at once: hides the way there and back, and keeps three pages in memory."""

MOST_AT_ONCE = 1500
"""Named events that are asked for at once: `AT_ONCE` pages as most relays have them."""

NARROWING = 40
"""Part of what broke the connection that is asked for next: an event that is too long for us, or that its relay chokes on, is
alone after three connections, and then left out."""


REFUSED_CHUNKS = 2
"""Pages of ours in a row of which a peer took nothing and blocked something, after which it is offered no more."""

BROKEN_PROMISES = 1000
"""Events that a peer named and did not give, beyond which it is given up where that is more than it gave."""


@dataclass(slots=True)
class Course:
    """How far a peer was read: what survives a broken connection."""

    todo: deque[Wanted]
    pages: Pages | None = None
    """Of the first of `todo`, where it is read in pages."""
    began: int = 0
    """When that was begun, in Unix seconds: what came to the peer later was not in its pages."""
    needs: deque[bytes] = field(default_factory=deque)
    """Ids that the peer has, and that wait to be fetched."""
    missing: int = 0
    lacking: int = 0
    """What the finished parts found."""
    refused_chunks: int = 0
    width: int = MOST_AT_ONCE
    """Named events that are asked for at once: fewer where the connection breaks over them."""
    left_out: set[bytes] = field(default_factory=set)
    """Events that were asked for alone, and broke the connection."""
    portions: Portions = field(default_factory=Portions)

    def narrow(self, asked: Sequence[set[bytes]]) -> int:
        """The connection broke over these: ask for fewer; return how many are left out from now on."""
        count = sum(map(len, asked))
        if count > 1:
            self.width = max(count // NARROWING, 1)
            return 0
        self.left_out |= asked[0]
        return 1

    def widen(self) -> None:
        """They came."""
        self.width = min(self.width * 4, MOST_AT_ONCE)


class Pull:
    """Reads one peer. `run` never raises for what the peer does."""

    def __init__(
        self, job: Job, peer: Peer, outcome: PeerOutcome, shared: Shared, filters: Iterable[Wanted], patience: Patience,
        *, compare: bool = True,
    ) -> None:  # fmt: skip
        """Without `compare`, NIP-77 is not even tried: for filters under which little is expected."""
        self._job = job
        self._peer = peer
        self._outcome = outcome
        self._shared = shared
        self._patience = patience
        self._intake = Intake(shared, outcome)
        self._course = Course(deque(filters))
        self._compare = compare and job.local is not None
        self._fetches = not (job.dry_run or job.verify)

    async def run(self) -> None:
        """Read the peer to its end, over as many connections as that sensibly takes. `LocalError`: our own side failed."""
        clock, started = self._shared.clock, self._shared.clock.monotonic()
        self._outcome.state = "cut"
        try:
            await self._persist()
        except PeerDropped as error:
            self._outcome.state, self._outcome.error = "failed", str(error)
        finally:
            try:
                await self._intake.end()
            except PeerDropped as error:
                self._outcome.state, self._outcome.error = "failed", str(error)
            finally:
                self._outcome.seconds += clock.monotonic() - started

    async def _persist(self) -> None:
        fruitless = 0
        for attempt in range(CONNECTIONS):
            before = self._progress()
            try:
                await self._connection()
                await self._intake.finish()
            except PeerDropped:
                raise
            except (RemoteError, OwnRelayFailed) as error:
                self._outcome.error = str(error)
                await self._intake.finish()
                fruitless = fruitless + 1 if self._progress() == before else 0
                if fruitless >= FRUITLESS:
                    if isinstance(error, OwnRelayFailed):
                        raise
                    break
            else:
                self._outcome.state, self._outcome.error = "ok", ""
                self._shared.marks.forget(self._peer.node_id)
                return
            await self._shared.clock.sleep(PAUSE * (attempt + 1))
        self._outcome.state = "failed"

    def _progress(self) -> tuple[int, int, int]:
        """Return what differs where a connection was not in vain."""
        return self._outcome.by_kind.total(), self._course.width, len(self._course.left_out)

    async def _connection(self) -> None:
        self._outcome.address = await way(self._peer)
        async with AsyncExitStack() as stack:
            theirs = await stack.enter_async_context(connected(self._outcome.address, self._patience))
            try:
                if theirs.limits.authentication:
                    raise RelayFailed("wants to know who asks (NIP-42)")
                ours = await stack.enter_async_context(own(self._job.local, self._patience)) if self._job.local else None
                while self._course.todo:
                    await self._part(theirs, ours, self._course.todo[0])
                    self._course.todo.popleft()
                    self._course.pages = None
                    self._course.missing, self._course.lacking = self._outcome.missing or 0, self._outcome.lacking or 0
            finally:
                self._outcome.bytes_in += theirs.bytes_in
                self._outcome.bytes_out += theirs.bytes_out

    async def _part(self, theirs: Relay, ours: Relay | None, wanted: Wanted) -> None:
        self._course.needs.clear()
        if ours is not None and self._compare and theirs.limits.nip77 is not False and self._course.pages is None:
            try:
                if await self._reconcile(theirs, ours, wanted):
                    return
            except NoNegentropy:
                self._compare = False
        await self._read_pages(theirs, ours, wanted)

    async def _reconcile(self, theirs: Relay, ours: Relay, wanted: Wanted) -> bool:
        """Find the differences by NIP-77 and fetch them; False where it is better to read everything."""
        self._outcome.missing = self._course.missing
        want_have = self._job.both or self._job.verify
        if want_have:
            self._outcome.lacking = self._course.lacking
        tell_empty = self._fetches and len(self._job.peers) == 1  # of several, each is to give a part
        comparison = Comparison(theirs, ours, self._outcome, want_have, tell_empty)
        try:
            if self._shared.bridged:
                await self._take(comparison.over_the_bridge(wanted), theirs, ours, wanted)
        except NothingHere:
            if not self._course.missing:  # nothing was compared: what is missing here is not known, and all is read
                self._outcome.missing, self._outcome.method = None, ""
            return False
        except NoBridge:
            self._shared.bridged = False
        if not self._shared.bridged:
            await self._take(comparison.by_items(wanted), theirs, ours, wanted)
        while self._course.needs:
            if not await self._fetch(theirs, wanted) and self._course.needs:
                self._shared.released.clear()  # others fetch what is left: whether they succeed is still to be seen
                await self._shared.released.wait()
        return True

    async def _take(self, differences: AsyncGenerator[Found, None], theirs: Relay, ours: Relay, wanted: Wanted) -> None:
        """Fetch and send what is found, but for the last pages of what is needed, which may still grow."""
        async with contextlib.aclosing(differences):
            async for found in differences:
                need, have = found.need, found.have
                found.need, found.have = [], []
                self._outcome.missing = (self._outcome.missing or 0) + len(need)
                if self._outcome.lacking is not None:
                    self._outcome.lacking += len(have)
                if not self._fetches:
                    continue
                self._course.needs.extend(each for each in need if each not in self._course.left_out)
                while len(self._course.needs) >= MOST_AT_ONCE and await self._fetch(theirs, wanted):
                    pass
                if self._job.both:
                    await self._send(have, theirs, ours)

    async def _fetch(self, theirs: Relay, wanted: Wanted) -> bool:
        """Fetch the next ids that nobody else is fetching; False where there are none."""
        claims, me, chunks = self._shared.claims, self._peer.node_id, list[set[bytes]]()
        room = min(self._course.width, self._course.portions.count(MOST_AT_ONCE))
        while len(chunks) < min(AT_ONCE, theirs.limits.subscriptions) and (
            taken := claims.take(me, self._course.needs, min(theirs.limits.page, room))
        ):
            chunks.append(set(taken))
            room -= len(taken)
        if not chunks:
            return False
        pages: list[list[Frame]] = [[] for _ in chunks]
        put = 0
        try:
            questions = [{"ids": [each.hex() for each in chunk], "limit": len(chunk)} for chunk in chunks]
            try:
                await read(theirs, questions, pages)
                self._course.widen()
                self._course.portions.note([frame for page in pages for frame in page])
                self._outcome.undelivered += sum(map(len, chunks)) - sum(map(len, pages))
            except RelaySilent:
                raise
            except RelayFailed:
                self._outcome.undelivered += self._course.narrow(chunks)
                raise
            finally:
                for chunk, page in zip(chunks, pages, strict=True):
                    await self._intake.put(page, wanted, chunk)
                    put += 1
        finally:
            for chunk in chunks[put:]:
                claims.release(me, chunk)
            self._shared.released.set()
        if self._outcome.undelivered > max(BROKEN_PROMISES, self._outcome.received):
            raise PeerDropped(f"named {self._outcome.undelivered} events that it did not give")
        return True

    async def _send(self, ids: list[bytes], theirs: Relay, ours: Relay) -> None:
        """Offer the peer what it lacks."""
        for start in range(0, len(ids), ours.limits.page):
            if self._course.refused_chunks >= REFUSED_CHUNKS:
                return
            chunk, page = ids[start : start + ours.limits.page], list[Frame]()
            with on_our_side():
                await read(ours, [{"ids": [each.hex() for each in chunk], "limit": len(chunk)}], [page])
            taken, declined = await offer(theirs, page)
            self._outcome.sent += taken
            self._outcome.declined += declined
            self._course.refused_chunks = self._course.refused_chunks + 1 if declined and not taken else 0

    async def _read_pages(self, theirs: Relay, ours: Relay | None, wanted: Wanted) -> None:
        """Read everything under a filter, where the peer lacks NIP-77 or we have nothing to compare."""
        self._outcome.method = self._outcome.method or "req"
        marks, me, now = self._shared.marks, self._peer.node_id, self._shared.clock.now_ms() // 1000
        if self._course.pages is None:
            self._course.pages, self._course.began = Pages(wanted, theirs.limits.page, marks.covered(me, wanted, now)), now
        pages = self._course.pages
        while not pages.done:
            page: list[Frame] = []
            try:
                await read(theirs, [pages.question(self._course.portions.count(theirs.limits.page))], [page])
            except RelayFailed:
                if self._fetches:
                    await self._intake.put(page, wanted)
                raise
            self._course.portions.note(page)
            fresh = pages.answer(page)
            if self._fetches:
                await self._intake.put(fresh, wanted)
                marks.note(me, wanted, pages.until, self._course.began, now)
            elif ours is not None:
                await self._count_missing(fresh, ours, wanted)
        self._outcome.overfull += pages.overfull

    async def _count_missing(self, events: list[Frame], ours: Relay, wanted: Wanted) -> None:
        ids = {event.id for event in events if event.id}
        here: list[Frame] = []
        if ids:
            with on_our_side():
                await read(ours, [wanted.filter(ids=list(ids), limit=len(ids))], [here])
        self._outcome.missing = (self._outcome.missing or 0) + len(ids - {event.id for event in here})


async def way(peer: Peer) -> str:
    """Return the URL that leads to a peer's relay; `RelayFailed` also where it is our own engine that finds no way."""
    try:
        return await peer.open()
    except DragonError as error:
        raise RelayFailed(str(error)) from None

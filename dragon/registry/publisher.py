"""What we say, and that it is heard: one serialized publisher for everything this node publishes (DESIGN §5).

Kubo loses messages that are published side by side, and HTTP 200 is not delivery (KUBO.md, pubsub trap 1). So: one task; always
the whole state, never a delta; a burst of changes is one publication; pubsub before IPNS, and what was sent while an IPNS
record was being published is sent again after it. The sequence is on disk before it is signed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from dragon.clock import Clock
from dragon.errors import KuboError, LocalError, StoreError
from dragon.kubo.types import Kubo
from dragon.registry.backoff import Backoff
from dragon.registry.beat import Beat
from dragon.registry.lease import spell_seconds
from dragon.registry.policy import stretch
from dragon.registry.storage import Storage
from dragon.registry.view import View
from dragon.registry.waiting import woken
from registry_schema import Agent, Draft, Manifest, Offer, Rejection, TooLarge, parse
from registry_schema.ids import is_ed25519_id
from registry_schema.limits import MAX_SKEW_MS, MAX_TTL, MIN_TTL

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.05, 2.0
"""Seconds between attempts while Kubo does not take our message: what changed here waits for nothing else."""

FAREWELLS = 2
"""Times that `leaving` is sent: nobody repeats it for us once we are gone."""


@dataclass(frozen=True, slots=True)
class Description:
    """What this node has to say now, without what only the publisher knows. `load` in thousandths."""

    alias: str
    version: str
    offers: tuple[Offer, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    capacity: Mapping[str, int] = field(default_factory=dict)
    load: int = 0
    agents: tuple[Agent, ...] = ()
    station: Mapping[str, str | int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Publication:
    """One envelope of ours; `content_hash` stays the same from beat to beat."""

    envelope: bytes
    sequence: int
    content_hash: bytes


def compose(
    description: Description,
    node_id: str,
    swarm: str,
    sequence: int,
    ttl: int,
    digest: Sequence[bytes],
    *,
    leaving: bool = False,
) -> Manifest:
    """Return the manifest that says `description`: what is published, and what `dragon serve --dry-run` shows.

    Raises `InvalidField` when the description does not fit the contract.
    """
    return Manifest.read(
        {
            "node": node_id,
            "swarm": swarm,
            "sequence": sequence,
            "ttl": ttl,
            "alias": description.alias,
            "version": description.version,
            "offers": [] if leaving else [offer.model_dump() for offer in description.offers],
            "labels": dict(description.labels),
            "capacity": dict(description.capacity),
            "load": description.load,
            "agents": [agent.model_dump() for agent in description.agents],
            "digest": list(digest),
            "station": dict(description.station),
            "leaving": leaving,
        }
    )


class Publisher:
    """Publishes `describe()` to `topic` whenever `announce` was called or `beat` says that it is time.

    `on_published` is called after each message that Kubo took.
    """

    def __init__(
        self,
        kubo: Kubo,
        view: View,
        storage: Storage,
        clock: Clock,
        beat: Beat,
        describe: Callable[[], Description],
        *,
        topic: str,
        lease: float,
        rng: random.Random,
    ) -> None:
        self._kubo = kubo
        self._view = view
        self._storage = storage
        self._clock = clock
        self._beat = beat
        self._describe = describe
        self._node_id = view.self_id
        self._key: bytes | None = None
        self._topic = topic
        self._lease = lease
        self._backoff = Backoff(RETRY_FIRST, RETRY_MOST, rng)
        self._wake = asyncio.Event()
        self._repeat = False
        self._naming = 0
        self._sent_while_naming = False
        self._floor = 0
        self._listeners: list[Callable[[Publication], None]] = []
        self.last: Publication | None = None
        self.published_at: float | None = None
        self.problem = ""
        """Why the newest state could not be published; empty when it was."""
        self.counters: Counter[str] = Counter()

    @property
    def ahead(self) -> float:
        """Seconds for which others refuse our sequences as from the future, if our clock is right now; 0 when they do not.

        So after a clock that was far ahead has been set right: sequences never go back. After one that stepped back it looks
        the same to us.
        """
        beyond = self.last.sequence - self._clock.now_ms() - MAX_SKEW_MS if self.last else 0
        return max(beyond / 1000, 0.0)

    def on_published(self, callback: Callable[[Publication], None]) -> None:
        self._listeners.append(callback)

    def announce(self) -> None:
        """Something that we say has changed: publish soon. Calls until then are one publication."""
        self._beat.changed(self._clock.monotonic())
        self._wake.set()

    def say_again(self) -> None:
        """Send the newest envelope once more, soon: somebody is there now who may have missed it."""
        self._repeat = True
        self._wake.set()

    def continue_above(self, sequence: int) -> None:
        """Never publish at or below `sequence`: we said it once, whether or not we remember."""
        self._floor = max(self._floor, sequence)

    @contextmanager
    def naming(self) -> Iterator[None]:
        """Held around an IPNS publication: what was sent during it is sent again afterwards (one counter for both)."""
        self._naming += 1
        try:
            yield
        finally:
            self._naming -= 1
            if not self._naming and self._sent_while_naming:
                self._sent_while_naming = False
                self.say_again()

    async def run(self, key: bytes) -> None:
        """Publish until cancelled; what Kubo or the disk does not take now is tried again, newest state only.

        `key` is the identity's protobuf public key; only RSA envelopes carry it.
        """
        self._key = None if is_ed25519_id(self._node_id) else key
        while True:
            self._wake.clear()
            wait = self._beat.due_at - self._clock.monotonic()
            if wait > 0 and not self._repeat:
                await woken(self._wake, self._clock, wait)
                continue
            try:
                await (self._publish() if wait <= 0 else self._send_again())
            except (KuboError, StoreError, Rejection) as error:
                if not self.problem:
                    hint = f" ({error.hint})" if isinstance(error, LocalError) and error.hint else ""
                    log.warning("not published: %s%s", error, hint)
                self.problem = str(error)
                self.counters["publish-failures"] += 1
                await self._clock.sleep(self._backoff.wait())
            else:
                self.problem = ""
                self._backoff.reset()

    async def leave(self) -> None:
        """Say that this node stops: the last word, after `run` has ended. Raises what Kubo or the store raises."""
        if self.last is None:
            return  # never said that we are here
        await self._publish(leaving=True)
        for _ in range(FAREWELLS - 1):
            await self._send_again()

    async def _publish(self, *, leaving: bool = False) -> None:
        at = self._clock.monotonic()
        self._beat.published(at, self._live(at))  # before describing: what changes from here on is the next publication
        try:
            sequence, envelope = await self._compose(leaving=leaving)
            try:
                await self._kubo.publish(self._topic, envelope)
            finally:  # after sending, because others wait for it; and in any case, because it is what we say now
                publication = self._hold(sequence, envelope)
            self._sent(publication)
        except BaseException:
            self._beat.changed(at)
            raise

    async def _compose(self, *, leaving: bool) -> tuple[int, bytes]:
        """Return a new sequence and the present state signed with it."""
        sequence = await self._storage.reserve_sequence(max(self._clock.now_ms(), self._floor + 1))
        description = self._describe()
        try:
            return sequence, await self._sealed(description, sequence, leaving=leaving)
        except TooLarge as error:
            if not self.counters["labels-dropped"]:
                log.warning("%s; the labels of the offers are left out until it fits", error)
            self.counters["labels-dropped"] += 1
            plain = tuple(offer.model_copy(update={"labels": {}}) for offer in description.offers)
            return sequence, await self._sealed(replace(description, offers=plain), sequence, leaving=leaving)

    def _hold(self, sequence: int, envelope: bytes) -> Publication:
        """Take our own word into the view."""
        at, wall = self._clock.monotonic(), max(self._clock.now_ms(), sequence)  # our own word is never from the future to us
        self._view.admit(envelope, carrier=self._node_id, source="self", heard_at=at, now_ms=wall)
        return Publication(envelope, sequence, parse(envelope).content_hash)

    async def _sealed(self, description: Description, sequence: int, *, leaving: bool) -> bytes:
        digest = self._view.digest(self._clock.monotonic())
        manifest = compose(description, self._node_id, self._view.swarm, sequence, self._ttl(), digest, leaving=leaving)
        draft = Draft.of(manifest)
        return draft.sealed(await self._kubo.sign(draft.message), self._key)

    def _ttl(self) -> int:
        """Seconds to be believed: the lease that was set, stretched as the beats are, within what the contract allows."""
        live = self._live(self._clock.monotonic())
        return min(max(math.ceil(self._lease * stretch(live)), MIN_TTL), MAX_TTL)

    def _live(self, at: float) -> int:
        return self._view.live_count(at)

    def _sent(self, publication: Publication) -> None:
        self._sent_while_naming = self._naming > 0
        self._repeat = False
        is_beat = self.last is not None and self.last.content_hash == publication.content_hash
        self.last = publication
        self.published_at = self._clock.monotonic()
        self.counters["beats" if is_beat else "changes"] += 1
        if self.ahead:
            if not self.counters["ahead"]:
                log.warning(
                    "what we say is %s ahead of our clock: it is behind now, or was ahead and others refuse us (see doctor)",
                    spell_seconds(self.ahead + MAX_SKEW_MS / 1000),
                )
            self.counters["ahead"] += 1
        for listener in self._listeners:
            listener(publication)

    async def _send_again(self) -> None:
        """Send the last envelope once more: same bytes, so that whoever has it drops it before decoding."""
        if self.last is not None:
            await self._kubo.publish(self._topic, self.last.envelope)
            self._sent_while_naming = self._naming > 0
            self.counters["repeated"] += 1
        self._repeat = False

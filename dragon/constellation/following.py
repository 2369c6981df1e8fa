"""`dragon sync --follow` after its backfill: who is followed, for whom, and what is told of it.

The list of peers follows the node's view within seconds; the authors are asked for again now and then, and a change of them
begins new subscriptions. A run may go on beside it: both store into the same relay, which knows what it has.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from dragon.constellation.job import Job, Peer
from dragon.constellation.live import follow
from dragon.constellation.lock import locked
from dragon.constellation.report import About, document
from dragon.constellation.status import EVERY, StatusFile
from dragon.constellation.ways import SLUG, Forwarding, Ways
from dragon.errors import DragonError

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.constellation.outcome import Outcome
    from dragon.constellation.places import Places

log = logging.getLogger(__name__)

LOOK = 3.0
"""Seconds between two looks at the node's view: a listing of what it knows, which costs it a millisecond."""

AUTHORS_EVERY = 600.0
"""Seconds between two questions for the constellation's authors: every member is asked then."""

Document = dict[str, Any]
Facts = Mapping[str, Any]


class Listing(Protocol):
    """The part of the node's control API that tells who is there; it blocks."""

    def peers(self) -> list[Document]: ...

    def constellation(self) -> Document: ...


class Node(Listing, Forwarding, Protocol):
    """The running node."""


class Follower:
    """`job_of` makes the job for what the node says now; `about` says who we are in the report."""

    def __init__(
        self, node: Node, places: Places, clock: Clock, ways: Ways, job_of: Callable[[Facts], Job], about: About
    ) -> None:
        self._node = node
        self._places = places
        self._clock = clock
        self._ways = ways
        self._job_of = job_of
        self._about = about
        self._latest: Outcome | None = None

    async def run(self, facts: Facts, stop: asyncio.Event) -> Document:
        """Follow until `stop`; return the report. Raises `RunGoesOn` when somebody else of this home follows."""
        started = self._clock.now_ms() / 1000
        status = StatusFile(self._places.follow_status)
        with locked(self._places.follow_locks):
            telling = asyncio.create_task(self._tell(status, started))
            try:
                outcome = await self._until(stop, facts)
            finally:
                telling.cancel()
                await asyncio.gather(telling, return_exceptions=True)
                status.clear()
        outcome.started = started
        if stop.is_set() and outcome.state == "cancelled":
            outcome.state = "ok"  # to be stopped is how a follower ends
        return document(replace(self._about, mode="follow"), outcome)

    async def _until(self, stop: asyncio.Event, facts: Facts) -> Outcome:
        """Follow with the authors of `facts`, then with those of newer ones, and so on."""
        stopping = asyncio.create_task(stop.wait())
        try:
            while True:
                listing = _Peers(self._node, self._ways, self._clock, facts)
                job = self._job_of(facts)
                working = asyncio.create_task(follow(job, listing.changes(), self._clock, self._note))
                await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
                if not working.done():
                    working.cancel()
                outcome = await working
                if stop.is_set() or outcome.state == "failed":
                    return outcome
                facts = listing.facts
        finally:
            stopping.cancel()

    def _note(self, outcome: Outcome) -> None:
        self._latest = outcome

    async def _tell(self, status: StatusFile, started: float) -> None:
        while True:
            told: Document = {"mode": "follow"}
            if (latest := self._latest) is not None:
                told |= {"received": latest.received, "stored": latest.stored}
                told["peers"] = [{"alias": peer.alias, "state": peer.state, "error": peer.error} for peer in latest.peers]
            status.write("", started, None, **told)
            await self._clock.sleep(EVERY)


class _Peers:
    """The peers to follow, as they come and go; ends when the authors have changed."""

    def __init__(self, node: Listing, ways: Ways, clock: Clock, facts: Facts) -> None:
        self._node = node
        self._ways = ways
        self._clock = clock
        self.facts = facts

    async def changes(self) -> AsyncIterator[tuple[Peer, ...]]:
        """Yield the list at once, and again after each change."""
        authors = frozenset(self.facts["hexes"])
        seen = await self._seen()
        yield self._listed()
        asked_at = self._clock.monotonic()
        while True:
            await self._clock.sleep(LOOK)
            now = await self._seen()
            if now == seen and self._clock.monotonic() - asked_at < AUTHORS_EVERY:
                continue
            try:
                facts = await asyncio.to_thread(self._node.constellation)
            except DragonError as error:  # the node is away: whom we follow stays, as long as the tunnels stand
                log.info("the node is not asked: %s", error)
                continue
            seen, asked_at, self.facts = now, self._clock.monotonic(), facts
            if frozenset(facts["hexes"]) != authors:
                return
            yield self._listed()

    async def _seen(self) -> frozenset[str]:
        try:
            peers = await asyncio.to_thread(self._node.peers)
        except DragonError:
            return frozenset()
        offering = [
            peer for peer in peers if peer["state"] == "live" and any(offer["slug"] == SLUG for offer in peer["offers"])
        ]
        return frozenset(str(peer["id"]) for peer in offering)

    def _listed(self) -> tuple[Peer, ...]:
        return tuple(self._ways.peer(node) for node in self.facts["peers"])

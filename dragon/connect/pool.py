"""Several providers kept warm behind one port: their legs open, their services tested, the connections spread over them.

A pool consists of nodes of the swarm, over p2p. It replaces who dies or stops offering, follows the load where it is `auto`,
and rests when nobody has used the port for long: then legs close as any idle leg does, and the next connection wakes it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from dragon.connect.choice import Candidate, choose, refusal
from dragon.connect.finder import Finder, Found, Wish
from dragon.connect.scaling import Scale, scaled
from dragon.errors import LocalError

if TYPE_CHECKING:
    from dragon.clock import Clock

log = logging.getLogger(__name__)

PoolSize = int | Literal["auto"]

LOOK_AGAIN = 1.0
"""Seconds between two searches for a member that is missing: whoever joins the swarm is there soon enough."""

WARM_FOR = 10.0
"""Seconds after its last answer until a member is tested again: a third of a beat, so that one who died in silence is out well
before the view says so. One small request per member and 10 s, and only while the port is used."""


@dataclass(frozen=True, slots=True)
class Member:
    """One provider of a pool, as shown. `proven`: seconds since it last answered."""

    id: str
    alias: str
    in_flight: int
    proven: float


@dataclass(frozen=True, slots=True)
class PoolInfo:
    """`wanted` is the size aimed at; `resting`: nobody has used it for long, so it is not kept warm."""

    wanted: int
    auto: bool
    resting: bool
    members: tuple[Member, ...]


class Pool:
    """Begins with `first`, whose slug and route all members share. `rest_after` in seconds without a connection."""

    def __init__(
        self, wish: Wish, first: Found, size: PoolSize, finder: Finder, clock: Clock, *, rest_after: float,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.members: dict[str, Found] = {first.node_id: first}
        self._wish = replace(wish, service=first.slug)
        self._like = first
        self._auto = size == "auto"
        self._scale = Scale(1 if size == "auto" else size)
        self._finder = finder
        self._clock = clock
        self._rest_after = rest_after
        self._on_change = on_change
        self._resting = False
        self._search_at = float("-inf")
        self._growing: asyncio.Task[None] | None = None
        self._testing: asyncio.Task[None] | None = None

    def pick(self, tried: Mapping[str, str]) -> Found | None:
        """Return the member that the strategy chooses for one more connection, untested; None when none can serve."""
        offering = {
            each.node_id: each for each in self._finder.offered.providers(self._like.slug) if each.node_id in self.members
        }
        candidates = [self._finder.candidate(each, self._like.route.name) for each in offering.values()]
        strategy = self._wish.strategy or self._finder.strategy
        decision = choose(candidates, strategy, self._clock.monotonic(), where=self._wish.where, tried=tried)
        if decision.provider is None:
            return None
        return replace(self.members[decision.provider.node_id], because=decision.because)

    def adopt(self, found: Found) -> None:
        """Take in a provider that was just found to work."""
        if found.node_id not in self.members and (found.slug, found.route.name) == (self._like.slug, self._like.route.name):
            self.members[found.node_id] = found
            log.info("%s: %s joins the pool (%d of %d)", found.slug, found.alias, len(self.members), self._scale.size)
            self._on_change()

    def look(self, in_flight: int, used_at: float) -> None:
        """One look: let go who is dead or not needed, look for who is missing, test who has not answered for long.

        `in_flight` counts the connections of the port, `used_at` (monotonic) is when the last one began or ended.
        """
        at = self._clock.monotonic()
        for found in list(self.members.values()):
            why = self._finder.offered.standing(found.node_id, found.slug)
            if why is None and found.reach.breaker.state(at) == "open":
                why = found.reach.last_failure
            if why is not None:
                self._let_go(found, why)
        if self._auto:
            self._scale = scaled(self._scale, in_flight, len(self.members), at)
        while len(self.members) > self._scale.size:
            self._let_go(min(self.members.values(), key=self._worth), "not needed for this load")
        self._make_way(at)
        self._resting = not in_flight and at - used_at > self._rest_after
        if self._resting:
            return
        if len(self.members) < self._scale.size and at >= self._search_at and _idle(self._growing):
            self._search_at = at + LOOK_AGAIN
            if any(each.breaker.permits(at) and refusal(each, self._wish.where, at) is None for each in self._outside()):
                self._growing = asyncio.create_task(self._grow())
        stale = [each for each in self.members.values() if at - each.reach.proven_at > WARM_FOR]
        if stale and _idle(self._testing):
            self._testing = asyncio.create_task(self._test(stale))

    def info(self) -> PoolInfo:
        at = self._clock.monotonic()
        members = tuple(
            Member(each.node_id, each.alias, each.reach.in_flight, round(at - each.reach.proven_at, 1))
            for _, each in sorted(self.members.items())
        )
        return PoolInfo(self._scale.size, self._auto, self._resting, members)

    async def close(self) -> None:
        tasks = [task for task in (self._growing, self._testing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _outside(self) -> list[Candidate]:
        return [
            self._finder.candidate(each, self._like.route.name)
            for each in self._finder.offered.providers(self._like.slug)
            if each.node_id not in self.members and not each.is_self
        ]

    def _make_way(self, at: float) -> None:
        """Let a member go that signs nothing, where the pool is full and somebody who signs could be in it."""
        spare = [found for found in self.members.values() if self._finder.offered.is_unsigned(found.node_id)]
        if spare and len(self.members) == self._scale.size:
            better = (each for each in self._outside() if not each.unsigned and each.breaker.permits(at))
            if any(refusal(each, self._wish.where, at) is None for each in better):
                self._let_go(spare[0], "somebody who signs can serve")

    def _worth(self, found: Found) -> tuple[int, float]:
        """The less, the sooner a member is let go: fewest connections, then the slowest."""
        return found.reach.in_flight, -(found.reach.measured.cost if found.reach.measured else float("inf"))

    def _let_go(self, found: Found, why: str) -> None:
        """Take a member out; its running connections go on, its leg closes when idle."""
        del self.members[found.node_id]
        self._search_at = float("-inf")
        log.info("%s: %s leaves the pool: %s", found.slug, found.alias, why)
        self._on_change()

    async def _grow(self) -> None:
        while len(self.members) < self._scale.size:
            try:
                found = await self._finder.find(self._wish, dict.fromkeys(self.members, "is in the pool already"))
            except LocalError as error:
                log.debug("%s: nobody more for the pool: %s", self._like.slug, error)
                return
            before = len(self.members)
            self.adopt(found)
            if len(self.members) == before:  # the same service under another name is no member
                return

    async def _test(self, stale: list[Found]) -> None:
        try:
            await asyncio.gather(*(self._finder.works(each) for each in stale))
        except LocalError as error:  # our own engine: every member stays
            log.debug("%s: the pool cannot be tested: %s", self._like.slug, error)


def _idle(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()

"""Whole registries in one event loop: fakes below, a clock that the test drives, real sockets for the exchange."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dragon.config import RegistrySettings
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.tunnels import Tunnels
from dragon.registry.publisher import Description
from dragon.registry.service import Registry
from dragon.registry.view import Policy, View
from registry_schema import Offer, Rank, make_offer
from tests.simulator.signers import SWARM, Signer
from tests.testbed.loops import drained

__all__ = ["SWARM", "ManualClock", "Member", "MemoryStore", "Shared", "Signer"]

EPOCH_MS = 1_800_000_000_000
BOUND = 30.0
"""Seconds of real time that a condition may take on a busy machine."""


class ManualClock:
    """Time that moves only by `advance`; `skew_ms` is how far this machine's wall clock is off."""

    def __init__(self, skew_ms: int = 0) -> None:
        self.now = 1000.0
        self.skew_ms = skew_ms
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = itertools.count()

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return EPOCH_MS + round(self.now * 1000) + self.skew_ms

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._order), woken))
        await woken

    def advance(self, seconds: float) -> None:
        self.now += seconds
        while self._sleepers and self._sleepers[0][0] <= self.now:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)


class Shared:
    """Several clocks that move together."""

    def __init__(self, clocks: Iterable[ManualClock]) -> None:
        self.clocks = list(clocks)

    async def until(self, condition: Callable[[], object], step: float = 0.05) -> None:
        """Move time in steps until `condition` holds, with real pauses for real sockets."""
        deadline = time.monotonic() + BOUND
        while not condition():
            assert time.monotonic() < deadline, "did not come true"
            for clock in self.clocks:
                clock.advance(step)
            for _ in range(5):
                await asyncio.sleep(0)
            await asyncio.sleep(0.001)

    async def run(self, seconds: float, step: float = 0.25) -> None:
        """Let `seconds` of the shared time pass."""
        end = self.clocks[0].now + seconds
        await self.until(lambda: self.clocks[0].now >= end, step)


@dataclass
class MemoryStore:
    """What the registry needs of a store, in memory."""

    last: int | None = None
    held: dict[str, tuple[Rank, bytes, int]] = field(default_factory=dict)

    def put(self, swarm: str, node_id: str, rank: Rank, envelope: bytes, heard_ms: int) -> None:
        self.held[node_id] = (rank, envelope, heard_ms)

    def forget(self, swarm: str, node_id: str) -> None:
        self.held.pop(node_id, None)

    def envelopes(self, swarm: str) -> Iterator[tuple[str, bytes, int]]:
        return ((node_id, data, heard_ms) for node_id, (_, data, heard_ms) in self.held.items())

    async def last_sequence(self) -> int | None:
        return self.last

    async def reserve_sequence(self, now_ms: int) -> int:
        self.last = max(now_ms, (self.last or 0) + 1)
        return self.last


class Member:
    """One registry on a fake daemon; `offers` is what it offers."""

    def __init__(
        self,
        network: FakeNetwork,
        folder: Path,
        *,
        seed: int | None = None,
        clock: ManualClock | None = None,
        policy: Policy | None = None,
        settings: RegistrySettings | None = None,
        store: MemoryStore | None = None,
        kubo: FakeKubo | None = None,
        ipns: bool = False,
        join: Iterable[str] = (),
    ) -> None:
        self.kubo = kubo or FakeKubo(network, seed)
        self.id = self.kubo.node_id
        self.clock = clock or ManualClock()
        self.store = store or MemoryStore()
        marks = {node_id: rank for node_id, (rank, _, _) in self.store.held.items()}
        self.view = View(self.id, SWARM, policy or Policy(), marks, random.Random(seed))
        self.tunnels = Tunnels(self.kubo, folder / f"{self.id}.json", self.clock)
        self.offers: tuple[Offer, ...] = ()
        self.alias = f"node{seed}"
        self.registry = Registry(
            self.kubo,
            self.tunnels,
            self.view,
            self.store,
            settings or RegistrySettings(),
            self.clock,
            self.describe,
            ipns=ipns,
            join=join,
            is_kubo=lambda connection: True,  # the fake daemon lives in this very process
            rng=random.Random(seed),
        )

    def describe(self) -> Description:
        return Description(alias=self.alias, version="0.1.0", offers=self.offers)

    def offer(self, *slugs: str) -> None:
        self.offers = tuple(make_offer(slug, self.id, 1234) for slug in sorted(slugs))
        self.registry.announce()

    def sees(self, other: Member | str, *slugs: str) -> bool:
        """Tell whether the other is live here, with exactly these offers when any are named."""
        node = self.view.node(other if isinstance(other, str) else other.id, self.clock.monotonic())
        if node is None or node.state != "live":
            return False
        return not slugs or [offer.slug for offer in node.manifest.offers] == sorted(slugs)

    def state(self, other: Member) -> str | None:
        node = self.view.node(other.id, self.clock.monotonic())
        return node.state if node else None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Member]:
        tasks = [asyncio.create_task(self.tunnels.run()), asyncio.create_task(self.registry.run())]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await self.kubo.close()
            await drained()
            for result in results:
                if isinstance(result, Exception):
                    raise result

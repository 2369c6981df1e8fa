"""A small swarm for tests of this room: providers with real local services behind real gates, and a consumer with its view.

Works on any `Kubo`: in memory for the unit tests, real daemons for the integration tests. Manifests are signed and admitted as
they always are; only how they travel is left out.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from dragon.clock import SystemClock
from dragon.config import ConnectSettings, GateSettings
from dragon.connect import Forwards, IsKubo, Serving
from dragon.connect.attempts import Introduce
from dragon.connect.routes import Route, RouteName
from dragon.kubo import Kubo
from dragon.kubo.tunnels import Tunnels
from dragon.probe import Catalogue, Finding, Survey, load_catalogue
from dragon.registry.policy import Policy
from dragon.registry.verdict import Admitted
from dragon.registry.view import View
from registry_schema import Draft, Manifest, Offer

SWARM = "test"

CATALOGUE = load_catalogue(overrides={"echo": {"port": 7007}})
"""What the providers know; the consumer's catalogue has no `echo`."""


@dataclass(eq=False)
class Provider:
    """A node that offers services. `members` are the ids its gate lets in; None: everybody."""

    kubo: Kubo
    node_id: str
    alias: str
    tunnels: Tunnels
    serving: Serving
    members: set[str]
    findings: dict[str, Finding] = field(default_factory=dict)
    sequence: int = 0

    async def offer(self, slug: str, port: int, *, labels: Mapping[str, str] | None = None, health: str = "passing") -> None:
        """Let the probe have found a service; returns when the listener stands."""
        self.findings[slug] = Finding(slug, port, health, labels or {}, 0, "test")  # type: ignore[arg-type]
        await self.survey()
        async with asyncio.timeout(20):
            while slug not in {offer.slug for offer in self.serving.offers()}:
                await self.tunnels.settle()
                await asyncio.sleep(0.01)

    async def withdraw(self, slug: str) -> None:
        del self.findings[slug]
        await self.survey()

    async def survey(self) -> None:
        self.serving.update(Survey(tuple(self.findings.values()), {}, time.monotonic()))
        await self.tunnels.settle()

    async def envelope(self, *, leaving: bool = False, offers: tuple[Offer, ...] | None = None) -> bytes:
        """Return what the node says now, signed."""
        self.sequence = max(self.sequence + 1, time.time_ns() // 1_000_000)
        manifest = Manifest(
            node=self.node_id,
            swarm=SWARM,
            sequence=self.sequence,
            ttl=90,
            alias=self.alias,
            version="0.1.0",
            offers=self.serving.offers() if offers is None else offers,
            labels={},
            capacity={},
            load=0,
            agents=(),
            digest=(),
            station={},
            leaving=leaving,
        )
        draft = Draft.of(manifest)
        return draft.sealed(await self.kubo.sign(draft.message))


@dataclass(eq=False)
class Consumer:
    """A node that uses what others offer. Its own services are in `local`."""

    kubo: Kubo
    node_id: str
    tunnels: Tunnels
    view: View
    forwards: Forwards
    local: dict[str, Finding] = field(default_factory=dict)

    async def hear(self, provider: Provider, *, leaving: bool = False, offers: tuple[Offer, ...] | None = None) -> None:
        """Take in what `provider` says now."""
        data = await provider.envelope(leaving=leaving, offers=offers)
        verdict = self.view.admit(
            data, carrier=provider.node_id, source="pubsub", heard_at=time.monotonic(), now_ms=time.time_ns() // 1_000_000
        )
        assert isinstance(verdict, Admitted), verdict


@asynccontextmanager
async def provider(
    kubo: Kubo,
    folder: Path,
    alias: str,
    *,
    members: set[str] | None = None,
    catalogue: Catalogue | None = None,
    is_kubo: IsKubo = lambda _: True,
) -> AsyncIterator[Provider]:
    node_id = (await kubo.identity()).node_id
    clock, known = SystemClock(), set() if members is None else members
    tunnels = Tunnels(kubo, folder / f"{alias}.json", clock)
    serving = Serving(
        node_id, tunnels, catalogue or CATALOGUE, lambda caller: members is None or caller in known, clock,
        GateSettings(), is_kubo=is_kubo,
    )  # fmt: skip
    keeping = asyncio.create_task(tunnels.run())
    try:
        yield Provider(kubo, node_id, alias, tunnels, serving, known)
    finally:
        await _cancelled(keeping)
        await serving.close()
        await tunnels.close()


@asynccontextmanager
async def consumer(
    kubo: Kubo,
    folder: Path,
    *,
    settings: ConnectSettings | None = None,
    seed: int = 1,
    routes: Mapping[RouteName, Route] | None = None,
    introduce: Introduce | None = None,
) -> AsyncIterator[Consumer]:
    node_id = (await kubo.identity()).node_id
    clock, rng = SystemClock(), random.Random(seed)
    tunnels = Tunnels(kubo, folder / "consumer.json", clock)
    view = View(node_id, SWARM, Policy(), {}, rng)
    local: dict[str, Finding] = {}
    forwards = Forwards(
        node_id, view, tunnels, kubo, load_catalogue(), clock, settings or ConnectSettings(), rng,
        local_survey=lambda: Survey(tuple(local.values()), {}, 0.0), routes=routes, introduce=introduce,
    )  # fmt: skip
    tasks = [asyncio.create_task(tunnels.run()), asyncio.create_task(forwards.run())]
    try:
        yield Consumer(kubo, node_id, tunnels, view, forwards, local)
    finally:
        for task in tasks:
            await _cancelled(task)
        await forwards.close()
        await tunnels.close()


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

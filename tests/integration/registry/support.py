"""Registries on real Kubo daemons: everything of the product but the node around it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from dragon.clock import SystemClock
from dragon.config import RegistrySettings
from dragon.connect import KuboOwner
from dragon.home import Home
from dragon.kubo.client import KuboClient
from dragon.kubo.tunnels import Tunnels
from dragon.registry.publisher import Description
from dragon.registry.service import Registry
from dragon.registry.verdict import Admitted
from dragon.registry.view import Policy, View
from dragon.store import Store
from registry_schema import Offer, make_offer
from tests.simulator.signers import Signer
from tests.testbed.kubo import KuboDaemon, until


class Station:
    """One registry, running; `offers` is what it offers."""

    def __init__(self, kubo: KuboClient, tunnels: Tunnels, view: View, store: Store, registry: Registry) -> None:
        self.kubo = kubo
        self.tunnels = tunnels
        self.view = view
        self.store = store
        self.registry = registry
        self.offers: tuple[Offer, ...] = ()
        self.clock = SystemClock()

        self.registry_ended = asyncio.Event()

    @property
    def id(self) -> str:
        return self.view.self_id

    def describe(self) -> Description:
        return Description(alias=f"station-{self.id[-6:]}", version="0.1.0", offers=self.offers)

    def offer(self, *slugs: str, **fields: object) -> None:
        self.offers = tuple(make_offer(slug, self.id, 1234, **fields) for slug in sorted(slugs))
        self.registry.announce()

    async def hold(self, envelopes: Iterable[bytes]) -> None:
        """Take these envelopes into the view, as if a peer had brought them."""
        for data in envelopes:
            at, wall = self.clock.monotonic(), self.clock.now_ms()
            verdict = self.view.admit(data, carrier="test", source="exchange", heard_at=at, now_ms=wall)
            assert isinstance(verdict, Admitted), verdict
            await asyncio.sleep(0)

    def state(self, node_id: str) -> str | None:
        node = self.view.node(node_id, self.clock.monotonic())
        return node.state if node else None

    def sees(self, node_id: str, *slugs: str) -> bool:
        """Tell whether that node is live here, with exactly these offers when any are named."""
        node = self.view.node(node_id, self.clock.monotonic())
        if node is None or node.state != "live":
            return False
        return not slugs or [offer.slug for offer in node.manifest.offers] == sorted(slugs)


def strangers(count: int, swarm: str, now_ms: int) -> list[bytes]:
    """Return envelopes of `count` nodes without a daemon that each offer ollama, said in the last second."""
    return [Signer(number + 1).envelope(now_ms - number % 1000, ["ollama"], swarm=swarm) for number in range(count)]


async def start(
    stack: AsyncExitStack, daemons: Sequence[KuboDaemon], folder: Path, swarm: str, policy: Policy | None = None
) -> list[Station]:
    """Run a station on each of these connected daemons, and wait until all see all."""
    stations = [
        await stack.enter_async_context(station(daemon, folder / f"home{number}", swarm=swarm, policy=policy))
        for number, daemon in enumerate(daemons)
    ]
    await until(lambda: all(one.sees(other.id) for one in stations for other in stations))
    return stations


@asynccontextmanager
async def station(
    daemon: KuboDaemon,
    folder: Path,
    *,
    swarm: str,
    join: Iterable[str] = (),
    ipns: bool = False,
    settings: RegistrySettings | None = None,
    policy: Policy | None = None,
) -> AsyncIterator[Station]:
    """Run one registry on `daemon` with its home in `folder`."""
    clock = SystemClock()
    home = Home(folder)
    home.prepare()
    async with KuboClient(daemon.api) as kubo, Store.open(home) as store:
        view = View(daemon.node_id, swarm, policy or Policy(), store.marks(swarm), random.Random())
        tunnels = Tunnels(kubo, home.tunnels_journal, clock)
        here: list[Station] = []
        registry = Registry(
            kubo,
            tunnels,
            view,
            store,
            settings or RegistrySettings(),
            clock,
            lambda: here[0].describe(),
            join=join,
            ipns=ipns,
            is_kubo=KuboOwner(lambda: kubo.address.port),
        )
        here.append(Station(kubo, tunnels, view, store, registry))
        tasks = [asyncio.create_task(tunnels.run()), asyncio.create_task(registry.run())]
        tasks[1].add_done_callback(lambda _: here[0].registry_ended.set())
        try:
            yield here[0]
        finally:
            for task in tasks:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            await tunnels.close()
            for result in results:
                if isinstance(result, Exception):
                    raise result

"""Providers and one consumer on real Kubo daemons and real services: the world of this room's integration tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from dragon.config import ConnectSettings
from dragon.connect import ForwardInfo, KuboOwner
from dragon.kubo.client import KuboClient
from dragon.kubo.types import tcp_port
from tests.testbed.kubo import KuboDaemon
from tests.testbed.services import RunningService, start_service
from tests.unit.connect import swarm

Kubos = tuple[KuboDaemon, KuboDaemon, KuboDaemon]
MakeKubo = Callable[..., KuboDaemon]


def kubo_owner(daemon: KuboDaemon) -> KuboOwner:
    return KuboOwner(lambda: tcp_port(daemon.api))


class World:
    """Providers and one consumer on real daemons, each provider with a service in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stack = AsyncExitStack()
        self.providers: list[swarm.Provider] = []
        self.services: list[RunningService] = []
        self.daemons: list[KuboDaemon] = []
        self.me: swarm.Consumer

    async def client(self, daemon: KuboDaemon) -> KuboClient:
        return await self.stack.enter_async_context(KuboClient(daemon.api))

    async def consume(self, daemon: KuboDaemon, settings: ConnectSettings | None = None) -> swarm.Consumer:
        self.me = await self.stack.enter_async_context(
            swarm.consumer(await self.client(daemon), self.folder, settings=settings)
        )
        return self.me

    async def provide(
        self,
        daemon: KuboDaemon,
        alias: str,
        *,
        members: set[str] | None = None,
        slug: str = "ollama",
        kind: str = "http",
        **options: object,
    ) -> swarm.Provider:
        """Start a service of `kind` and a provider that offers it, and let the consumer hear of it."""
        service = self.stack.enter_context(start_service(kind, home=self.folder, name=alias, **options))  # type: ignore[arg-type]
        self.services.append(service)
        return await self.provide_port(daemon, alias, service.port, members=members, slug=slug)

    async def provide_port(
        self, daemon: KuboDaemon, alias: str, port: int, *, members: set[str] | None = None, slug: str = "ollama"
    ) -> swarm.Provider:
        """The same with a service that runs already."""
        provider = await self.stack.enter_async_context(
            swarm.provider(await self.client(daemon), self.folder, alias, members=members, is_kubo=kubo_owner(daemon))
        )
        await provider.offer(slug, port)
        await self.me.hear(provider)
        self.providers.append(provider)
        self.daemons.append(daemon)
        return provider

    def of(self, node_id: str) -> int:
        """Return the number of a provider: its place in `providers`, `services` and `daemons`."""
        return next(number for number, each in enumerate(self.providers) if each.node_id == node_id)

    @property
    def info(self) -> ForwardInfo:
        """The one open forward."""
        (info,) = self.me.forwards.list()
        return info

    async def no_streams(self) -> bool:
        """Tell whether no connection of ours runs through any of the engines, whoever else uses them."""
        for each in (self.me.kubo, *(provider.kubo for provider in self.providers)):
            if await each.p2p_streams():
                return False
        return True

    async def legs(self) -> list[int | None]:
        return [entry.leg_port for entry in await self.me.kubo.p2p_ls() if not entry.is_listener]

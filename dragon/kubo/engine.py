"""The engine as the settings ask for it: a daemon of our own, or one that exists."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from dragon.clock import Clock
from dragon.config import Settings
from dragon.errors import KuboError, KuboUnreachable
from dragon.home import Home
from dragon.kubo.binary import check, find_or_install
from dragon.kubo.checks import require
from dragon.kubo.client import KuboClient
from dragon.kubo.daemon import ManagedDaemon
from dragon.kubo.progress import Progress
from dragon.kubo.types import Identity, tcp_port


@dataclass(frozen=True, slots=True)
class Engine:
    """What a node runs on. `managed` is None for an existing daemon; `own_ports` are Kubo's own (API, gateway, libp2p):
    never listened towards, never offered."""

    kubo: KuboClient
    identity: Identity
    managed: ManagedDaemon | None
    own_ports: frozenset[int]


@asynccontextmanager
async def open_kubo(
    settings: Settings, home: Home, *, clock: Clock | None = None, progress: Progress | None = None
) -> AsyncIterator[Engine]:
    """Give a daemon that has all that a node needs; leave it as it was (existing) or stop it (ours).

    Raises `KuboMissing`, `KuboUnreachable`, `KuboRefused` or `KuboUnfit`, each with what to do.
    """
    kubo = settings.kubo
    async with AsyncExitStack() as stack:
        managed: ManagedDaemon | None = None
        if is_managed(settings):
            if kubo.binary:
                binary = await asyncio.to_thread(check, kubo.binary)
            else:
                binary = await asyncio.to_thread(find_or_install, home, progress=progress)
            managed = ManagedDaemon(home, binary, isolated=settings.node.isolated, swarm_key=kubo.swarm_key, clock=clock)
            await stack.enter_async_context(managed)
            api = managed.api
        else:
            api = existing_api(settings)
        client = await stack.enter_async_context(KuboClient(api, None if managed else kubo.auth, clock=clock))
        if managed:
            managed.before_stop.append(client.close)  # open subscriptions would hold its end up for 30 s
        else:
            await require(client)
        yield Engine(client, await client.identity(), managed, await own_ports(client))


def is_managed(settings: Settings) -> bool:
    """Tell whether the settings ask for a daemon of our own: naming an API or a repo means an existing one."""
    return settings.kubo.managed and settings.kubo.api is None and settings.kubo.repo is None


def existing_repo(settings: Settings) -> Path:
    """Return the repo of the existing daemon: `[kubo] repo`, `IPFS_PATH`, `~/.ipfs`."""
    return Path(settings.kubo.repo or os.environ.get("IPFS_PATH") or "~/.ipfs").expanduser()


def existing_api(settings: Settings) -> str:
    """Return the API address of the existing daemon: `[kubo] api`, else what its repo says. Raises `KuboUnreachable`."""
    if settings.kubo.api:
        return settings.kubo.api
    repo = existing_repo(settings)
    try:
        return (repo / "api").read_text().strip()  # a running daemon writes where it really listens
    except OSError:
        pass
    try:
        address = json.loads((repo / "config").read_bytes())["Addresses"]["API"]
    except (OSError, ValueError, KeyError, TypeError):
        raise KuboUnreachable(
            f"{repo} is no Kubo repo",
            "set [kubo] api, or IPFS_PATH to the daemon's repo; or [kubo] managed = true for a daemon of Dragon's own",
        ) from None
    return str(address[0] if isinstance(address, list) else address)


async def own_ports(client: KuboClient) -> frozenset[int]:
    """Return the local TCP ports of the daemon itself, as far as it tells."""
    ports = {client.address.port}
    try:
        addresses = (await (await client.administration()).config()).get("Addresses", {})
        for named in ("API", "Gateway", "Swarm"):
            value = addresses.get(named) or ()
            ports.update(_port(each) for each in ([value] if isinstance(value, str) else value))
        ports.update(_port(each) for each in (await client.identity()).addresses)
    except KuboError:  # an API secret may not allow reading the config: its API port is known anyway
        pass
    return frozenset(_positive(ports))


def _port(address: str) -> int | None:
    """The TCP port that a multiaddr begins with (`/ip4/…/tcp/4001/p2p/…` too)."""
    return tcp_port("/".join(address.split("/")[:5]))


def _positive(ports: Iterable[int | None]) -> Iterable[int]:
    return (port for port in ports if port)

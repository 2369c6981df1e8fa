"""Routes: ways from here to a provider's service, each as something that can be dialled.

A route gives connected sockets; what is said over them is not its business. `local` is a service of this machine, `p2p` a Kubo
leg; the SSH routes are in `ssh`. A cascade names only what is set up.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from dragon.connect.relay import tune
from dragon.errors import KuboRefused, LocalError, PeerUnreachable, UsageError
from registry_schema.labels import labels_match
from registry_schema.manifest import protocol_name

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.kubo.tunnels import Leg, Tunnels
    from dragon.probe import Survey

RouteName = Literal["local", "ssh6", "ssh4", "p2p"]

CASCADES: Mapping[str, tuple[RouteName, ...]] = {
    "dual": ("local", "ssh6", "ssh4", "p2p"),
    "p2p-first": ("local", "p2p", "ssh6", "ssh4"),
    "production": ("p2p",),
}
"""The presets of DESIGN §6, in the order in which routes are tried."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A machine that a route leads to by itself; `id` stands where a node id does (`ssh6:user@host:22`)."""

    id: str
    name: str


class Route(Protocol):
    """One way. `half_close`: whether an end-of-file in one direction leaves the other open."""

    @property
    def name(self) -> RouteName: ...

    @property
    def half_close(self) -> bool: ...

    def destinations(self, slug: str) -> tuple[Destination, ...] | None:
        """Return where it leads for `slug` by itself; None: to the nodes of the view."""
        ...

    async def open(self, node_id: str, slug: str) -> int:
        """Return a port on 127.0.0.1 that leads to the service, made if there is none yet. Raises `PeerUnreachable`."""
        ...

    async def dial(self, node_id: str, slug: str) -> socket.socket:
        """Return a fresh, tuned connection. The other side may still end it at once. Raises `PeerUnreachable`.

        It counts as use until `hung_up` is called for it, once.
        """
        ...

    def hung_up(self, node_id: str, slug: str, connection: socket.socket) -> None: ...

    async def drop(self, node_id: str) -> None:
        """Close what leads to a node that is gone."""
        ...

    async def close_idle(self, before: float) -> int:
        """Close what nobody has used since `before` (monotonic seconds); return how many."""
        ...

    async def close(self) -> None: ...


async def connect_loopback(port: int) -> socket.socket:
    """Return a tuned connection to a port of this machine; raises `OSError`, and `LocalError` when we may open no more."""
    try:
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:  # ours, not the provider's: it must not cost them anything
        raise LocalError(
            f"no socket left: {error.strerror}", "raise the limit of open files (ulimit -n, LimitNOFILE=)"
        ) from error
    try:
        tune(connection)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except BaseException:
        connection.close()
        raise
    return connection


class LocalRoute:
    """A service of this very machine, found by the last survey."""

    name: RouteName = "local"
    half_close = True

    def __init__(self, survey: Callable[[], Survey]) -> None:
        self._survey = survey

    def port(self, slug: str, where: Mapping[str, str] | None = None) -> int | None:
        """Return where the service answers here, None when it does not run or lacks a label of `where`."""
        for each in self._survey().found:
            if each.slug == slug and each.health != "critical" and labels_match(each.labels, where):
                return each.port
        return None

    def destinations(self, slug: str) -> None:
        return None

    async def open(self, node_id: str, slug: str) -> int:
        port = self.port(slug)
        if port is None:
            raise PeerUnreachable(f"{slug} does not run here any more")
        return port

    async def dial(self, node_id: str, slug: str) -> socket.socket:
        try:
            return await connect_loopback(await self.open(node_id, slug))
        except OSError as error:
            raise PeerUnreachable(f"{slug} here: {error.strerror or error}") from error

    def hung_up(self, node_id: str, slug: str, connection: socket.socket) -> None:
        """Nothing is held for it."""

    async def drop(self, node_id: str) -> None:
        """Nothing is held for it."""

    async def close_idle(self, before: float) -> int:
        return 0

    async def close(self) -> None:
        """Nothing is held for it."""


@dataclass(slots=True, eq=False)
class _HeldLeg:
    """A leg with its users. `opening` is awaited by all who want it while it is being opened."""

    opening: asyncio.Task[Leg]
    users: int = 0
    used_at: float = 0.0


class P2PRoute:
    """Kubo legs, one per provider and service, shared by all forwards and kept warm until idle."""

    name: RouteName = "p2p"
    half_close = False

    def __init__(self, tunnels: Tunnels, clock: Clock, *, dial_timeout: float) -> None:
        self._tunnels = tunnels
        self._clock = clock
        self._dial_timeout = dial_timeout
        self._legs: dict[tuple[str, str], _HeldLeg] = {}

    @property
    def legs(self) -> int:
        return len(self._legs)

    def destinations(self, slug: str) -> None:
        return None

    async def open(self, node_id: str, slug: str) -> int:
        return (await self._leg(node_id, slug)).port

    async def dial(self, node_id: str, slug: str) -> socket.socket:
        leg = await self._leg(node_id, slug)
        try:
            connection = await connect_loopback(leg.port)
        except OSError as error:  # Kubo is gone or was told to close everything; the reconcile will open it again
            raise PeerUnreachable(f"the leg to {node_id}: {error.strerror or error}") from error
        held = self._legs.get((node_id, slug))
        if held is None:  # closed meanwhile
            connection.close()
            raise PeerUnreachable(f"the leg to {node_id} was closed")
        held.users += 1
        return connection

    def hung_up(self, node_id: str, slug: str, connection: socket.socket) -> None:
        held = self._legs.get((node_id, slug))
        if held is not None:
            held.users = max(held.users - 1, 0)  # a leg that was dropped and opened again starts from none
            held.used_at = self._clock.monotonic()

    async def drop(self, node_id: str) -> None:
        for key in [key for key in self._legs if key[0] == node_id]:
            await self._close(key)

    async def close_idle(self, before: float) -> int:
        idle = [key for key, held in self._legs.items() if held.users == 0 and held.used_at < before and held.opening.done()]
        for key in idle:
            await self._close(key)
        return len(idle)

    async def close(self) -> None:
        for key in list(self._legs):
            await self._close(key)

    async def _leg(self, node_id: str, slug: str) -> Leg:
        key = (node_id, slug)
        held = self._legs.get(key)
        if held is None:
            opening = asyncio.create_task(self._tunnels.open_leg(protocol_name(slug, node_id), node_id))
            held = self._legs[key] = _HeldLeg(opening)
        held.used_at = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._dial_timeout):
                return await asyncio.shield(held.opening)  # shared: one caller that gives up must not take it from the rest
        except (KuboRefused, TimeoutError) as error:
            if self._legs.get(key) is held:
                await self._close(key)
            raise PeerUnreachable(f"no leg to {node_id}: {error or 'Kubo did not open it in time'}") from error
        except BaseException:
            if held.opening.done() and self._legs.get(key) is held and not _opened(held.opening):
                del self._legs[key]
            raise

    async def _close(self, key: tuple[str, str]) -> None:
        held = self._legs.pop(key, None)
        if held is None:
            return
        if not held.opening.done():
            held.opening.cancel()
        await asyncio.wait([held.opening])
        if _opened(held.opening):
            await self._tunnels.close_leg(held.opening.result())


def _opened(opening: asyncio.Task[Leg]) -> bool:
    return opening.done() and not opening.cancelled() and opening.exception() is None


def cascade(preset: str, routes: Mapping[RouteName, Route], allowed: tuple[str, ...], via: str | None) -> list[Route]:
    """Return the routes to try in order: those of `preset` that are set up and that the catalogue entry allows.

    `via` forces one of them. Raises `UsageError` when that one is unknown, not set up, or not allowed for the service.
    """
    order = CASCADES[preset]
    if via is None:
        return [routes[name] for name in order if name in routes and name in allowed]
    name = via.strip().lower()
    known = {each: each for each in CASCADES["dual"]}
    if name not in known:
        raise UsageError(f"no route is called {via!r}", f"routes are {', '.join(known)}")
    if known[name] not in routes:
        hint = "set `host` under [ssh] in config.toml, or SWARM_REMOTE_HOST" if name.startswith("ssh") else "leave --via out"
        raise UsageError(f"route {name} is not set up: no host is configured for it", hint)
    if name not in allowed:
        raise UsageError(f"the catalogue does not allow route {name} for this service", f"it allows {', '.join(allowed)}")
    return [routes[known[name]]]

"""The routes `ssh6` and `ssh4`: a host that somebody named, by SSH over IPv6 (port 22) or IPv4 (port 2122, as stations do).

They lead to that host, not to nodes of the view, so each brings its own candidate: `ssh6:user@host:22`. One login is shared by
all services on a host, opened when first used and closed when idle.
"""

from __future__ import annotations

import asyncio
import getpass
import importlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dragon.config import SshSettings
from dragon.connect.routes import Destination, Route, RouteName
from dragon.connect.ssh_hosts import SshHost, SshHosts
from dragon.errors import PeerUnreachable, SshRefused

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.connect.ssh_link import SshLink

REFUSED_FOR = 2.0
"""Seconds for which a host that refused us is not asked again: a busy client must not look like somebody who guesses keys."""

SshRouteName = Literal["ssh6", "ssh4"]


@dataclass(slots=True, eq=False)
class _Login:
    """A login with its users. `opening` is awaited by all who want it while it is being opened."""

    opening: asyncio.Task[SshLink]
    used_at: float

    @property
    def link(self) -> SshLink | None:
        done = self.opening.done() and not self.opening.cancelled() and self.opening.exception() is None
        return self.opening.result() if done else None


class SshRoute:
    """See `dragon.connect.routes.Route`. `port_of` is the catalogue's word on where a service listens."""

    half_close = True

    def __init__(
        self,
        name: SshRouteName,
        hosts: SshHosts,
        settings: SshSettings,
        *,
        port_of: Callable[[str], int | None],
        own_file: Path,
        clock: Clock,
        dial_timeout: float,
    ) -> None:
        self.name: RouteName = name
        self._family = socket.AF_INET6 if name == "ssh6" else socket.AF_INET
        self._hosts = hosts
        self._settings = settings
        self._port_of = port_of
        self._own_file = own_file
        self._clock = clock
        self._dial_timeout = dial_timeout
        self._logins: dict[tuple[str, int, str], _Login] = {}
        self._dialled: dict[socket.socket, _Login] = {}
        self._refused: dict[tuple[str, int, str], tuple[float, SshRefused]] = {}

    @property
    def logins(self) -> int:
        return len(self._logins)

    def destinations(self, slug: str) -> tuple[Destination, ...]:
        host = self._host(slug)
        return () if host is None else (Destination(self._id(host), host.host),)

    async def open(self, node_id: str, slug: str) -> int:
        """Return a port here that leads to the service there; the host was asked whether something listens."""
        host = self._known(node_id, slug)
        async with _within(self._dial_timeout, node_id):
            login = await self._login(host)
            link = login.opening.result()
            probe = await link.dial(host.service_port)
            probe.close()
            link.hung_up(probe)
            return link.listen(host.service_port)

    async def dial(self, node_id: str, slug: str) -> socket.socket:
        host = self._known(node_id, slug)
        async with _within(self._dial_timeout, node_id):
            login = await self._login(host)
            connection = await login.opening.result().dial(host.service_port)
        self._dialled[connection] = login
        return connection

    def hung_up(self, node_id: str, slug: str, connection: socket.socket) -> None:
        login = self._dialled.pop(connection, None)
        if login is not None:
            login.used_at = self._clock.monotonic()
            if login.link is not None:
                login.link.hung_up(connection)

    async def drop(self, node_id: str) -> None:
        for key in [key for key in self._logins if self._id_of(*key) == node_id]:
            await self._close(key)

    async def close_idle(self, before: float) -> int:
        idle = [
            key
            for key, login in self._logins.items()
            if (link := login.link) is not None and (not link.is_open or (not link.channels and login.used_at < before))
        ]
        for key in idle:
            await self._close(key)
        return len(idle)

    async def close(self) -> None:
        for key in list(self._logins):
            await self._close(key)

    def _host(self, slug: str) -> SshHost | None:
        """Return the host of `slug` unless its address is of the other family."""
        host = self._hosts.of(slug, self._port_of(slug))
        if host is None or _literal_family(host.host) not in (None, self._family):
            return None
        return host

    def _key(self, host: SshHost) -> tuple[str, int, str]:
        return host.host, host.port6 if self.name == "ssh6" else host.port4, host.user

    def _id(self, host: SshHost) -> str:
        return self._id_of(*self._key(host))

    def _id_of(self, host: str, port: int, user: str) -> str:
        return f"{self.name}:{user}@{f'[{host}]' if ':' in host else host}:{port}"

    def _known(self, node_id: str, slug: str) -> SshHost:
        host = self._host(slug)
        if host is None or self._id(host) != node_id:
            raise PeerUnreachable(f"{node_id} is no host of {slug} any more")
        return host

    async def _login(self, host: SshHost) -> _Login:
        key = self._key(host)
        login = self._logins.get(key)
        if login is not None and login.link is not None and not login.link.is_open:
            await self._close(key)
            login = self._logins.get(key)
        at, refusal = self._refused.get(key, (float("-inf"), None))
        if refusal is not None and self._clock.monotonic() < at + REFUSED_FOR:
            raise SshRefused(str(refusal), refusal.hint)
        if login is None:
            opening = asyncio.create_task(self._open(*key))
            login = self._logins[key] = _Login(opening, self._clock.monotonic())
            opening.add_done_callback(lambda done: self._opened(key, done))
        login.used_at = self._clock.monotonic()
        await asyncio.shield(login.opening)  # shared: one caller that gives up must not take it from the rest
        return login

    async def _open(self, host: str, port: int, user: str) -> SshLink:
        await asyncio.to_thread(importlib.import_module, "dragon.connect.ssh_link")  # a quarter of a second, and 16 MB
        from dragon.connect.ssh_link import Address, log_in

        async with _within(self._dial_timeout, f"{user}@{host} port {port}"):
            return await log_in(Address(host, port, user, self._family), self._settings, self._own_file)

    def _opened(self, key: tuple[str, int, str], opening: asyncio.Task[SshLink]) -> None:
        error = None if opening.cancelled() else opening.exception()
        self._refused.pop(key, None)
        if isinstance(error, SshRefused):
            self._refused[key] = (self._clock.monotonic(), error)
        login = self._logins.get(key)
        if (error is not None or opening.cancelled()) and login is not None and login.opening is opening:
            del self._logins[key]

    async def _close(self, key: tuple[str, int, str]) -> None:
        login = self._logins.pop(key, None)
        if login is None:
            return
        login.opening.cancel()
        await asyncio.wait([login.opening])
        if login.link is not None:
            await login.link.close()


def ssh_routes(
    settings: SshSettings,
    variables: Mapping[str, str],
    *,
    port_of: Callable[[str], int | None],
    own_file: Path,
    clock: Clock,
    dial_timeout: float,
) -> dict[RouteName, Route]:
    """Return both routes, or none where no host is named. `variables`: what a station's environment says (`ssh_hosts`)."""
    hosts = SshHosts(settings, variables, getpass.getuser())
    if not hosts.any:
        return {}
    names: tuple[SshRouteName, ...] = ("ssh6", "ssh4")
    return {
        name: SshRoute(
            name, hosts, settings, port_of=port_of, own_file=own_file, clock=clock, dial_timeout=dial_timeout
        )
        for name in names
    }  # fmt: skip


@asynccontextmanager
async def _within(seconds: float, who: str) -> AsyncIterator[None]:
    """A time limit whose passing is the host's failure."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as late:
        raise PeerUnreachable(f"{who} did not answer within {seconds:g} s") from late


def _literal_family(host: str) -> socket.AddressFamily | None:
    """Return the family of an IP address, None for a name."""
    try:
        version = ipaddress.ip_address(host).version
    except ValueError:
        return None
    return socket.AF_INET6 if version == 6 else socket.AF_INET

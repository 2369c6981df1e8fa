"""A way to a relay at its published address, for hosts that the operator listed: resolved, checked, and dialled as checked.

The name is resolved once, here; the address that was found public is the one that is connected to, so that no second answer of
a name server can lead the sync into this machine's own network. The sync itself only ever talks to a loopback port: behind it
stands this door, which adds TLS and the relay's own name. THREATS: DESIGN §7, rule 2.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from dragon.errors import PeerUnreachable

HEAD = 16 * 1024
"""Bytes of a request's head that are read before it is sent on: aiohttp's has some 300."""

CHUNK = 64 * 1024

CONNECT = 10.0
"""Seconds for the relay's host to accept, TLS included."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_HOST_LINE = re.compile(rb"(?im)^host:[^\r\n]*")

Resolve = Callable[[str, int], Sequence[str]]
"""`(host, port) -> addresses`; blocks."""


@dataclass(frozen=True, slots=True)
class Published:
    """A relay's published URL, taken apart."""

    host: str
    port: int
    tls: bool
    path: str


def published(url: str, hosts: Collection[str]) -> Published | None:
    """Return what `url` leads to when its host is one of `hosts`; None for any other, and for what is no relay's URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme not in ("ws", "wss") or not host or parts.username is not None or not url.isprintable():
        return None
    if host not in {name.rstrip(".").lower() for name in hosts}:
        return None
    tls = parts.scheme == "wss"
    return Published(host, port or (443 if tls else 80), tls, parts.path or "/")


def is_public(address: str) -> bool:
    """Whether `address` lies in the public internet, also by the IPv4 address that some IPv6 ones carry within them."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(each is not None and not is_public(str(each)) for each in (ip.sixtofour, *(ip.teredo or ()))):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of `host`. Raises `OSError`."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


async def checked_address(relay: Published, lookup: Resolve = resolve) -> str:
    """Return a public address of the relay's host. Raises `PeerUnreachable` when there is none, or a private one among them."""
    try:
        addresses = await asyncio.wait_for(asyncio.to_thread(lookup, relay.host, relay.port), CONNECT)
    except (OSError, TimeoutError, UnicodeError) as error:
        raise PeerUnreachable(f"{relay.host} has no address: {error or 'no answer'}") from None
    private = [address for address in addresses if not is_public(address)]
    if private or not addresses:
        raise PeerUnreachable(f"{relay.host} leads to {', '.join(private) or 'nowhere'}: not a public address")
    return addresses[0]


class Door:
    """A loopback port that leads to one published relay; `open` returns its URL, `close` ends it with its connections."""

    def __init__(self, relay: Published, lookup: Resolve = resolve, tls: ssl.SSLContext | None = None) -> None:
        self._relay = relay
        self._lookup = lookup
        self._tls = tls
        self._address = ""
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> str:
        """Return the ws:// URL of our end. Raises `PeerUnreachable`."""
        if self._server is None:
            self._address = await checked_address(self._relay, self._lookup)
            self._server = await asyncio.start_server(self._enter, "127.0.0.1", 0)
        return f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{self._relay.path}"

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            with suppress(OSError, ssl.SSLError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._lead(reader, writer)
                writer.close()
                await writer.wait_closed()
        finally:
            writer.transport.abort()

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        context = (self._tls or await asyncio.to_thread(ssl.create_default_context)) if self._relay.tls else None
        async with asyncio.timeout(CONNECT):
            head = await reader.readuntil(b"\r\n\r\n")
            far_reader, far_writer = await asyncio.open_connection(
                self._address, self._relay.port, ssl=context, server_hostname=self._relay.host if context else None
            )
        try:
            host = self._relay.host if self._relay.port in (80, 443) else f"{self._relay.host}:{self._relay.port}"
            far_writer.write(_HOST_LINE.sub(f"Host: {host}".encode(), head[:HEAD], count=1))
            ways = [asyncio.ensure_future(_copy(reader, far_writer)), asyncio.ensure_future(_copy(far_reader, writer))]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            far_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()

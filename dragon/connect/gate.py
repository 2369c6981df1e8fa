"""The gate before one offered service: who calls, may they, then the splice; or the door at once (THREATS 13, 14).

Kubo leads callers here with `report-peer-id`: it writes the caller's node id and a newline before the caller's first byte. A
refused caller is closed before the service hears of it, and not one byte of the service reaches them.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from dragon.clock import Clock
from dragon.connect.caller import IsKubo
from dragon.connect.entrance import Entrance
from dragon.connect.joining import make_relay
from dragon.connect.ports import BACKLOG, HOST
from dragon.connect.relay import Relay, reset
from dragon.connect.routes import connect_loopback
from dragon.errors import LocalError
from registry_schema.ids import is_node_id

log = logging.getLogger(__name__)

MAX_LINE = 64
"""Bytes of a peer-id line with its newline: ids of both kinds have 46 to 52 characters."""

LINE_TIMEOUT = 5.0
"""Seconds for the line, which Kubo writes in the same breath as it connects."""

LOG_SPACING = 10.0
"""Seconds between two log lines about one reason: a flood of callers must not become a flood of lines."""

CALLERS_COUNTED = 1024
"""Callers whose figures are kept; strangers could otherwise fill the memory by calling."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Connections at once. Beyond them a caller is closed at once, never queued."""

    per_caller: int = 128
    """A browser opens six, a busy program dozens."""
    total: int = 1024
    """For all services together: at two descriptors each, well below what a process may open."""


@dataclass(slots=True)
class Tally:
    """What one caller used since the start. Bytes are the caller's: sent to the service, received from it."""

    connections: int = 0
    open: int = 0
    sent: int = 0
    received: int = 0


@dataclass(slots=True)
class Book:
    """The counts of all gates of a node together, since limits and load are the node's."""

    open: int = 0
    callers: dict[str, Tally] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    def of(self, caller: str) -> Tally:
        tally = self.callers.pop(caller, None) or Tally()
        self.callers[caller] = tally  # to the end: the order is that of use
        if len(self.callers) > CALLERS_COUNTED:
            idle = next((each for each, count in self.callers.items() if not count.open), None)
            if idle is not None and idle != caller:
                del self.callers[idle]
        return tally


@dataclass(slots=True, eq=False)
class _Visit:
    """One admitted caller at the service."""

    caller: str
    relay: Relay | None = None


class Gate:
    """Listens on a free port of 127.0.0.1 and leads who may on to `port`. `admits` is asked with each caller's node id."""

    def __init__(
        self,
        slug: str,
        port: int,
        admits: Callable[[str], bool],
        *,
        is_kubo: IsKubo,
        limits: Limits,
        book: Book,
        clock: Clock,
        line_timeout: float = LINE_TIMEOUT,
    ) -> None:
        self.slug = slug
        self.target = port
        self._admits = admits
        self._is_kubo = is_kubo
        self._limits = limits
        self._book = book
        self._clock = clock
        self._line_timeout = line_timeout
        self._loop = asyncio.get_running_loop()
        self._visits: set[_Visit] = set()
        self._logged: dict[str, float] = {}
        listener = socket.create_server((HOST, 0), backlog=BACKLOG)
        listener.setblocking(False)
        self.port = int(listener.getsockname()[1])
        self._entrance = Entrance(listener, self._came, lambda _: self._refuse("out of descriptors", ""), slug)

    @property
    def visitors(self) -> int:
        return len(self._visits)

    def running(self) -> list[tuple[str, int, int]]:
        """Return (caller, bytes sent by them, bytes received) of each connection that is open now."""
        return [(visit.caller, visit.relay.received, visit.relay.sent) for visit in self._visits if visit.relay is not None]

    def recheck(self) -> int:
        """End the connections of callers who may no longer be here; return how many."""
        ended = 0
        for visit in list(self._visits):
            if visit.relay is not None and not self._admits(visit.caller):
                visit.relay.abort("no longer admitted")
                ended += 1
        return ended

    async def close(self) -> None:
        """Close the door and end every connection."""
        self._entrance.close()
        for visit in list(self._visits):
            if visit.relay is not None:
                visit.relay.abort("withdrawn")
        arrivals = list(self._entrance.tasks)
        for arrival in arrivals:
            arrival.cancel()
        await asyncio.gather(*arrivals, return_exceptions=True)

    # -- arriving -----------------------------------------------------------------------------------------------------

    def _came(self, connection: socket.socket) -> Coroutine[Any, Any, None] | None:
        if self._book.open + len(self._entrance.tasks) >= self._limits.total:
            self._refuse("overload", "")
            return None
        return self._receive(connection)

    async def _receive(self, connection: socket.socket) -> None:
        let_in = False
        try:
            let_in = await self._let_in(connection)
        finally:
            if not let_in:
                reset(connection)

    async def _let_in(self, connection: socket.socket) -> bool:
        """Decide on one caller and lead them on; return whether a relay took the connection over."""
        if not self._is_kubo(connection):
            return self._refuse("not Kubo", "a local process")
        try:
            async with asyncio.timeout(self._line_timeout):
                caller = await read_caller(connection)
        except TimeoutError:
            return self._refuse("no peer id in time", "")
        except OSError:
            return self._refuse("gone at once", "")
        if caller is None:
            return self._refuse("malformed peer id", "")
        if not self._admits(caller):
            return self._refuse("not admitted", caller)
        tally = self._book.of(caller)
        if tally.open >= self._limits.per_caller:
            return self._refuse("too many connections", caller)
        if self._book.open >= self._limits.total:
            return self._refuse("overload", caller)
        return await self._lead_on(connection, caller, tally)

    async def _lead_on(self, connection: socket.socket, caller: str, tally: Tally) -> bool:
        visit = _Visit(caller)
        self._visits.add(visit)
        self._book.open += 1
        tally.open += 1
        tally.connections += 1

        def left(relay: Relay | None) -> None:
            self._visits.discard(visit)
            self._book.open -= 1
            tally.open -= 1
            if relay is not None:  # near is the service: what it receives the caller sent
                tally.sent += relay.received
                tally.received += relay.sent

        try:
            service = await connect_loopback(self.target)
        except OSError:
            left(None)
            return self._refuse("service does not answer", caller)
        except LocalError:
            left(None)
            return self._refuse("out of descriptors", caller)
        except BaseException:
            left(None)
            raise
        if not self._admits(caller):  # revoked in this very moment
            service.close()
            left(None)
            return self._refuse("not admitted", caller)
        visit.relay = make_relay(service, connection, loop=self._loop, on_end=left)
        visit.relay.start()
        return True

    def _refuse(self, reason: str, caller: str) -> bool:
        self._book.refused[reason] += 1
        now = self._clock.monotonic()
        if now - self._logged.get(reason, float("-inf")) >= LOG_SPACING:
            self._logged[reason] = now
            log.info(
                "%s: refused%s: %s (%d so far)", self.slug, f" {caller}" if caller else "", reason, self._book.refused[reason]
            )
        return False


async def read_caller(connection: socket.socket) -> str | None:
    """Return the node id of the line that Kubo writes first, None when it is not one. Consumes nothing beyond the newline.

    Raises `OSError` when the connection ends or breaks before.
    """
    loop = asyncio.get_running_loop()
    line = b""
    while True:
        seen = await _peek(loop, connection, MAX_LINE - len(line))
        if not seen:
            raise ConnectionResetError("ended before its first line")
        end = seen.find(b"\n")
        line += connection.recv(len(seen) if end < 0 else end + 1)
        if end >= 0:
            break
        if len(line) >= MAX_LINE:
            return None
    try:
        caller = line[:-1].decode("ascii")
    except UnicodeDecodeError:
        return None
    return caller if is_node_id(caller) else None


async def _peek(loop: asyncio.AbstractEventLoop, connection: socket.socket, size: int) -> bytes:
    """Return what lies ready, at most `size` bytes, without taking it; b"" at the end."""
    while True:
        try:
            return connection.recv(size, socket.MSG_PEEK)
        except BlockingIOError:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_reader(connection, _set, ready)
            try:
                await ready
            finally:
                loop.remove_reader(connection)


def _set(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)

"""The public beacon on port 12345, served where Dragon stands in for `_12345.sh`. Source: ASTROPORT facts 2.6.

Every path answers with the station's 12345.json, and that is all of it: nothing is read but a request's head, nothing is
written but that document, and nothing a visitor says leads to a file. `GET /?<G1PUB>=<node id>` (UPSYNC) asks to be read soon,
granted when the key shows that the id is the asker's own and there is room in the queue.

The originals append a line of text to the JSON body after an UPSYNC (D32); here the body is always one JSON document.

A server of its own, on plain streams: anybody may come here, so each visitor gets one answer within bounds of size and time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from dragon.astroport.g1 import node_id_of
from dragon.clock import Clock
from dragon.errors import DragonError

log = logging.getLogger(__name__)

MAX_HEAD: Final = 8192
"""Bytes of a request's head: browsers send one or two thousand."""

PATIENCE: Final = 5.0
"""Seconds for a visitor to ask and to take the answer: the document is some kilobytes."""

VISITORS: Final = 64
"""Served at once; whoever comes beyond is closed without a word. A station gets some hundred requests a day."""

QUEUE: Final = 64
"""Nodes that wait to be read: who comes when it is full asks again at its next beat, as after a refusal of the originals."""

READ_PAUSE: Final = 15.0
"""Seconds between two readings: twenty in five minutes, what the originals allow."""

EVERYWHERE: Final = "0.0.0.0"  # noqa: S104 - public on purpose, over IPv4 as the originals are
"""Where it listens."""

RETRY: Final = 30.0
"""Seconds until a port that was taken is tried again."""

_HEADERS = (
    "Access-Control-Allow-Origin: *\r\n"
    "Access-Control-Allow-Credentials: true\r\n"
    "Access-Control-Allow-Methods: GET\r\n"
    "Server: Astroport.ONE\r\n"
    "Content-Type: application/json; charset=UTF-8\r\n"
    "Connection: close\r\n"
)


class HttpBeacon:
    """`run` serves `document()` on `port` of every address, and has nodes that asked for it read by `read`, one by one."""

    def __init__(
        self,
        port: int,
        document: Callable[[], bytes],
        read: Callable[[str], Awaitable[object]],
        clock: Clock,
        *,
        own_id: str,
        host: str = EVERYWHERE,
    ) -> None:
        """`document` blocks: it is asked in a thread."""
        self._document = document
        self._read = read
        self._clock = clock
        self._own_id = own_id
        self._host = host
        self._waiting: deque[str] = deque()
        self._wake = asyncio.Event()
        self.visitors = 0
        """Who is being served now."""
        self.port = port
        self.serves = False
        self.problem = ""
        """Why it does not serve; empty when it does."""
        self.counters: Counter[str] = Counter()

    async def run(self) -> None:
        """Serve until cancelled; a port that another program has is tried again and again."""
        reading = asyncio.ensure_future(self._read_waiting())
        try:
            while True:
                server = await self._opened()
                if server is not None:
                    async with server:
                        self.serves = True
                        await server.serve_forever()
                await self._clock.sleep(RETRY)
        finally:
            self.serves = False
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)

    async def _opened(self) -> asyncio.Server | None:
        try:
            server = await asyncio.start_server(self._visited, self._host, self.port, limit=MAX_HEAD)
        except OSError as error:
            problem = f"port {self.port} is taken ({error.strerror or error}), perhaps by the station's own beacon"
            if problem != self.problem:
                log.warning("no beacon: %s; end that program (_12345.sh), or set [astroport] beacon_port; tried again", problem)
            self.problem = problem
            return None
        self.problem = ""
        log.info("beacon: http://0.0.0.0:%s serves this station's 12345.json", self.port)
        return server

    async def _visited(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.visitors >= VISITORS:
            self.counters["turned-away"] += 1
            writer.transport.abort()
            return
        self.visitors += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._answer(reader, writer)
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.counters["gave-up"] += 1
        finally:
            self.visitors -= 1
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].decode("latin-1")
        method, _, rest = head.partition(" ")
        if method not in ("GET", "HEAD"):
            self.counters["refused"] += 1
            writer.write(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        self.counters["answered"] += 1
        self._asked(rest.rpartition(" ")[0])
        body = await asyncio.to_thread(self._document)
        writer.write(f"HTTP/1.1 200 OK\r\n{_HEADERS}Content-Length: {len(body)}\r\n\r\n".encode())
        if method == "GET":
            writer.write(body)
        await writer.drain()

    # -- UPSYNC -------------------------------------------------------------------------------------------------------

    def _asked(self, target: str) -> None:
        """Queue the node of a `?<G1PUB>=<node id>`; the first pair counts, anything else is no such request."""
        try:
            pairs = parse_qsl(urlsplit(target).query, max_num_fields=8)
        except ValueError:
            return
        if not pairs:
            return
        key, node_id = pairs[0]
        if node_id_of(key) != node_id or node_id == self._own_id:
            self.counters["upsync-rejected"] += 1
        elif node_id in self._waiting:
            self.counters["upsync-known"] += 1
        elif len(self._waiting) >= QUEUE:
            self.counters["upsync-full"] += 1
        else:
            self.counters["upsync-queued"] += 1
            self._waiting.append(node_id)
            self._wake.set()

    async def _read_waiting(self) -> None:
        while True:
            await self._wake.wait()
            while self._waiting:
                node_id = self._waiting[0]
                try:
                    await self._read(node_id)
                except DragonError as error:
                    log.debug("UPSYNC of %s: %s", node_id, error)
                await self._clock.sleep(READ_PAUSE)
                self._waiting.popleft()  # only now: whoever asks again meanwhile is read already
            self._wake.clear()

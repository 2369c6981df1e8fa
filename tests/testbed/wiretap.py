"""A listener on the wire between a client and a relay: a TCP proxy that counts bytes and reads the messages that pass.

    with Wiretap(relay.port) as tap:
        …the client connects to tap.url…
        tap.bytes_down, tap.served[event_id], tap.asked[event_id], tap.said("REQ")
        tap.cut()                                # every connection breaks, new ones are taken again

It runs on a thread with an event loop of its own, so it serves tests that block as well as those that do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import Counter
from types import TracebackType
from typing import Any, Literal

Direction = Literal["up", "down"]

START_SECONDS = 10.0


class Wiretap:
    """`port` is the relay's. With `read=False` bytes are counted only: reading costs the benchmarks' time."""

    def __init__(self, port: int, *, read: bool = True) -> None:
        self.target, self.read = port, read
        self.port = 0
        self.bytes_up = self.bytes_down = 0
        """TCP payload from and to the client: WebSocket frames and the opening handshake included."""
        self.connections = 0
        self.served: Counter[str] = Counter()
        """How often the relay sent each event, by id."""
        self.asked: Counter[str] = Counter()
        """How often the client named each id in a REQ."""
        self.published: Counter[str] = Counter()
        """How often the client sent each event."""
        self.messages: list[tuple[Direction, list[Any]]] = []
        """Everything said, in order, but events."""
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wiretap", daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def said(self, verb: str, direction: Direction = "up") -> list[list[Any]]:
        """Return the messages of one kind."""
        return [message for way, message in self.messages if way == direction and message[0] == verb]

    def cut(self) -> None:
        """Break every open connection, as a tunnel does whose peer died."""
        self._call(self._cut())

    def __enter__(self) -> Wiretap:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(START_SECONDS)
        self._loop.close()

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(START_SECONDS)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _end(self) -> None:
        self._server.close()
        while running := [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]:
            await self._cut()
            await asyncio.wait(running, timeout=0.1)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            self._open.discard(writer)
            writer.transport.abort()
            return
        self._open.add(far_writer)
        await asyncio.gather(self._copy("up", reader, far_writer), self._copy("down", far_reader, writer))
        self._open -= {writer, far_writer}

    async def _copy(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames()
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                if direction == "up":
                    self.bytes_up += len(data)
                else:
                    self.bytes_down += len(data)
                if self.read:
                    for text in frames.feed(data):
                        self._note(direction, json.loads(text))
                writer.write(data)
                await writer.drain()
        writer.close()

    def _note(self, direction: Direction, message: list[Any]) -> None:
        if message[0] == "EVENT" and direction == "down":
            self.served[message[2]["id"]] += 1
            return
        if message[0] == "EVENT":
            self.published[message[1]["id"]] += 1
            return
        if message[0] == "REQ":
            self.asked.update(name for wanted in message[2:] for name in wanted.get("ids", ()))
        self.messages.append((direction, message))


class Frames:
    """Takes the bytes of one direction, gives the text messages in them (RFC 6455; uncompressed, as all our relays speak)."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._opened = False
        self._parts = bytearray()

    def feed(self, data: bytes) -> list[str]:
        self._data += data
        if not self._opened:
            _, end, rest = self._data.partition(b"\r\n\r\n")
            if not end:
                return []
            self._opened, self._data = True, rest
        found = []
        while (frame := self._next()) is not None:
            final, kind, payload = frame
            if kind > 2:  # close, ping, pong
                continue
            self._parts += payload
            if final:
                found.append(self._parts.decode())
                self._parts = bytearray()
        return found

    def _next(self) -> tuple[bool, int, bytes] | None:
        data = self._data
        if len(data) < 2:
            return None
        size, start = data[1] & 127, 2
        if size >= 126:
            start = 4 if size == 126 else 10
            if len(data) < start:
                return None
            size = int.from_bytes(data[2:start], "big")
        mask = bytes(4)
        if data[1] & 128:
            mask, start = bytes(data[start : start + 4]), start + 4
        if len(data) < start + size:
            return None
        payload = bytes(data[start : start + size])
        if any(mask):
            repeated = (mask * (size // 4 + 1))[:size]
            payload = (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(size, "big")
        frame = bool(data[0] & 128), data[0] & 15, payload
        del data[: start + size]
        return frame

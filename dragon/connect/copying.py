"""The relay of platforms without splice(2): two tasks that read and write through the event loop, with back-pressure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from dragon.connect.relay import LINGER, Relay, reset

CHUNK = 256 * 1024
"""Bytes per read: larger ones gain nothing on loopback (measured), smaller ones cost wake-ups."""


class CopyingRelay:
    """See `dragon.connect.relay.Relay`."""

    def __init__(
        self,
        near: socket.socket,
        far: socket.socket,
        *,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[Relay], None],
        half_close: bool = False,
        linger: float = LINGER,
    ) -> None:
        self.sent = 0
        self.received = 0
        self.ended: str | None = None
        self._loop = loop
        self._near = near
        self._far = far
        self._on_end = on_end
        self._half_close = half_close
        self._linger = linger
        self._task: asyncio.Task[None] | None = None
        self._why: str | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._run())
        self._task.add_done_callback(self._closed)

    def abort(self, why: str) -> None:
        if self.ended is None and self._why is None:
            self._why = why
            if self._task is None:
                self._finish()
            else:
                self._task.cancel()

    async def _run(self) -> None:
        pumps = [
            self._loop.create_task(self._pump(self._near, self._far, outward=True)),
            self._loop.create_task(self._pump(self._far, self._near, outward=False)),
        ]
        try:
            done, rest = await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            if not all(pump.result() for pump in done):
                self._why = "reset"
            elif rest:
                await asyncio.wait(rest, timeout=None if self._half_close else self._linger)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, source: socket.socket, destination: socket.socket, *, outward: bool) -> bool:
        """Copy until end-of-file and pass it on; return False when a socket broke."""
        buffer = memoryview(bytearray(CHUNK))
        try:
            while count := await self._loop.sock_recv_into(source, buffer):
                await self._loop.sock_sendall(destination, buffer[:count])
                if outward:
                    self.sent += count
                else:
                    self.received += count
            destination.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

    def _closed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._why = self._why or str(task.exception())
        self._finish()

    def _finish(self) -> None:
        if self.ended is not None:
            return
        self.ended = self._why or "closed"
        for each in (self._near, self._far):
            if self._why:
                reset(each)
            else:
                each.close()
        self._on_end(self)

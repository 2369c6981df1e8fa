"""One SSH channel as a connected socket: bytes, ends and cuts go through in both directions, with back-pressure.

The caller gets a socket that behaves like a TCP connection to the service; its other end on loopback stays here. An end of file
in one direction leaves the other open (RFC 4254 §5.3); a lost SSH connection shows as a reset, never as an end.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable

import asyncssh

from dragon.connect.relay import LINGER, reset, tune
from dragon.connect.routes import connect_loopback

log = logging.getLogger(__name__)

CHUNK = 128 * 1024
"""Bytes per read: four SSH packets; more adds only latency for others on the same connection."""

HELD = 1 << 20
"""Bytes of the service kept for a local reader that is slow; beyond it the channel's window closes."""

TRIES = 8
"""Attempts at a pair of sockets: one is lost whenever a stranger connects to the listening port within the same moment."""


async def loopback_pair() -> tuple[socket.socket, socket.socket]:
    """Return two tuned sockets, connected to each other over TCP, since only there a cut can be told from an end.

    Raises `OSError`, and `LocalError` when no more sockets may be opened.
    """
    for _ in range(TRIES):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            listener.setblocking(False)
            near = await connect_loopback(listener.getsockname()[1])
            try:
                far, caller = listener.accept()
            except BaseException:
                near.close()
                raise
        if caller == near.getsockname():
            tune(far)
            return near, far
        far.close()
        near.close()
    raise ConnectionAbortedError("somebody else keeps connecting to ports of this machine")


class Session(asyncssh.SSHTCPSession[bytes]):
    """The channel's side, as asyncssh wants it: what came and was not read yet, and whether it ended or was cut."""

    def __init__(self) -> None:
        self.channel: asyncssh.SSHTCPChannel[bytes] | None = None
        self._held: list[bytes] = []
        self._size = 0
        self._ended = False
        self._lost = False
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, chan: asyncssh.SSHTCPChannel[bytes]) -> None:
        self.channel = chan

    def data_received(self, data: bytes, datatype: asyncssh.DataType) -> None:
        self._held.append(data)
        self._size += len(data)
        if self._size > HELD and self.channel is not None:
            self.channel.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        """Keep our direction open."""
        self._ended = True
        self._news.set()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._news.set()
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    async def read(self) -> bytes:
        """Return what came, empty at the end. Raises `ConnectionResetError` when it was cut."""
        while not (self._held or self._ended or self._lost):
            self._news.clear()
            await self._news.wait()
        if self._held:
            data = b"".join(self._held)
            self._held.clear()
            self._size = 0
            if not self._lost and self.channel is not None:
                self.channel.resume_reading()
            return data
        if self._ended:
            return b""
        raise ConnectionResetError("the SSH channel was cut")

    async def write(self, data: bytes) -> None:
        """Send, and wait until more may be sent. Raises `BrokenPipeError` when the channel is gone."""
        if self._lost or self.channel is None or self.channel.is_closing():
            raise BrokenPipeError("the SSH channel is gone")
        self.channel.write(data)
        await self._writable.wait()

    def end(self) -> None:
        if not self._lost and self.channel is not None and not self.channel.is_closing():
            self.channel.write_eof()


class SshChannel:
    """Carries bytes between `far`, which it owns, and a channel until both ended; then calls `on_end`.

    `open_session` gives the channel's side; what it raises ends the local one.
    """

    def __init__(
        self, far: socket.socket, open_session: Callable[[], Awaitable[Session]], on_end: Callable[[SshChannel], None]
    ) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._far = far
        self._open_session = open_session
        self._session: Session | None = None
        self._on_end = on_end
        self._hung_up: asyncio.Future[bool] = loop.create_future()
        self._task = loop.create_task(self._run())
        self._task.add_done_callback(self._closed)  # also when it is cancelled before it began

    def hang_up(self) -> None:
        """Nobody holds the other socket any more: what it said still goes out, what comes in has nowhere to go."""
        if not self._hung_up.done():
            self._hung_up.set_result(True)

    async def close(self) -> None:
        """Cut it."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> bool:
        """Return whether both directions came to their end."""
        session = self._session = await self._open_session()
        up, down = self._loop.create_task(self._carry_up(session)), self._loop.create_task(self._carry_down(session))
        try:
            return await self._ended(up, down)
        finally:
            up.cancel()
            down.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    def _closed(self, task: asyncio.Task[bool]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.info("an SSH channel ended: %s", error)
        whole = not task.cancelled() and error is None and task.result()
        channel = self._session.channel if self._session is not None else None
        if whole:
            self._far.close()
        else:
            reset(self._far)
        if channel is not None:
            if whole:
                channel.close()
            else:
                channel.abort()
        self._hung_up.cancel()
        self._on_end(self)

    async def _ended(self, up: asyncio.Task[bool], down: asyncio.Task[bool]) -> bool:
        """Return when nothing more is to be carried: True when both directions came to their end."""
        waiting: set[asyncio.Future[bool]] = {up, down, self._hung_up}
        while True:
            lingering = LINGER if self._hung_up.done() else None
            done, waiting = await asyncio.wait(waiting, timeout=lingering, return_when=asyncio.FIRST_COMPLETED)
            if not all(each.result() for each in done):
                return False
            if up not in waiting and down not in waiting:
                return True
            if self._hung_up.done() and (up not in waiting or not done):
                return False

    async def _carry_up(self, session: Session) -> bool:
        """Carry what is said here; return False when something broke."""
        try:
            while said := await self._loop.sock_recv(self._far, CHUNK):
                await session.write(said)
            session.end()
        except OSError:
            return False
        return True

    async def _carry_down(self, session: Session) -> bool:
        """Carry what the service says; return False when something broke."""
        try:
            while said := await session.read():
                await self._loop.sock_sendall(self._far, said)
            self._far.shutdown(socket.SHUT_WR)
        except OSError:
            return False
        return True

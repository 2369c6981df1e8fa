"""Real loopback sockets for tests of what moves bytes."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

BOUND = 20.0
"""Seconds after which a test that waits has failed; generous, since the machine is shared."""


def pair(buffers: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Return the two ends of one TCP connection, both non-blocking; `buffers` bytes in the kernel, so that it fills early."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.socket()
        for each in (one, listener) if buffers else ():
            each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers or 0)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers or 0)
        one.connect(listener.getsockname())
        other, _ = listener.accept()
    for end in (one, other):
        end.setblocking(False)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


async def connect(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    except OSError:
        connection.close()
        raise
    return connection


async def send(connection: socket.socket, data: bytes) -> None:
    async with asyncio.timeout(BOUND):
        await asyncio.get_running_loop().sock_sendall(connection, data)


async def receive(connection: socket.socket, size: int) -> bytes:
    """Return exactly `size` bytes, or what came before the end."""
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(BOUND):
        while len(data) < size:
            part = await loop.sock_recv(connection, min(size - len(data), 1 << 18))
            if not part:
                break
            data += part
    return data


async def receive_all(connection: socket.socket) -> bytes:
    """Return everything until the end; a reset raises."""
    return await receive(connection, 1 << 40)


async def end_of(connection: socket.socket) -> str:
    """Return how the connection ends for us: `end` or `reset`; anything it still says is read."""
    try:
        await receive_all(connection)
    except ConnectionError:
        return "reset"
    return "end"


async def until(condition: Callable[[], object] | Callable[[], Awaitable[object]], bound: float = BOUND) -> None:
    async with asyncio.timeout(bound):
        while True:
            held = condition()
            if isinstance(held, Awaitable):
                held = await held
            if held:
                return
            await asyncio.sleep(0.005)


def open_descriptors() -> int:
    return len(list(Path(f"/proc/{os.getpid()}/fd").iterdir()))


class Server:
    """A service in this process: `handle` is called with the streams of every connection."""

    def __init__(self, handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], port: int = 0) -> None:
        self._handle = handle
        self._wanted = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._wanted, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Close the port and cut all connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with suppress(ConnectionError):
                await self._handle(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def http(name: str, *, models: tuple[str, ...] = ("llama3.2",), status: int = 200, delay: float = 0.0) -> Callable[
    [asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]
]:  # fmt: skip
    """Return an HTTP/1.1 service: `/api/tags` names its models, everything else its own name."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            await asyncio.sleep(delay)
            tags = '{"models": [' + ", ".join(f'{{"name": "{model}"}}' for model in models) + "]}"
            body = (tags if b"/api/tags" in head.split(b"\r\n")[0] else name).encode()
            writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n" % (status, len(body)) + body)
            await writer.drain()

    return serve


async def get(port: int, path: str = "/") -> str:
    """Return the body of one HTTP request on a connection of its own; "" when it ended without an answer."""
    connection = await connect(port)
    try:
        await send(connection, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            part = await receive(connection, 1)
            if not part:
                return ""
            head += part
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        return (await receive(connection, length)).decode()
    finally:
        connection.close()


async def answering(port: int, expected: set[str], most: int = 2_000) -> set[str]:
    """Return who answered `most` requests, or fewer once everybody expected has. By measured speed one may have to wait long.

    The last twenty come after that, so that nobody else answers either.
    """
    seen: set[str] = set()
    for _ in range(most):
        seen.add(await get(port))
        if seen >= expected:
            break
    return seen | {await get(port) for _ in range(20)}

"""One HTTP connection for the pulse, and the moment of its end.

aiohttp would do, but a question every quarter of a second through it costs 0.4 % of a core in an idle node; this costs a
third of that, and the end of the connection (Kubo closes idle ones the moment it stops) is told at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from urllib.parse import urlsplit

from dragon.kubo.address import ApiAddress

MAX_ANSWER = 1 << 20
"""Bytes; a list of topics is far smaller, what is longer is not Kubo's."""


class Line(asyncio.Protocol):
    """Ask one thing after the other; `lost` is called once when the connection ends by the daemon's doing."""

    def __init__(self, lost: Callable[[], None]) -> None:
        self._lost = lost
        self._transport: asyncio.WriteTransport | None = None
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None
        self._buffer = b""

    @classmethod
    async def connect(cls, address: ApiAddress, lost: Callable[[], None]) -> Line:
        """Return a line to the daemon. Raises `OSError`."""
        loop = asyncio.get_running_loop()
        if address.socket:
            _, line = await loop.create_unix_connection(lambda: cls(lost), address.socket)
        else:
            parts = urlsplit(address.url)
            secure = ssl.create_default_context() if parts.scheme == "https" else None
            _, line = await loop.create_connection(lambda: cls(lost), parts.hostname or "", parts.port or 0, ssl=secure)
        return line

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send the bytes of a request; return (status, body) of the answer. Raises `ConnectionError`."""
        if self._transport is None:
            raise ConnectionResetError("the line is closed")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up; `lost` is not called for it."""
        self._lost = lambda: None
        if self._transport:
            self._transport.close()
            self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport), "what the loop gives a stream protocol"
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        try:
            parsed = parse_answer(self._buffer)
        except ValueError:
            self._hang_up("that is no HTTP")
            return
        if parsed is not None:
            self._buffer = b""  # questions are asked one by one: nothing follows an answer
            if self._answer and not self._answer.done():
                self._answer.set_result(parsed)
        elif len(self._buffer) > MAX_ANSWER:
            self._hang_up("an answer without end")

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionResetError("the daemon closed the connection"))
        self._lost()

    def _hang_up(self, why: str) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(ConnectionAbortedError(why))
        if self._transport:
            self._transport.close()


def request(address: ApiAddress, command: str, authorization: str | None) -> bytes:
    """Return the bytes of a call without arguments (RFC 9112)."""
    parts = urlsplit(address.url)
    headers = [f"POST /api/v0/{command} HTTP/1.1", f"Host: {parts.netloc}", "Content-Length: 0"]
    if authorization:
        headers.append(f"Authorization: {authorization}")
    return ("\r\n".join(headers) + "\r\n\r\n").encode("latin-1")


def parse_answer(data: bytes) -> tuple[int, bytes] | None:
    """Return (status, body) of one whole HTTP/1.1 answer with a length or in chunks, None while it is incomplete.

    `ValueError` for what is no such answer.
    """
    head, found, rest = data.partition(b"\r\n\r\n")
    if not data[:9].startswith(b"HTTP/1."[: len(data)]):
        raise ValueError("not HTTP")
    if not found:
        return None
    status, *lines = head.split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    code = int(status.split(b" ")[1])
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        body = _joined(rest)
        return None if body is None else (code, body)
    length = int(fields.get(b"content-length", b"0"))
    return (code, rest[:length]) if len(rest) >= length else None


def _joined(rest: bytes) -> bytes | None:
    body = b""
    while True:
        size, found, after = rest.partition(b"\r\n")
        if not found:
            return None
        length = int(size.split(b";")[0], 16)
        if length == 0:  # trailers may follow, up to an empty line
            return body if after.startswith(b"\r\n") or b"\r\n\r\n" in after else None
        if len(after) < length + 2:
            return None
        body, rest = body + after[:length], after[length + 2 :]

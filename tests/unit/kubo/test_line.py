"""The pulse's HTTP: whole answers only, however they are cut, and nothing but answers."""

from __future__ import annotations

import asyncio

import pytest

from dragon.kubo.address import parse_address
from dragon.kubo.line import MAX_ANSWER, Line, parse_answer, request

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKS = b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\nTrailer: X-Stream-Error\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n"


@pytest.mark.parametrize(
    ("answer", "parsed"),
    [
        (LENGTH, (200, b"{}")),
        (CHUNKS + b"\r\n", (500, b"abcde")),
        (CHUNKS + b"X-Stream-Error: broken\r\n\r\n", (500, b"abcde")),
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", (403, b"")),
    ],
)
def test_answers_are_whole_or_not_yet(answer: bytes, parsed: tuple[int, bytes]) -> None:
    assert parse_answer(answer) == parsed
    assert all(parse_answer(answer[:end]) is None for end in range(len(answer)))


@pytest.mark.parametrize(
    "answer",
    [
        b"\x13/multistream/1.0.0\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_anything_else_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError):
        parse_answer(answer)


def test_requests() -> None:
    assert request(parse_address("/ip4/127.0.0.1/tcp/5001"), "pubsub/ls", "Bearer x") == (
        b"POST /api/v0/pubsub/ls HTTP/1.1\r\nHost: 127.0.0.1:5001\r\nContent-Length: 0\r\nAuthorization: Bearer x\r\n\r\n"
    )


@pytest.mark.parametrize("answer", [b"", b"\x13/multistream/1.0.0\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * (MAX_ANSWER + 1)])
async def test_a_line_to_something_else_breaks_and_says_so_once(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = parse_address(f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}")
    lost = asyncio.Queue[bool]()
    line = await Line.connect(address, lambda: lost.put_nowait(True))
    with pytest.raises(ConnectionError):
        await line.ask(request(address, "pubsub/ls", None))
    assert await lost.get()
    assert not line.is_open
    with pytest.raises(ConnectionError):
        await line.ask(b"")
    server.close()


async def test_hanging_up_is_no_loss() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    lost: list[bool] = []
    line = await Line.connect(
        parse_address(f"/ip4/127.0.0.1/tcp/{server.sockets[0].getsockname()[1]}"), lambda: lost.append(True)
    )
    line.close()
    await asyncio.sleep(0)
    assert lost == []
    server.close()

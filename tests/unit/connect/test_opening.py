from __future__ import annotations

import asyncio
import socket

import pytest

from dragon.connect.opening import HELD_BYTES, Outcome, may_resend, open_conversation
from tests.unit.connect.sockets import pair, receive, send


@pytest.mark.parametrize(
    ("held", "verdict"),
    [
        (b"", True),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", True),
        (b"HEAD /a?b=c HTTP/1.0\r\n", True),
        (b"PUT /file HTTP/1.1\r\nContent-Length: 4\r\n\r\n", True),
        (b"PUT /file HTTP/1.1\r\ncontent-length:4\r\n\r\nbody", True),
        (b"PUT /file HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyPOST /prompt HTTP/1.1\r\n\r\n", False),
        (b"PUT /file HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 99\r\n\r\nbody", False),
        (b"PUT /file HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n", False),
        (b"PUT /file HTTP/1.1\r\nX: Content-Length: 99\r\n\r\nbody", False),
        (b"GET / HTTP/1.1\r\n\r\nPOST /prompt HTTP/1.1\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nHost: x\n\nPOST /prompt HTTP/1.1\r\n\r\n", False),
        (b"DELETE /x HTTP/1.1\r\n\r\n", True),
        (b"POST /prompt HTTP/1.1\r\n\r\n", False),
        (b"PATCH /x HTTP/1.1\r\n\r\n", False),
        (b"GET", False),
        (b"GET / HTTP/2\r\n", False),
        (b"get / HTTP/1.1\r\n", False),
        (b"SSH-2.0-OpenSSH\r\n", False),
        (b"\x16\x03\x01", False),
        (b" GET / HTTP/1.1\r\n", False),
    ],
)
def test_what_may_be_said_again(held: bytes, verdict: bool) -> None:
    assert may_resend(held) is verdict
    assert may_resend(bytearray(held)) is verdict


class Table:
    """A client and a provider with the opening between them."""

    def __init__(self, held: bytes = b"") -> None:
        self.client, self.near = pair()
        self.far, self.provider = pair()
        self.held = bytearray(held)
        self.running = asyncio.create_task(open_conversation(self.near, self.far, self.held))

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(20):
            return (await self.running)[0]

    def close(self) -> None:
        for each in (self.client, self.near, self.far, self.provider):
            each.close()


async def test_answered_and_the_answer_is_still_there() -> None:
    table = Table()
    await send(table.client, b"question")
    assert await receive(table.provider, 8) == b"question"
    await send(table.provider, b"answer")
    assert await table.outcome() is Outcome.ANSWERED
    seconds = (await table.running)[1]
    assert seconds is not None
    assert seconds >= 0
    assert bytes(table.held) == b"question"
    assert await receive(table.far, 6) == b"answer"
    table.close()


async def test_a_provider_that_speaks_first() -> None:
    table = Table()
    await send(table.provider, b"SSH-2.0-x\r\n")
    assert await table.outcome() is Outcome.ANSWERED
    assert table.held == b""
    table.close()


@pytest.mark.parametrize("abruptly", [False, True])
async def test_lost_before_a_byte(abruptly: bool) -> None:
    table = Table()
    await send(table.client, b"question")
    assert await receive(table.provider, 8) == b"question"
    if abruptly:
        table.provider.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    table.provider.close()
    assert await table.outcome() is Outcome.LOST
    assert table.held == b"question"
    table.close()


async def test_the_next_provider_is_told_what_was_said() -> None:
    table = Table(held=b"said before, ")
    await send(table.client, b"said now")
    assert await receive(table.provider, 21) == b"said before, said now"
    await send(table.provider, b"!")
    assert await table.outcome() is Outcome.ANSWERED
    table.close()


async def test_a_client_that_leaves() -> None:
    table = Table()
    table.client.close()
    assert await table.outcome() is Outcome.LEFT
    table.close()


async def test_a_client_that_ends_its_direction_or_says_much_is_handed_over() -> None:
    table = Table()
    await send(table.client, b"all I have to say")
    assert await receive(table.provider, 17) == b"all I have to say"
    table.client.shutdown(socket.SHUT_WR)
    assert await table.outcome() is Outcome.LARGE
    table.close()
    table = Table()
    sender = asyncio.create_task(send(table.client, bytes(HELD_BYTES + 50_000)))
    assert await table.outcome() is Outcome.LARGE
    assert HELD_BYTES < len(table.held) < HELD_BYTES + 20_000
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    table.close()

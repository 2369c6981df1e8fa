"""The public beacon against polite, greedy, slow and hostile visitors, on real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from dragon.astroport import http_beacon
from dragon.astroport.http_beacon import QUEUE, HttpBeacon
from dragon.errors import KuboUnreachable
from registry_schema.ids import base58_encode, ed25519_node_id
from tests.testbed.ports import free_port
from tests.unit.kubo.clocks import HandClock

DOCUMENT = json.dumps({"ipfsnodeid": "12D3KooWself"}).encode()


def key(number: int) -> bytes:
    return bytes((number, 7)) + b"\x05" * 30


async def eventually(condition: Callable[[], object]) -> None:
    """Return when `condition` holds, after as many turns of the loop as its sockets need."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # what is waited for is another side's socket
            await asyncio.sleep(0)


class World:
    """One beacon; `read` is whom it had read, `failing` who cannot be."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.reading: list[str] = []
        self.failing: set[str] = set()
        self.beacon = HttpBeacon(
            free_port(), lambda: DOCUMENT, self._read, self.clock, own_id=ed25519_node_id(key(0)), host="127.0.0.1"
        )

    async def _read(self, node_id: str) -> None:
        self.reading.append(node_id)
        if node_id in self.failing:
            raise KuboUnreachable("no answer")

    async def say(self, request: bytes) -> tuple[str, bytes]:
        """Return head and body of the answer, both empty when there was none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.beacon.port)
        try:
            writer.write(request)
            answer = await reader.read()
        except ConnectionError:
            answer = b""
        finally:
            writer.close()
        head, _, body = answer.partition(b"\r\n\r\n")
        return head.decode(), body

    async def upsync(self, number: int, node_id: str | None = None) -> tuple[str, bytes]:
        pair = f"{base58_encode(key(number))}={node_id or ed25519_node_id(key(number))}"
        return await self.say(f"GET /?{pair} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    async def until(self, condition: str) -> None:
        await eventually(lambda: self.beacon.counters[condition])


@asynccontextmanager
async def serving(world: World | None = None) -> AsyncIterator[World]:
    world = world or World()
    task = asyncio.create_task(world.beacon.run())
    await eventually(lambda: world.beacon.serves or world.beacon.problem)
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"),
        (b"GET /../../etc/passwd HTTP/1.0\r\n\r\n", "200 OK"),
        (b"GET /?=&=&== HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET //[::1 HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET /\xff\xfe\x00 HTTP/1.1\r\n\r\n", "200 OK"),
        (b"GET\r\n\r\n", "200 OK"),
        (b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "405 Method Not Allowed"),
        (b"\x16\x03\x01\r\n\r\n", "405 Method Not Allowed"),
    ],
)
async def test_every_question_gets_the_document_or_a_refusal(request_head: bytes, status: str) -> None:
    async with serving() as world:
        head, body = await world.say(request_head)
        assert head.startswith(f"HTTP/1.1 {status}\r\n")
        assert body == (DOCUMENT if status == "200 OK" else b"")
        assert "Connection: close" in head
        assert not world.reading


async def test_head_has_the_length_and_no_body() -> None:
    async with serving() as world:
        head, body = await world.say(b"HEAD / HTTP/1.1\r\n\r\n")
        assert f"Content-Length: {len(DOCUMENT)}" in head
        assert body == b""


async def test_a_head_that_never_ends_and_one_that_stalls_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_beacon, "PATIENCE", 0.05)
    async with serving() as world:
        assert await world.say(b"GET /" + b"a" * 20_000) == ("", b"")
        assert await world.say(b"GET / HTTP/1.1\r\n") == ("", b"")
        assert world.beacon.counters["gave-up"] == 2
        assert (await world.say(b"GET / HTTP/1.1\r\n\r\n"))[1] == DOCUMENT


async def test_more_visitors_than_the_bound_are_turned_away_and_the_next_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_beacon, "VISITORS", 2)
    async with serving() as world:
        waiting = [await asyncio.open_connection("127.0.0.1", world.beacon.port) for _ in range(3)]
        await world.until("turned-away")
        for _, writer in waiting:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
        await eventually(lambda: not world.beacon.visitors)
        assert (await world.say(b"GET / HTTP/1.1\r\n\r\n"))[1] == DOCUMENT


async def test_upsync_has_only_those_read_that_show_their_key_once_and_one_by_one() -> None:
    async with serving() as world:
        world.failing.add(ed25519_node_id(key(1)))
        for number in (1, 2, 2, 1):
            head, body = await world.upsync(number)
            assert body == DOCUMENT, "one JSON document, and nothing after it"
            assert head.startswith("HTTP/1.1 200 ")
        await world.upsync(3, ed25519_node_id(key(4)))
        await world.upsync(0)
        assert world.beacon.counters["upsync-queued"] == 2
        assert world.beacon.counters["upsync-known"] == 2
        assert world.beacon.counters["upsync-rejected"] == 2, "another's id, and our own"
        assert world.reading == [ed25519_node_id(key(1))]
        await world.clock.turn(http_beacon.READ_PAUSE)
        assert world.reading == [ed25519_node_id(key(1)), ed25519_node_id(key(2))], "one that fails holds nobody up"


async def test_the_queue_is_bounded() -> None:
    async with serving() as world:
        for number in range(1, QUEUE + 4):
            await world.upsync(number)
        assert world.beacon.counters["upsync-full"] == 3
        assert len(world.reading) == 1


async def test_a_port_that_is_taken_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    other = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", world.beacon.port)
    async with serving(world):
        assert f"port {world.beacon.port} is taken" in world.beacon.problem
        await world.clock.turn(http_beacon.RETRY)
        assert len([record for record in caplog.records if "no beacon" in record.message]) == 1
        other.close()
        await other.wait_closed()
        async with asyncio.timeout(10):
            while world.beacon.problem:
                await world.clock.turn(http_beacon.RETRY)
        assert (await world.say(b"GET / HTTP/1.1\r\n\r\n"))[1] == DOCUMENT

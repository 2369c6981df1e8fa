"""Both relays, the same promises: every byte, in order, counted; ends and resets passed on; nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import pytest

from dragon.connect.copying import CopyingRelay
from dragon.connect.relay import Relay
from tests.unit.connect.sockets import end_of, open_descriptors, pair, receive, receive_all, send, until

MEGABYTE = 1 << 20

KINDS: list[type] = [CopyingRelay]
if hasattr(os, "splice"):
    from dragon.connect.splice import PIPES, SplicedRelay

    KINDS.append(SplicedRelay)


@dataclass
class Joined:
    """A client and a service with a relay between them."""

    client: socket.socket
    service: socket.socket
    relay: Relay
    ends: list[Relay] = field(default_factory=list)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
async def join(request: pytest.FixtureRequest) -> AsyncIterator[Callable[..., Joined]]:
    made: list[Joined] = []

    def make(*, buffers: int | None = None, **options: object) -> Joined:
        client, near = pair(buffers)
        far, service = pair(buffers)
        ends: list[Relay] = []
        relay = request.param(near, far, loop=asyncio.get_running_loop(), on_end=ends.append, **options)
        relay.start()
        made.append(Joined(client, service, relay, ends))
        return made[-1]

    yield make
    for each in made:
        each.relay.abort("test is over")
        each.client.close()
        each.service.close()
    await until(lambda: all(each.ends for each in made))


async def test_bytes_of_both_directions_arrive_and_are_counted(join: Callable[..., Joined]) -> None:
    joined = join()
    await send(joined.client, b"question")
    assert await receive(joined.service, 8) == b"question"
    await send(joined.service, b"a longer answer")
    assert await receive(joined.client, 15) == b"a longer answer"
    assert (joined.relay.sent, joined.relay.received) == (8, 15)
    assert joined.relay.ended is None


async def test_bulk_in_both_directions_at_once_under_back_pressure(join: Callable[..., Joined]) -> None:
    joined = join(buffers=1 << 16)
    there, back = os.urandom(5 * MEGABYTE), os.urandom(6 * MEGABYTE)
    senders = [asyncio.create_task(send(joined.client, there)), asyncio.create_task(send(joined.service, back))]
    await asyncio.sleep(0.05)  # both stand against full buffers: nobody reads yet
    assert not any(sender.done() for sender in senders)
    got = tuple(await asyncio.gather(receive(joined.service, len(there)), receive(joined.client, len(back))))
    await asyncio.gather(*senders)
    assert got == (there, back)
    assert (joined.relay.sent, joined.relay.received) == (len(there), len(back))


async def test_a_few_bytes_right_after_bulk_do_not_wait_for_more(join: Callable[..., Joined]) -> None:
    """Bulk is woken for a quarter of a megabyte at a time; what is smaller must come through all the same."""
    joined = join()
    for _ in range(3):
        bulk = bytes(9 * MEGABYTE)
        sender = asyncio.create_task(send(joined.service, bulk + b"tail"))
        assert len(await receive(joined.client, len(bulk))) == len(bulk)
        assert await receive(joined.client, 4) == b"tail"
        await sender
        await send(joined.service, b"and one more")
        assert await receive(joined.client, 12) == b"and one more"
    sender = asyncio.create_task(send(joined.service, bytes(9 * MEGABYTE) + b"last"))
    sender.add_done_callback(lambda _: joined.service.close())
    assert (await receive_all(joined.client))[-4:] == b"last"


async def test_an_end_is_passed_on_after_all_that_came_before_it(join: Callable[..., Joined]) -> None:
    joined = join()
    data = os.urandom(3 * MEGABYTE)
    sender = asyncio.create_task(send(joined.service, data))
    sender.add_done_callback(lambda _: joined.service.shutdown(socket.SHUT_WR))
    assert await receive_all(joined.client) == data
    joined.client.close()
    await until(lambda: joined.ends)
    assert joined.relay.ended == "closed"


async def test_half_close_keeps_the_other_direction_where_the_route_can(join: Callable[..., Joined]) -> None:
    joined = join(half_close=True, linger=0.0)
    await send(joined.client, b"all of it")
    joined.client.shutdown(socket.SHUT_WR)
    assert await receive_all(joined.service) == b"all of it"
    await asyncio.sleep(0.05)
    await send(joined.service, b"late answer")
    joined.service.close()
    assert await receive_all(joined.client) == b"late answer"


async def test_without_half_close_the_second_direction_ends_after_the_linger(join: Callable[..., Joined]) -> None:
    joined = join(linger=0.01)
    joined.service.shutdown(socket.SHUT_WR)
    await until(lambda: joined.ends)
    assert await end_of(joined.client) == "end"


async def test_a_cut_is_seen_as_a_reset_on_the_other_side(join: Callable[..., Joined]) -> None:
    joined = join()
    await send(joined.client, b"x")
    assert await receive(joined.service, 1) == b"x"
    joined.service.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    joined.service.close()
    assert await end_of(joined.client) == "reset"
    await until(lambda: joined.ends)


async def test_abort_resets_both_and_says_so_once(join: Callable[..., Joined]) -> None:
    joined = join()
    joined.relay.abort("withdrawn")
    joined.relay.abort("again")
    await until(lambda: joined.ends)
    assert joined.relay.ended == "withdrawn"
    assert joined.ends == [joined.relay]
    assert await end_of(joined.client) == "reset"
    assert await end_of(joined.service) == "reset"


async def test_abort_with_bytes_stuck_on_the_way(join: Callable[..., Joined]) -> None:
    joined = join(buffers=1 << 16)
    sender = asyncio.create_task(send(joined.client, bytes(5 * MEGABYTE)))
    await asyncio.sleep(0.05)
    joined.relay.abort("withdrawn")
    with pytest.raises(ConnectionError):
        await sender
    await until(lambda: joined.ends)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
async def test_soak_leaves_no_descriptor_and_no_task(kind: type) -> None:
    """2,000 conversations (400 of the copying relay) that end in every way, twenty at a time."""
    loop = asyncio.get_running_loop()
    warm = asyncio.create_task(asyncio.sleep(0))
    await warm
    if hasattr(os, "splice"):
        PIPES.clear()
    gc.collect()
    before, tasks = open_descriptors(), len(asyncio.all_tasks())

    async def converse(number: int) -> None:
        client, near = pair()
        far, service = pair()
        ended = loop.create_future()
        relay = kind(near, far, loop=loop, on_end=lambda _: ended.set_result(None), linger=0.0)
        relay.start()
        await send(client, b"hello")
        if number % 5:
            assert await receive(service, 5) == b"hello"
        match number % 5:
            case 0:
                relay.abort("cut")
            case 1:
                client.close()
            case 2:
                service.close()
            case 3:
                client.shutdown(socket.SHUT_WR)
            case 4:
                service.shutdown(socket.SHUT_WR)
        await ended
        client.close()
        service.close()

    batches = 100 if kind.__name__ == "SplicedRelay" else 20  # the copying one takes four times as long
    for batch in range(batches):
        await asyncio.gather(*(converse(batch * 20 + each) for each in range(20)))
    if hasattr(os, "splice"):
        assert PIPES.lent == 0
        PIPES.clear()
    await until(lambda: open_descriptors() <= before and len(asyncio.all_tasks()) <= tasks)


@pytest.mark.skipif(not hasattr(os, "splice"), reason="splice(2) exists on Linux only")
async def test_quiet_conversations_hold_no_pipe() -> None:
    joined = [(pair(), pair()) for _ in range(30)]
    relays = [
        SplicedRelay(near, far, loop=asyncio.get_running_loop(), on_end=lambda _: None)
        for (_, near), (far, _) in joined
    ]  # fmt: skip
    for relay in relays:
        relay.start()
    for (client, _), (_, service) in joined:
        await send(client, b"ping")
        assert await receive(service, 4) == b"ping"
    assert PIPES.lent == 0
    for relay, ((client, _), (_, service)) in zip(relays, joined, strict=True):
        relay.abort("done")
        client.close()
        service.close()

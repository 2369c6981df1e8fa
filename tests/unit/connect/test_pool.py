"""Pools over real sockets: kept warm, spread over, replaced, grown and shrunk with the load, and nothing left behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragon.config import ConnectSettings
from dragon.connect import ForwardInfo
from dragon.connect.pool import PoolInfo
from dragon.connect.scaling import GROW_ABOVE
from dragon.errors import UsageError
from tests.unit.connect.sockets import Server, answering, connect, echo, get, http, receive, send, until
from tests.unit.connect.test_forwards import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        yield world


def only(world: World) -> ForwardInfo:
    (forward,) = world.me.forwards.list()
    return forward


def pool(world: World) -> PoolInfo:
    info = only(world).pool
    assert info is not None
    return info


def members(world: World) -> set[str]:
    return {member.alias for member in pool(world).members}


async def legs(world: World) -> int:
    return len([entry for entry in await world.me.kubo.p2p_ls() if not entry.is_listener])


async def test_two_are_opened_and_tested_before_anybody_calls(world: World) -> None:
    for _ in range(3):
        await world.add()
    result = await world.forward(pool=2)
    await until(lambda: len(members(world)) == 2)
    assert await legs(world) == 2
    assert all(member.proven < 60 for member in pool(world).members)
    assert (pool(world).wanted, pool(world).auto, pool(world).resting) == (2, False, False)
    assert only(world).spread
    assert await answering(result.port, members(world)) == members(world)
    again = await world.forward(pool=2)
    assert (again.port, again.reused) == (result.port, True)
    assert (await world.forward()).port != result.port
    assert await world.me.forwards.off("ollama") == 2


async def test_with_fewer_than_wanted_whoever_comes_is_taken_in(world: World) -> None:
    await world.add()
    await world.forward(pool=3)
    assert members(world) == {"alpha"}
    assert pool(world).wanted == 3
    await world.add()
    await until(lambda: members(world) == {"alpha", "beta"})


async def test_a_member_that_leaves_is_replaced(world: World) -> None:
    for _ in range(3):
        await world.add()
    result = await world.forward(pool=2)
    await until(lambda: len(members(world)) == 2)
    gone = world.of(pool(world).members[0].id)
    name = pool(world).members[0].alias
    await world.me.hear(world.providers[gone], leaving=True, offers=())
    await until(lambda: len(members(world)) == 2 and name not in members(world))
    assert {await get(result.port) for _ in range(20)} <= members(world)
    assert only(world).provider in {member.id for member in pool(world).members}


async def test_a_member_that_dies_costs_no_client_anything(world: World) -> None:
    for _ in range(2):
        await world.add()
    result = await world.forward(pool=2)
    await until(lambda: len(members(world)) == 2)
    await world.kill(0)
    for _ in range(20):
        assert await get(result.port) == "beta"


async def test_auto_grows_under_load(world: World) -> None:
    servers = [Server(echo) for _ in range(3)]
    for server in servers:
        await world.add(server, slug="echo")
    result = await world.forward("echo", pool="auto")
    assert (pool(world).wanted, pool(world).auto) == (1, True)
    assert await legs(world) == 1
    clients = [await connect(result.port) for _ in range(GROW_ABOVE + 1)]
    for client in clients:
        await send(client, b"hello")
        assert await receive(client, 5) == b"hello"
    await until(lambda: len(members(world)) == 2)
    assert pool(world).wanted == 2
    more = [await connect(result.port) for _ in range(GROW_ABOVE)]
    for client in more:
        await send(client, b"hello")
        assert await receive(client, 5) == b"hello"
    assert len([server for server in servers if server.connections]) >= 2
    for client in (*clients, *more):
        client.close()


async def test_a_pool_that_nobody_uses_rests_and_wakes(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.stack:
        await world.open(ConnectSettings(test_timeout=2.0, idle_seconds=1.0))
        await world.add()
        await world.add()
        result = await world.forward(pool=2)
        await until(lambda: len(members(world)) == 2)
        await until(lambda: pool(world).resting)
        await until(lambda: _none(world))
        assert await get(result.port) in {"alpha", "beta"}


async def _none(world: World) -> bool:
    return await legs(world) == 0


@pytest.mark.parametrize(
    ("target", "options", "said"),
    [
        ("auto", {"pool": 2, "raw": True}, "raw"),
        ("alpha", {"pool": 2}, "by itself"),
        ("auto", {"pool": 2, "via": "ssh6"}, "route ssh6"),
        ("auto", {"pool": 0}, "1 to"),
        ("auto", {"pool": 1000}, "1 to"),
    ],
)
async def test_what_contradicts_a_pool_is_said(world: World, target: str, options: dict[str, object], said: str) -> None:
    await world.add()
    with pytest.raises(UsageError, match=said):
        await world.forward(target=target, **options)  # type: ignore[arg-type]


async def test_off_ends_what_the_pool_was_doing(world: World) -> None:
    slow = Server(http("alpha", delay=30.0))
    await world.add()
    await world.forward(pool=2)
    await world.add(slow)  # its test hangs, and with it the growth
    await until(lambda: slow.connections > 0)
    assert _busy()
    await world.me.forwards.off(None)
    assert not _busy()


def _busy() -> list[str]:
    """The names of what pools are doing."""
    names = [getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks() if not task.done()]
    return [name for name in names if name.startswith("Pool.")]

"""What `dragon providers` tells, of real forwards over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragon.connect.performance import figures
from dragon.connect.reach import Reach
from dragon.errors import UnknownService
from tests.unit.connect.sockets import get, until
from tests.unit.connect.test_forwards import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        yield world


async def test_who_was_never_tried_has_a_line_too(world: World) -> None:
    await world.add()
    (line,) = world.me.forwards.providers("ollama")
    assert (line.n, line.alias, line.state, line.route) == (1, "alpha", "live", "")
    assert line.figures.attempts == 0
    assert line.figures.p95_ms is None
    with pytest.raises(UnknownService):
        world.me.forwards.providers("olama")


async def test_attempts_latency_and_bytes_are_counted_by_provider_and_route(world: World) -> None:
    await world.add()
    await world.add()
    result = await world.forward(target="alpha")
    for _ in range(5):
        assert await get(result.port) == "alpha"
    await until(lambda: world.me.forwards.list()[0].connections == 0)
    alpha, beta = sorted(world.me.forwards.providers("ollama"), key=lambda line: line.alias)
    assert alpha.route == "p2p"
    assert alpha.figures.attempts == 6  # the test that opened it, and five clients
    assert alpha.figures.failures == 0
    assert alpha.figures.samples == 6
    assert alpha.figures.p50_ms is not None
    assert alpha.figures.p95_ms is not None
    assert 0 < alpha.figures.p50_ms <= alpha.figures.p95_ms
    assert alpha.figures.received >= 5 * len("HTTP/1.1 200 X\r\n\r\nalpha")
    assert alpha.figures.sent >= 5 * len("GET / HTTP/1.1\r\n\r\n")
    assert alpha.figures.bytes_per_second is not None
    assert beta.figures.attempts == 0
    (listed,) = world.me.forwards.list()
    assert listed.figures == alpha.figures


async def test_failures_stay_with_a_provider_that_is_gone(world: World) -> None:
    await world.add()
    await world.forward()
    await world.me.hear(world.providers[0], leaving=True, offers=())
    (line,) = world.me.forwards.providers("ollama")
    assert (line.n, line.state, line.route) == (None, "left", "p2p")


async def test_running_connections_are_counted_while_they_run(world: World) -> None:
    from tests.unit.connect.sockets import Server, connect, echo, receive, send

    await world.add(Server(echo), slug="echo")
    result = await world.forward("echo")
    connection = await connect(result.port)
    await send(connection, b"x" * 100_000)
    assert await receive(connection, 100_000) == b"x" * 100_000
    await send(connection, b"y")
    assert await receive(connection, 1) == b"y"
    await world.me.forwards.look()
    (line,) = world.me.forwards.providers("echo")
    assert line.figures.in_flight == 1
    assert line.figures.received >= 100_000
    connection.close()


def test_nothing_measured_is_none_and_not_zero() -> None:
    empty = figures(Reach("a", "b", "p2p"), 0.0)
    assert (empty.latency_ms, empty.p50_ms, empty.bytes_per_second, empty.used) == (None, None, None, None)

"""Providers that are connected only through a relay: tunnels do not run over limited connections (KUBO.md)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragon.errors import NoProvider
from dragon.kubo.types import Peer
from tests.unit.connect.sockets import get
from tests.unit.connect.test_forwards import World

CIRCUIT = "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWRelay/p2p-circuit"
DIRECT = "/ip4/127.0.0.1/tcp/4001"


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        await world.add()
        await world.add()
        yield world


def connected(world: World, monkeypatch: pytest.MonkeyPatch, *addresses: tuple[int, str]) -> None:
    """Let the consumer's engine say that it is connected to these providers so."""

    async def peers() -> list[Peer]:
        return [Peer(world.providers[number].node_id, address, 0.001) for number, address in addresses]

    monkeypatch.setattr(world.me.kubo, "peers", peers)


async def test_one_that_is_connected_through_a_relay_only_is_passed_over(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(two, monkeypatch, (0, CIRCUIT), (1, DIRECT))
    for _ in range(5):
        result = await two.forward()
        assert await get(result.port) == "beta"
        await two.me.forwards.off(None)
    line = next(line for line in two.me.forwards.explain("ollama").candidates if line.alias == "alpha")
    assert "relay" in line.reason
    assert line.verdict != "possible"


async def test_when_all_are_it_is_said_and_a_direct_connection_ends_it(two: World, monkeypatch: pytest.MonkeyPatch) -> None:
    connected(two, monkeypatch, (0, CIRCUIT), (1, CIRCUIT))
    with pytest.raises(NoProvider) as caught:
        await two.forward()
    assert "relay" in caught.value.hint
    connected(two, monkeypatch, (0, CIRCUIT), (0, DIRECT), (1, CIRCUIT))  # hole punching worked: both connections stand
    assert (await two.forward()).provider == two.providers[0].node_id

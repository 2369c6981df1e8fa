"""Stations that sign nothing, as providers: used when nobody who signs works, and never before. DESIGN §7 rule 6, I4."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragon.connect.offered import CROWD
from dragon.errors import NoProvider
from dragon.registry.verdict import Admitted
from registry_schema import Manifest, make_offer
from tests.simulator.signers import Signer
from tests.unit.connect import swarm
from tests.unit.connect.sockets import Server, get, http, until
from tests.unit.connect.test_forwards import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        yield world


def learn(world: World, node_id: str, alias: str, slug: str = "ollama", *, usable: bool = True) -> None:
    """Let the consumer read the files of a node that signs nothing."""
    now_ms = time.time_ns() // 1_000_000
    manifest = Manifest(
        node=node_id, swarm=swarm.SWARM, sequence=now_ms, ttl=90, alias=alias, version="bash",
        offers=(make_offer(slug, node_id, 11434),), labels={}, capacity={}, load=0, agents=(), digest=(), station={},
        leaving=False,
    )  # fmt: skip
    verdict = world.me.view.learn(manifest, at=time.monotonic(), now_ms=now_ms, usable=usable)
    assert isinstance(verdict, Admitted)


async def bash(world: World, name: str = "bash", *, usable: bool = True) -> swarm.Provider:
    """Add a provider of which only unsigned files are known."""
    provider = await world.add(Server(http(name)), alias=name)
    await world.me.hear(provider, leaving=True)
    await asyncio_pause()
    learn(world, provider.node_id, name, usable=usable)
    return provider


async def asyncio_pause() -> None:
    """Let the wall clock pass the millisecond of the good-bye: only newer files count."""
    began = time.time_ns() // 1_000_000
    await until(lambda: time.time_ns() // 1_000_000 > began + 1)


async def test_alone_it_serves_and_says_what_it_is(world: World) -> None:
    station = await bash(world)
    result = await world.forward()
    assert (result.provider, result.route) == (station.node_id, "p2p")
    assert await get(result.port) == "bash"
    (line,) = world.me.forwards.explain("ollama").candidates
    assert (line.verdict, line.said["trust"], line.said["source"]) == ("chosen", "ipns", "ipns")
    assert [line.trust for line in world.me.forwards.providers("ollama")] == ["ipns"]


@pytest.mark.parametrize("strategy", ["p2c", "rotate", "random", "first"])
async def test_it_serves_only_when_nobody_who_signs_does(world: World, strategy: str) -> None:
    station, signed = await bash(world), await world.add()
    for _ in range(6):
        assert (await world.forward(strategy=strategy)).provider == signed.node_id
        await world.me.forwards.off(None)
    explained = world.me.forwards.explain("ollama")
    assert explained.chosen == signed.node_id
    assert [line.reason for line in explained.candidates if line.id == station.node_id] == ["trust ipns ranks behind signed"]
    await world.kill(1)
    result = await world.forward(strategy=strategy)
    assert result.provider == station.node_id
    assert await get(result.port) == "bash"


async def test_a_connection_moves_to_it_when_the_last_who_signs_dies(world: World) -> None:
    await bash(world)
    await world.add()
    result = await world.forward(spread=True)
    assert {await get(result.port) for _ in range(10)} == {"beta"}
    await world.kill(1)
    assert await get(result.port) == "bash"


async def test_also_under_another_slug_it_comes_last(world: World) -> None:
    """vane and perplexica are one service; the first slug has only an unsigned provider."""
    station = await world.add(Server(http("bash")), slug="vane", alias="bash")
    await world.me.hear(station, leaving=True)
    await asyncio_pause()
    learn(world, station.node_id, "bash", "vane")
    signed = await world.add(Server(http("signed")), slug="perplexica", alias="signed")
    assert (await world.forward("vane")).provider == signed.node_id
    assert world.me.forwards.explain("vane").chosen == signed.node_id


async def test_a_name_that_somebody_signs_cannot_be_taken(world: World) -> None:
    signed = await world.add()
    learn(world, Signer("impostor").node_id, "alpha")
    assert (await world.forward(target="alpha")).provider == signed.node_id


async def test_a_crowd_of_them_takes_nobodys_place(world: World) -> None:
    signed = await world.add()
    for number in range(3 * CROWD):
        learn(world, Signer(number).node_id, f"sybil {number}")
    for _ in range(5):
        assert (await world.forward()).provider == signed.node_id
        await world.me.forwards.off(None)


async def test_where_they_are_not_admitted_they_are_shown_and_refused(world: World) -> None:
    station = await bash(world, usable=False)
    with pytest.raises(NoProvider) as refused:
        await world.forward()
    assert "bash: not admitted: it signs nothing ([astroport] bash_stations)" in refused.value.hint
    with pytest.raises(NoProvider, match="bash is not admitted"):
        await world.forward(target="bash")
    assert world.me.forwards.explain("vane").chosen is None
    learn(world, station.node_id, "bash")
    assert (await world.forward()).provider == station.node_id
    learn(world, station.node_id, "bash", usable=False)
    await world.me.forwards.off(None)
    (line,) = world.me.forwards.explain("ollama").candidates
    assert (line.verdict, line.reason[:12]) == ("refused", "not admitted")


async def test_a_full_pool_makes_way_for_who_signs(world: World) -> None:
    await bash(world)
    await world.add()

    def members() -> set[str]:
        (forward,) = world.me.forwards.list()
        return set() if forward.pool is None else {member.alias for member in forward.pool.members}

    result = await world.forward(pool=2)
    await until(lambda: members() == {"bash", "beta"})
    assert {await get(result.port) for _ in range(10)} == {"beta"}
    await world.add()
    await until(lambda: members() == {"beta", "gamma"})

"""What a name leads to now: the forward that is meant, another one, this machine's own service; nothing is opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dragon.connect.checking import Checker
from dragon.errors import NoProvider, UnknownService
from dragon.kubo.fake import FakeKubo
from dragon.probe import Finding, load_catalogue
from tests.testbed.services import start_service
from tests.unit.connect.sockets import Server, http
from tests.unit.connect.test_forwards import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        yield world


def checker(world: World, overrides: Mapping[str, Mapping[str, Any]] | None = None) -> Checker:
    catalogue = load_catalogue(overrides=overrides)
    return Checker(world.me.node_id, world.me.forwards, world.me.kubo, lambda: catalogue, tuple, 2.0)


async def test_a_forward_is_tested_through_its_port(world: World) -> None:
    alpha = await world.add()
    opened = await world.forward()
    found = await checker(world).check("ollama")
    assert (found.provider, found.route, found.port, found.ok) == (alpha.node_id, "p2p", opened.port, True)
    assert found.detail == "GET /api/tags → 200"
    assert found.rtt_ms > 0
    await world.services[0].stop()
    assert not (await checker(world).check("ollama")).ok


async def test_the_forward_at_the_named_port_is_preferred(world: World) -> None:
    await world.add()
    ports = {(await world.forward()).port, (await world.forward(via="p2p")).port}
    assert len(ports) == 2
    for port in ports:
        assert (await checker(world).check("ollama", port=port)).port == port
    assert (await checker(world).check("ollama", port=1)).port in ports


async def test_without_a_forward_it_is_the_service_of_this_machine(world: World) -> None:
    await world.add()
    async with Server(http("mine")) as mine:
        world.me.local["ollama"] = Finding("ollama", mine.port, "passing", {}, 0, "test")
        found = await checker(world).check("ollama")
        assert (found.route, found.port, found.provider) == ("local", mine.port, world.me.node_id)
        await world.forward(via="p2p")
        assert (await checker(world).check("ollama")).route == "p2p"
        assert (await checker(world).check("ollama", via="local")).port == mine.port
    assert world.me.forwards.list()[0].route == "p2p"


async def test_a_private_service_of_this_machine_counts_unless_it_is_a_tunnel(world: World) -> None:
    async with Server(http("mine")) as mine:
        private = {"qdrant": {"port": mine.port, "test": "/", "private": True}}
        found = await checker(world, private).check("qdrant")
        assert (found.slug, found.route, found.port, found.ok) == ("qdrant", "local", mine.port, True)
    await world.add()
    tunnel = await world.forward()
    with pytest.raises(NoProvider):
        await checker(world, {"qdrant": {"port": tunnel.port, "test": "/", "private": True}}).check("qdrant")


async def test_what_answers_here_counts_though_its_evidence_does_not_fit_unless_it_is_somebodys_tunnel(
    world: World, tmp_path: Path
) -> None:
    async with Server(http("mine")) as mine:
        found = await checker(world, {"comfyui": {"port": mine.port, "test": "/"}}).check("comfyui", via="local")
        assert (found.slug, found.route, found.port, found.ok) == ("comfyui", "local", mine.port, True)
        with pytest.raises(NoProvider):
            await checker(world, {"comfyui": {"port": mine.port, "test": "/", "accept": [204]}}).check("comfyui")
    tunnel = await asyncio.to_thread(start_service, "http", name="ssh", home=tmp_path)  # the name is what tells
    try:
        with pytest.raises(NoProvider):
            await checker(world, {"comfyui": {"port": tunnel.port, "test": "/"}}).check("comfyui", via="local")
    finally:
        await asyncio.to_thread(tunnel.stop)


async def test_a_kubo_that_does_not_answer_is_no_reason_to_miss_what_runs_here(
    world: World, unused_port: Callable[[], int]
) -> None:
    assert isinstance(world.me.kubo, FakeKubo)
    await world.me.kubo.stop()
    with pytest.raises(NoProvider):
        await checker(world, {"comfyui": {"port": unused_port(), "test": "/"}}).check("comfyui")
    async with Server(http("mine")) as mine:
        assert (await checker(world, {"comfyui": {"port": mine.port, "test": "/"}}).check("comfyui")).ok


async def test_nothing_there_is_told_and_nothing_is_opened(world: World, unused_port: Callable[[], int]) -> None:
    await world.add()
    elsewhere = {slug: {"port": unused_port()} for slug in ("ollama", "qdrant")}  # another node may serve their usual ports
    for slug in elsewhere:
        with pytest.raises(NoProvider, match=f"no connection to {slug}"):
            await checker(world, elsewhere).check(slug)
    with pytest.raises(UnknownService):
        await checker(world).check("olama")
    assert world.me.forwards.list() == []
    assert [entry for entry in await world.me.kubo.p2p_ls() if not entry.is_listener] == []

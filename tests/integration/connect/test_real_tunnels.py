"""Forwards and the gate over real Kubo daemons and real services: what DESIGN §6 promises, with nothing faked."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragon.config import ConnectSettings
from dragon.connect import ForwardRequest
from dragon.errors import NoProvider, PortInUse
from dragon.kubo.client import KuboClient
from registry_schema import protocol_name
from tests.integration.connect.world import Kubos, MakeKubo, World
from tests.unit.connect.sockets import connect, end_of, get, receive, receive_all, send, until


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        yield world


async def test_a_service_is_used_over_real_tunnels_through_the_gate_and_off_leaves_nothing(world: World, kubos: Kubos) -> None:
    await world.consume(kubos[0])
    alpha = await world.provide(kubos[1], "alpha", members={kubos[0].node_id})
    before = await world.me.kubo.p2p_ls()
    result = await world.me.forwards.forward(ForwardRequest("ollama"))
    assert (result.provider, result.route, result.reused) == (alpha.node_id, "p2p", False)
    assert '"alpha"' in await get(result.port, "/whoami")
    assert (await world.me.forwards.forward(ForwardRequest("ollama"))).reused
    big = await get(result.port, "/bytes/3000000")
    assert len(big) == 3_000_000
    tally = alpha.serving.book.callers[kubos[0].node_id]
    await until(lambda: tally.open == 0)
    assert tally.received > 3_000_000
    assert await world.me.forwards.off("ollama") == 1
    await world.me.forwards.close()
    assert await world.me.kubo.p2p_ls() == before
    assert result.port not in await world.legs()


async def test_an_outsider_gets_no_byte_and_the_service_never_hears_of_it(world: World, kubos: Kubos) -> None:
    """THREATS 13: the third daemon dials what it was never offered."""
    await world.consume(kubos[2])
    alpha = await world.provide(kubos[1], "alpha", members={kubos[0].node_id}, kind="ssh")
    with pytest.raises(NoProvider):
        await world.me.forwards.forward(ForwardRequest("ollama"))
    leg = await world.me.tunnels.open_leg(protocol_name("ollama", alpha.node_id), alpha.node_id)
    for _ in range(20):
        outsider = await connect(leg.port)
        got = b""
        try:
            await send(outsider, b"let me in\n")
            got = await receive_all(outsider)
        except ConnectionError:
            pass
        outsider.close()
        assert got == b""
    await until(lambda: alpha.serving.book.refused["not admitted"] >= 20)
    assert alpha.serving.book.callers == {}


async def test_a_revoked_callers_streams_end(world: World, kubos: Kubos) -> None:
    await world.consume(kubos[0])
    alpha = await world.provide(kubos[1], "alpha", members={kubos[0].node_id}, slug="echo", kind="echo")
    result = await world.me.forwards.forward(ForwardRequest("echo"))
    client = await connect(result.port)
    await send(client, b"hello")
    assert await receive(client, 5) == b"hello"
    alpha.members.clear()
    assert alpha.serving.recheck() == 1
    assert await end_of(client) in ("end", "reset")
    client.close()


async def test_a_local_process_that_claims_to_bring_a_friend(world: World, kubos: Kubos) -> None:
    """THREATS 14: the gate's own port, dialled by this process with the line that Kubo would write."""
    await world.consume(kubos[0])
    alpha = await world.provide(kubos[1], "alpha", members={kubos[0].node_id}, kind="ssh")
    (gate,) = alpha.serving.ports()
    liar = socket.create_connection(("127.0.0.1", gate))
    liar.setblocking(False)
    got = b""
    try:
        await send(liar, kubos[0].node_id.encode() + b"\n")
        got = await receive_all(liar)
    except ConnectionError:
        pass
    liar.close()
    assert got == b""
    assert alpha.serving.book.refused["not Kubo"] == 1


async def test_a_withdrawn_service_is_gone_at_once_with_its_streams(world: World, kubos: Kubos) -> None:
    await world.consume(kubos[0])
    alpha = await world.provide(kubos[1], "alpha", slug="echo", kind="echo")
    result = await world.me.forwards.forward(ForwardRequest("echo"))
    client = await connect(result.port)
    await send(client, b"hello")
    assert await receive(client, 5) == b"hello"
    await alpha.withdraw("echo")
    assert await end_of(client) in ("end", "reset")
    client.close()
    assert alpha.serving.offers() == ()
    await until(lambda: _not_listening(alpha.kubo, "echo"))


async def _not_listening(kubo: object, slug: str) -> bool:
    assert isinstance(kubo, KuboClient)
    return not any(slug in entry.protocol for entry in await kubo.p2p_ls())


async def test_a_provider_that_vanished_between_choice_and_dial(world: World, kubo_factory: MakeKubo) -> None:
    daemons = [kubo_factory() for _ in range(3)]
    for daemon in daemons[1:]:
        daemons[0].connect(daemon)
    await world.consume(daemons[0])
    await world.provide(daemons[1], "alpha")
    beta = await world.provide(daemons[2], "beta")
    daemons[1].kill()
    for _ in range(3):
        result = await world.me.forwards.forward(ForwardRequest("ollama"))
        assert result.provider == beta.node_id
        await world.me.forwards.off(None)
    daemons[2].kill()
    with pytest.raises(NoProvider) as caught:
        await world.me.forwards.forward(ForwardRequest("ollama"))
    assert "beta: " in caught.value.hint
    assert "its node cannot be reached" in caught.value.hint


async def test_kill_9_of_the_providers_kubo_under_a_sticky_forward(world: World, kubo_factory: MakeKubo) -> None:
    daemons = [kubo_factory() for _ in range(3)]
    for daemon in daemons[1:]:
        daemons[0].connect(daemon)
    await world.consume(daemons[0])
    names = {}
    for daemon, alias in zip(daemons[1:], ("alpha", "beta"), strict=True):
        provider = await world.provide(daemon, alias)
        names[provider.node_id] = (daemon, alias)
    result = await world.me.forwards.forward(ForwardRequest("ollama"))
    daemon, alias = names.pop(result.provider)
    ((_, other),) = names.values()
    assert f'"{alias}"' in await get(result.port, "/whoami")
    slow = asyncio.create_task(get(result.port, "/sleep/60"))
    await until(lambda: world.me.forwards.list()[0].connections == 1)
    daemon.kill()
    assert f'"{other}"' in await get(result.port, "/whoami")
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    info = world.me.forwards.list()[0]
    assert (info.port, info.alias) == (result.port, other)


async def test_a_frozen_providers_connections_end_and_the_port_answers_again(world: World, kubo_factory: MakeKubo) -> None:
    """A peer that says nothing any more would hold a Kubo leg for 30 s: the vigil notices."""
    daemons = [kubo_factory() for _ in range(3)]
    for daemon in daemons[1:]:
        daemons[0].connect(daemon)
    await world.consume(daemons[0])
    names = {}
    for daemon, alias in zip(daemons[1:], ("alpha", "beta"), strict=True):
        provider = await world.provide(daemon, alias, slug="echo", kind="echo")
        names[provider.node_id] = daemon
    result = await world.me.forwards.forward(ForwardRequest("echo"))
    frozen = names.pop(result.provider)
    client = await connect(result.port)
    await send(client, b"hello")
    assert await receive(client, 5) == b"hello"
    frozen.freeze()
    await send(client, b"anybody there?")
    assert await end_of(client) == "reset"
    client.close()
    again = await connect(result.port)
    await send(again, b"hello")
    assert await receive(again, 5) == b"hello"
    again.close()
    assert world.me.forwards.list()[0].provider in names
    frozen.thaw()


async def test_a_provider_that_accepts_and_never_answers(world: World, kubos: Kubos) -> None:
    await world.consume(kubos[0], ConnectSettings(test_timeout=3.0))
    await world.provide(kubos[1], "alpha", kind="silent")
    with pytest.raises(NoProvider) as caught:
        await world.me.forwards.forward(ForwardRequest("ollama"))
    assert "no answer within 3 s" in caught.value.hint
    beta = await world.provide(kubos[2], "beta")
    assert (await world.me.forwards.forward(ForwardRequest("ollama"))).provider == beta.node_id


async def test_raw_and_a_port_that_is_taken(world: World, kubos: Kubos) -> None:
    await world.consume(kubos[0])
    await world.provide(kubos[1], "alpha")
    raw = await world.me.forwards.forward(ForwardRequest("ollama", raw=True))
    assert raw.port in await world.legs()
    assert '"alpha"' in await get(raw.port, "/whoami")
    with pytest.raises(PortInUse, match="ipfs"):
        await world.me.forwards.forward(ForwardRequest("ollama", port=raw.port))
    assert await world.me.forwards.off(None) == 1
    assert raw.port not in await world.legs()


async def test_the_consumers_daemon_restarts_under_a_forward(world: World, kubo_factory: MakeKubo) -> None:
    mine, theirs = kubo_factory(), kubo_factory()
    mine.connect(theirs)
    await world.consume(mine)
    await world.provide(theirs, "alpha")
    result = await world.me.forwards.forward(ForwardRequest("ollama"))
    assert '"alpha"' in await get(result.port, "/whoami")
    mine.kill()
    mine.start()
    mine.connect(theirs)

    async def answers() -> bool:
        try:
            return '"alpha"' in await get(result.port, "/whoami")
        except ConnectionError:
            return False

    await until(answers, 60)


async def test_close_all_by_somebody_else_is_repaired(world: World, kubo_factory: MakeKubo) -> None:
    mine, theirs = kubo_factory(), kubo_factory()
    mine.connect(theirs)
    await world.consume(mine)
    await world.provide(theirs, "alpha")
    result = await world.me.forwards.forward(ForwardRequest("ollama"))
    for daemon in (mine, theirs):
        daemon.ipfs("p2p", "close", "--all")

    async def answers() -> bool:
        try:
            return '"alpha"' in await get(result.port, "/whoami")
        except ConnectionError:
            return False

    await until(answers, 60)


async def test_private_services_never_listen(world: World, kubos: Kubos) -> None:
    await world.consume(kubos[0])
    alpha = await world.provide(kubos[1], "alpha")
    from dragon.probe import Finding

    alpha.findings["npm"] = Finding("npm", world.services[0].port, "passing", {}, 0, "test")
    await alpha.survey()
    assert [offer.slug for offer in alpha.serving.offers()] == ["ollama"]
    assert not any("npm" in entry.protocol for entry in await alpha.kubo.p2p_ls())


def test_the_tools_of_these_tests_are_real(kubos: Kubos) -> None:
    assert subprocess.run([kubos[0].binary, "version"], capture_output=True, text=True, check=True).stdout.startswith(
        "ipfs version"
    )

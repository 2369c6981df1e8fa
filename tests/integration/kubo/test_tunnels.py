"""The tunnels on real daemons: what others close heals, what others opened stays, what a crash left is closed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import pytest

from dragon.clock import SystemClock
from dragon.errors import KuboBusy
from dragon.kubo.client import KuboClient
from dragon.kubo.plan import Listener
from dragon.kubo.tunnels import Tunnels
from dragon.kubo.types import loopback_target
from tests.integration.kubo.conftest import Kubos
from tests.testbed.kubo import KuboDaemon, until


def tunnels_on(client: KuboClient, path: Path, name: str = "tunnels") -> Tunnels:
    return Tunnels(client, path / f"{name}.json", SystemClock())


async def mine(client: KuboClient, unique: str) -> set[tuple[str, int | None]]:
    entries = [entry for entry in await client.p2p_ls() if unique in entry.protocol]
    return {(entry.protocol.removeprefix(f"/x/{unique}-"), entry.listener_port or entry.leg_port) for entry in entries}


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def test_a_tunnel_from_end_to_end(
    client: KuboClient, other: KuboClient, kubos: Kubos, unique: str, tmp_path: Path
) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    here, there = tunnels_on(client, tmp_path, "here"), tunnels_on(other, tmp_path, "there")
    protocol = f"/x/{unique}-echo"
    try:
        here.listen(Listener(protocol, server.sockets[0].getsockname()[1]))
        await here.settle()
        assert here.is_up(protocol)
        leg = await there.open_leg(protocol, kubos[0].node_id)
        assert leg.port in there.foreign_ports()
        reader, writer = await asyncio.open_connection(leg.host, leg.port)
        writer.write(b"x" * 100_000)
        assert await asyncio.wait_for(reader.readexactly(100_000), 30) == b"x" * 100_000

        here.unlisten(protocol)  # withdrawn: what runs through it ends, too
        await here.settle()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 30)
        writer.close()
        await there.close_leg(leg)
        assert await mine(other, unique) == set()
    finally:
        server.close()
        await here.close()
        await there.close()


async def test_close_all_by_somebody_else_and_a_restart_heal(
    kubo_factory: Callable[..., KuboDaemon], unique: str, tmp_path: Path
) -> None:
    daemon = kubo_factory()
    async with KuboClient(daemon.api) as client:
        tunnels = tunnels_on(client, tmp_path)
        running = asyncio.create_task(tunnels.run())
        changes: list[bool] = []
        protocol = f"/x/{unique}-ssh"
        tunnels.on_change(lambda: changes.append(tunnels.is_up(protocol)))
        tunnels.listen(Listener(protocol, 22, report_peer_id=True))
        leg = await tunnels.open_leg(f"/x/{unique}-leg", "12D3KooWNDTksApL4oZ2SWGUJwYRQ4TW7JDn6USnjuii4Vby6b5E")
        expected = {("ssh", 22), ("leg", leg.port)}

        async def healed() -> bool:
            return tunnels.is_up(protocol) and leg.up and await mine(client, unique) == expected

        await until(healed)
        daemon.ipfs("p2p", "close", "--all")
        await tunnels.settle()  # one reconcile is enough
        assert await healed()

        daemon.kill()
        await until(lambda: not tunnels.is_up(protocol) and not leg.up)
        assert tunnels.problem(protocol)
        daemon.start()
        await until(healed)
        assert [up for up, _ in groupby(changes)][-2:] == [False, True]  # the leg may come back after the listener
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await tunnels.close()
        assert await mine(client, unique) == set()


async def test_what_others_opened_is_adopted_and_left_standing(client: KuboClient, unique: str, tmp_path: Path) -> None:
    await client.p2p_listen(f"/x/{unique}-same", loopback_target(22))
    await client.p2p_listen(f"/x/{unique}-else", loopback_target(80))
    tunnels = tunnels_on(client, tmp_path)
    try:
        tunnels.listen(Listener(f"/x/{unique}-same", 22))
        tunnels.listen(Listener(f"/x/{unique}-else", 81))
        tunnels.listen(Listener(f"/x/{unique}-ours", 82))
        await tunnels.settle()
        assert tunnels.is_up(f"/x/{unique}-same")
        assert not tunnels.is_up(f"/x/{unique}-else")
        assert "another program" in str(tunnels.problem(f"/x/{unique}-else"))
        await tunnels.close()
        assert await mine(client, unique) == {("same", 22), ("else", 80)}
    finally:
        await client.p2p_close(protocol=f"/x/{unique}-same")
        await client.p2p_close(protocol=f"/x/{unique}-else")


async def test_after_a_crash_only_ours_is_closed(client: KuboClient, unique: str, tmp_path: Path) -> None:
    await client.p2p_listen(f"/x/{unique}-theirs", loopback_target(80))
    crashed = tunnels_on(client, tmp_path)
    crashed.listen(Listener(f"/x/{unique}-gate", 4000, report_peer_id=True))
    await crashed.settle()
    await crashed.open_leg(f"/x/{unique}-leg", "12D3KooWNDTksApL4oZ2SWGUJwYRQ4TW7JDn6USnjuii4Vby6b5E")
    assert len(await mine(client, unique)) == 3
    try:
        restarted = tunnels_on(client, tmp_path)
        await restarted.settle()
        assert await mine(client, unique) == {("theirs", 80)}
        assert not (tmp_path / "tunnels.json").exists()
    finally:
        await client.p2p_close(protocol=f"/x/{unique}-theirs")


async def test_two_on_one_daemon(client: KuboClient, unique: str, tmp_path: Path) -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    first, second = tunnels_on(client, tmp_path, "first"), tunnels_on(client, tmp_path, "second")
    name = f"/x/{unique}-dragon"
    try:
        await first.claim(name, port, report_peer_id=True)
        with pytest.raises(KuboBusy):
            await second.claim(name, port + 1)
        server.close()
        await server.wait_closed()
        await second.claim(name, 4001, report_peer_id=True)
        assert await mine(client, unique) == {("dragon", 4001)}
    finally:
        server.close()
        await second.close()
        await first.close()
        assert await mine(client, unique) == set()

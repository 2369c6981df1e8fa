"""The tunnels on an in-memory daemon: adoption, ownership, journal, restarts."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest

from dragon.errors import KuboBusy, KuboRefused, KuboUnreachable
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.plan import Listener
from dragon.kubo.tunnels import Tunnels
from dragon.kubo.types import P2PEntry, loopback_target
from tests.unit.kubo.clocks import HandClock, eventually


@pytest.fixture
def network() -> FakeNetwork:
    return FakeNetwork()


@pytest.fixture
def kubo(network: FakeNetwork) -> FakeKubo:
    return FakeKubo(network, seed=1)


def tunnels_on(kubo: FakeKubo, path: Path, **options: object) -> Tunnels:
    return Tunnels(kubo, path / "tunnels.json", HandClock(), **options)  # type: ignore[arg-type]


async def entries(kubo: FakeKubo) -> set[tuple[str, int | None]]:
    return {(entry.protocol, entry.listener_port or entry.leg_port) for entry in await kubo.p2p_ls()}


async def test_a_desired_listener_stands_and_a_withdrawn_one_goes(kubo: FakeKubo, tmp_path: Path) -> None:
    tunnels = tunnels_on(kubo, tmp_path)
    changes: list[bool] = []
    tunnels.on_change(lambda: changes.append(tunnels.is_up("/x/ssh")))
    tunnels.listen(Listener("/x/ssh", 22))
    assert not tunnels.is_up("/x/ssh")
    assert tunnels.problem("/x/ssh")
    await tunnels.settle()
    assert tunnels.is_up("/x/ssh")
    assert tunnels.problem("/x/ssh") is None
    tunnels.listen(Listener("/x/ssh", 2222))
    await tunnels.settle()
    assert await entries(kubo) == {("/x/ssh", 2222)}
    tunnels.unlisten("/x/ssh")
    assert not tunnels.is_up("/x/ssh")
    await tunnels.settle()
    assert await entries(kubo) == set()
    assert changes == [True, False]
    assert not (tmp_path / "tunnels.json").exists()


async def test_an_adopted_listener_is_never_closed(kubo: FakeKubo, tmp_path: Path) -> None:
    await kubo.p2p_listen("/x/ssh", loopback_target(22))
    tunnels = tunnels_on(kubo, tmp_path)
    tunnels.listen(Listener("/x/ssh", 22))
    await tunnels.settle()
    assert tunnels.is_up("/x/ssh")
    tunnels.unlisten("/x/ssh")
    await tunnels.settle()
    await tunnels.close()
    assert await entries(kubo) == {("/x/ssh", 22)}


async def test_everything_heals_after_close_all_and_after_a_restart(kubo: FakeKubo, tmp_path: Path) -> None:
    other = FakeKubo(kubo.network, seed=2)
    tunnels = tunnels_on(kubo, tmp_path)
    tunnels.listen(Listener("/x/ssh", 22))
    leg = await tunnels.open_leg("/x/ollama", other.node_id)
    await tunnels.settle()
    before = leg.port
    await kubo.forget_tunnels()
    await tunnels.settle()
    assert await entries(kubo) == {("/x/ssh", 22), ("/x/ollama", before)}

    seen: list[tuple[bool, bool]] = []
    tunnels.on_change(lambda: seen.append((tunnels.is_up("/x/ssh"), leg.up)))
    await kubo.stop()
    await tunnels.settle()
    assert not tunnels.is_up("/x/ssh")
    assert "does not answer" in str(tunnels.problem("/x/ssh"))
    with socket.socket() as thief:  # somebody takes the leg's port while the daemon is away
        thief.bind(("127.0.0.1", before))
        thief.listen()
        kubo.start()
        await tunnels.settle()
    assert tunnels.is_up("/x/ssh")
    assert leg.up
    assert leg.port != before
    assert seen == [(False, False), (True, True)]
    assert tunnels.foreign_ports() == {leg.port}
    await tunnels.close()
    assert await entries(kubo) == set()


async def test_a_crash_leaves_a_journal_that_closes_only_ours(kubo: FakeKubo, tmp_path: Path) -> None:
    await kubo.p2p_listen("/x/theirs", loopback_target(80))
    crashed = tunnels_on(kubo, tmp_path)
    crashed.listen(Listener("/x/ours", 4000, report_peer_id=True))
    await crashed.settle()
    leg = await crashed.open_leg("/x/ollama", "12D3KooWsomebody")
    assert await entries(kubo) == {("/x/theirs", 80), ("/x/ours", 4000), ("/x/ollama", leg.port)}

    fresh = tunnels_on(kubo, tmp_path)
    fresh.listen(Listener("/x/ours", 4001, report_peer_id=True))
    await fresh.settle()
    assert await entries(kubo) == {("/x/theirs", 80), ("/x/ours", 4001)}
    assert fresh.is_up("/x/ours")
    await kubo.close()


@pytest.mark.parametrize("content", [b"", b"{", b'{"format": 7, "ours": []}', b'{"format": 1, "ours": [[1]]}', b"\xff\0"])
async def test_a_torn_journal_is_set_aside(kubo: FakeKubo, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tunnels.json").write_bytes(content)
    await tunnels_on(kubo, tmp_path).settle()
    assert (tmp_path / "tunnels.json.aside-1").read_bytes() == content


async def test_the_journal_is_there_before_the_listener(
    kubo: FakeKubo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journaled: list[object] = []
    listen = kubo.p2p_listen

    async def observed(protocol: str, target: str, *, report_peer_id: bool = False) -> None:
        journaled.extend(json.loads(await asyncio.to_thread((tmp_path / "tunnels.json").read_text))["ours"])
        await listen(protocol, target, report_peer_id=report_peer_id)

    monkeypatch.setattr(kubo, "p2p_listen", observed)
    tunnels = tunnels_on(kubo, tmp_path)
    tunnels.listen(Listener("/x/ssh", 22))
    await tunnels.settle()
    assert journaled == [["/x/ssh", "", "/ip4/127.0.0.1/tcp/22", False]]


async def test_a_journal_that_cannot_be_written_stops_nothing(kubo: FakeKubo, tmp_path: Path) -> None:
    tunnels = tunnels_on(kubo, tmp_path / "missing")
    tunnels.listen(Listener("/x/ssh", 22))
    await tunnels.settle()
    assert tunnels.is_up("/x/ssh")


async def test_forbidden_ports_and_ends_of_tunnels_are_never_listened_towards(kubo: FakeKubo, tmp_path: Path) -> None:
    tunnels = tunnels_on(kubo, tmp_path, forbidden=lambda: frozenset({5001}))
    leg = await tunnels.open_leg("/x/ollama", "12D3KooWsomebody")
    tunnels.listen(Listener("/x/api", 5001))
    tunnels.listen(Listener("/x/again", leg.port))
    await tunnels.settle()
    assert await entries(kubo) == {("/x/ollama", leg.port)}
    assert "never offered" in str(tunnels.problem("/x/api"))
    assert "tunnel" in str(tunnels.problem("/x/again"))
    await tunnels.close()


@pytest.mark.parametrize("port", [0, -1, 65536])
async def test_what_is_no_port_is_a_problem_and_no_crash(kubo: FakeKubo, tmp_path: Path, port: int) -> None:
    with pytest.raises(ValueError, match="not a port"):
        Listener("/x/ssh", port)


async def test_a_name_is_claimed_once_per_daemon(kubo: FakeKubo, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    first, second = tunnels_on(kubo, tmp_path / "a"), tunnels_on(kubo, tmp_path / "b")
    await first.claim("/x/dragon-me", port)
    assert first.is_up("/x/dragon-me")
    with pytest.raises(KuboBusy, match="another Dragon") as busy:
        await second.claim("/x/dragon-me", 4001)
    assert "p2p close" in busy.value.hint

    server.close()
    await server.wait_closed()
    await second.claim("/x/dragon-me", 4001)  # the first one is gone: taken over
    assert await entries(kubo) == {("/x/dragon-me", 4001)}
    with pytest.raises(KuboRefused):
        await second.claim("/y/not-allowed", 4001)


async def test_our_own_left_over_claim_is_taken_over_even_if_the_port_answers(kubo: FakeKubo, tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await tunnels_on(kubo, tmp_path).claim("/x/dragon-me", port)
    restarted = tunnels_on(kubo, tmp_path)
    await restarted.claim("/x/dragon-me", 4001)
    assert await entries(kubo) == {("/x/dragon-me", 4001)}
    server.close()


async def test_closing_a_leg_ends_its_connections(kubo: FakeKubo, tmp_path: Path) -> None:
    other = FakeKubo(kubo.network, seed=2)

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    await other.p2p_listen("/x/ollama", loopback_target(server.sockets[0].getsockname()[1]))
    tunnels = tunnels_on(kubo, tmp_path)
    leg = await tunnels.open_leg("/x/ollama", other.node_id)
    reader, writer = await asyncio.open_connection(leg.host, leg.port)
    await eventually(kubo.p2p_streams)
    await tunnels.close_leg(leg)
    assert await reader.read() == b""
    assert await kubo.p2p_streams() == []
    assert await entries(kubo) == set()
    writer.close()
    await writer.wait_closed()
    server.close()
    await other.close()


async def test_legs_of_a_dead_daemon_are_refused_and_forgotten(kubo: FakeKubo, tmp_path: Path) -> None:
    tunnels = tunnels_on(kubo, tmp_path)
    await kubo.stop()
    with pytest.raises(KuboUnreachable):
        await tunnels.open_leg("/x/ollama", "12D3KooWsomebody")
    kubo.start()
    await tunnels.settle()
    assert await entries(kubo) == set()


async def test_run_reconciles_when_woken_and_when_time_passes(kubo: FakeKubo, tmp_path: Path) -> None:
    clock = HandClock()
    tunnels = Tunnels(kubo, tmp_path / "tunnels.json", clock)
    running = asyncio.create_task(tunnels.run())

    async def stands() -> bool:
        return ("/x/ssh", 22) in await entries(kubo)

    tunnels.listen(Listener("/x/ssh", 22))
    await eventually(stands)  # without the clock moving
    await kubo.forget_tunnels()
    looks = kubo.calls.count("p2p_ls")
    while kubo.calls.count("p2p_ls") == looks:
        await clock.turn(0.5)
    await eventually(stands)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_targets_are_loopback_by_construction() -> None:
    assert Listener("/x/ssh", 22).entry() == P2PEntry("/x/ssh", "", "/ip4/127.0.0.1/tcp/22")

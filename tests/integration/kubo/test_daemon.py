"""The managed daemon, with the real thing: started, crashed, hung, left behind, in its way."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from dragon.errors import ConfigError, KuboRefused, KuboUnreachable
from dragon.home import Home
from dragon.kubo import daemon as module
from dragon.kubo.client import KuboClient
from dragon.kubo.configuration import Ports
from dragon.kubo.daemon import LOG_BOUND, ManagedDaemon
from dragon.kubo.process import left_over
from tests.testbed.kubo import KuboDaemon, is_running, is_stopped, until


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def config_of(home: Home) -> dict[str, object]:
    value: dict[str, object] = json.loads((home.kubo_repo / "config").read_text())
    return value


async def answers(daemon: ManagedDaemon) -> bool:
    async with KuboClient(daemon.api) as client:
        try:
            return (await client.identity()).node_id == daemon.node_id
        except KuboUnreachable:
            return False


async def test_it_runs_with_everything_on_and_talks_to_nobody_when_isolated(home: Home, kubo_binary: Path, unique: str) -> None:
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        pid = daemon.pid
        assert pid is not None
        async with KuboClient(daemon.api) as client:
            identity = await client.identity()
            assert identity.node_id == daemon.node_id
            assert {address.split("/")[2] for address in identity.addresses} == {"127.0.0.1"}
            assert await client.p2p_ls() == []
            async with client.subscribe(unique) as messages:
                await client.publish(unique, b"x")
                assert (await asyncio.wait_for(anext(messages), 30)).data == b"x"
            assert (await client.ask("name/pubsub/state"))["Enabled"]
            assert await client.peers() == []
            cid = await client.add_directory({"dragon.manifest": b"m"})
            await client.name_publish(cid, lifetime="48h", ttl="1m")  # alone: nobody to tell is no failure
            assert await client.cat(f"/ipns/{daemon.node_id}/dragon.manifest", limit=10) == b"m"
            assert await client.sign(b"x")
        config = config_of(home)
        assert config["Bootstrap"] == []
        assert config["AutoConf"] == {"Enabled": False}
        assert daemon.restarts == 0
        assert "Daemon is ready" in home.kubo_log.read_text()
    assert not is_running(pid)


async def test_identity_and_ports_stay_over_restarts_of_the_node(home: Home, kubo_binary: Path) -> None:
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        first = daemon.node_id, daemon.ports
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        assert (daemon.node_id, daemon.ports) == first
        assert not daemon.adopted


async def test_a_crash_is_mended(home: Home, kubo_binary: Path) -> None:
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        api, pid = daemon.api, daemon.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await until(lambda: daemon.restarts == 1, bound=90)
        assert daemon.api == api
        assert daemon.pid != pid
        assert await answers(daemon)
        assert daemon.trouble == ""


async def test_a_hung_daemon_is_noticed_killed_and_started_anew(home: Home, kubo_binary: Path) -> None:
    async with ManagedDaemon(home, kubo_binary, isolated=True, health_interval=0.1, health_limit=1) as daemon:
        pid = daemon.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: "does not answer" in daemon.trouble or daemon.restarts)
        await until(lambda: daemon.restarts >= 1, bound=90)
        assert daemon.pid != pid
        assert not is_running(pid)


KILLED_NODE = """
    import asyncio, os, sys
    from pathlib import Path
    from dragon.home import Home
    from dragon.kubo.daemon import ManagedDaemon

    async def main():
        home = Home(Path(sys.argv[1]))
        home.prepare()
        async with ManagedDaemon(home, Path(sys.argv[2]), isolated=True) as daemon:
            print(daemon.pid, daemon.node_id, daemon.api, flush=True)
            await asyncio.sleep(600)

    asyncio.run(main())
"""


def leave_behind(home: Home, binary: Path) -> tuple[int, str, str]:
    """Run a node and kill it with -9; return what it left: pid, node id, api."""
    node = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(KILLED_NODE), str(home.root), str(binary)], stdout=subprocess.PIPE, text=True
    )
    assert node.stdout is not None
    try:
        pid, node_id, api = node.stdout.readline().split()
    finally:
        node.kill()
        node.wait()
        node.stdout.close()
    return int(pid), node_id, api


async def test_what_a_killed_node_left_running_is_adopted_supervised_and_stopped(home: Home, kubo_binary: Path) -> None:
    pid, node_id, api = leave_behind(home, kubo_binary)
    assert left_over(home.kubo_repo) == pid
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        assert (daemon.pid, daemon.node_id, daemon.api, daemon.adopted) == (pid, node_id, api, True)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: daemon.restarts == 1, bound=90)
        assert await answers(daemon)
        own = daemon.pid or 0
        assert not daemon.adopted
    assert left_over(home.kubo_repo) is None
    assert not is_running(own)


@pytest.mark.parametrize("why", ["other settings", "hangs"])
async def test_what_a_killed_node_left_behind_is_stopped_when_it_will_not_do(home: Home, kubo_binary: Path, why: str) -> None:
    pid, node_id, _ = leave_behind(home, kubo_binary)
    if why == "hangs":
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: is_stopped(pid))
    else:
        path = home.kubo_repo / "config"
        path.write_text(path.read_text().replace('"UsePubsub": true', '"UsePubsub": false'))
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        assert not daemon.adopted
        assert not is_running(pid)
        assert daemon.pid != pid
        assert daemon.node_id == node_id
        assert await answers(daemon)


async def test_a_taken_api_port_is_replaced(home: Home, kubo_binary: Path) -> None:
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        before = daemon.ports
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind(("127.0.0.1", before.api))
        thief.listen()
        async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
            assert daemon.ports.api != before.api
            assert daemon.ports.swarm == before.swarm
            assert await answers(daemon)


async def test_a_port_taken_between_choice_and_start_is_one_clear_line_then_replaced(
    home: Home, kubo_binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose, given = module._free, []

    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()

        def unlucky(*arguments: object) -> object:
            ports = choose(*arguments)  # type: ignore[arg-type]
            given.append(ports)
            return Ports(thief.getsockname()[1], ports.swarm) if len(given) == 1 else ports

        monkeypatch.setattr(module, "_free", unlucky)
        async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
            assert len(given) == 2
            assert await answers(daemon)


async def test_a_locked_repo_is_one_clear_line(home: Home, kubo_binary: Path) -> None:
    async with ManagedDaemon(home, kubo_binary, isolated=True):
        pass
    stranger = KuboDaemon(kubo_binary, home.kubo_repo)  # somebody runs `ipfs daemon` on our repo by hand
    stranger.start()
    try:
        with pytest.raises(KuboRefused, match=rf"in use by another process \(pid {stranger.pid}\)") as error:
            async with ManagedDaemon(home, kubo_binary, isolated=True):
                pass
        assert str(home.kubo_log) in error.value.hint
        assert stranger.process is not None
        assert stranger.process.poll() is None  # never ended: it is not ours
    finally:
        stranger.stop()


async def test_subscriptions_are_closed_before_it_is_stopped(home: Home, kubo_binary: Path, unique: str) -> None:
    """Kubo ends only 30 s after SIGTERM while a subscription is open; closed first, it ends politely within the grace."""
    order: list[str] = []
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        client = KuboClient(daemon.api)
        subscribed = asyncio.Event()

        async def listen() -> None:
            async with client.subscribe(unique) as messages:
                subscribed.set()
                with pytest.raises(KuboUnreachable):
                    await anext(messages)
            order.append("subscription ended")

        task = asyncio.create_task(listen())
        await subscribed.wait()
        daemon.before_stop.append(client.close)
        process = daemon._process
        assert process is not None
        polite: list[bool] = []
        stop = process.stop

        async def observed(grace: float) -> bool:
            order.append("stopped")
            polite.append(await stop(grace))
            return polite[0]

        process.stop = observed  # type: ignore[method-assign]
    await task
    assert polite == [True]
    assert order == ["subscription ended", "stopped"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]"])
async def test_a_torn_repo_is_set_aside(home: Home, kubo_binary: Path, content: bytes | None) -> None:
    home.kubo_repo.mkdir()
    (home.kubo_repo / "datastore").mkdir()
    if content is not None:
        (home.kubo_repo / "config").write_bytes(content)
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        assert await answers(daemon)
    assert (home.root / "kubo.aside-1" / "datastore").is_dir()


async def test_a_closed_swarm_connects_only_those_with_the_key(home: Home, kubo_binary: Path, tmp_path: Path) -> None:
    key = tmp_path / "swarm.key"
    key.write_text("/key/swarm/psk/1.0.0/\n/base16/\n" + "a1" * 32 + "\n")
    others = [Home(tmp_path / name) for name in ("friend", "stranger")]
    for other in others:
        other.prepare()
    async with (
        ManagedDaemon(home, kubo_binary, isolated=True, swarm_key=key) as mine,
        ManagedDaemon(others[0], kubo_binary, isolated=True, swarm_key=key) as friend,
        ManagedDaemon(others[1], kubo_binary, isolated=True) as stranger,
        KuboClient(mine.api) as client,
    ):
        address = f"/ip4/127.0.0.1/tcp/{friend.ports.swarm}/p2p/{friend.node_id}"
        await client.connect(address)
        assert {peer.node_id for peer in await client.peers()} == {friend.node_id}
        with pytest.raises((KuboRefused, KuboUnreachable)):
            await client.connect(f"/ip4/127.0.0.1/tcp/{stranger.ports.swarm}/p2p/{stranger.node_id}")
        assert "private network" in home.kubo_log.read_text()
    # without the setting the key goes, and the network is an open one again
    async with ManagedDaemon(home, kubo_binary, isolated=True):
        assert not (home.kubo_repo / "swarm.key").exists()


async def test_what_is_no_swarm_key_is_said_so(home: Home, kubo_binary: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "swarm.key"
    wrong.write_text("hello")
    with pytest.raises(ConfigError, match="not a Kubo swarm key"):
        async with ManagedDaemon(home, kubo_binary, swarm_key=wrong):
            pass
    with pytest.raises(KuboRefused, match="cannot be read"):
        async with ManagedDaemon(home, kubo_binary, swarm_key=tmp_path / "none"):
            pass


async def test_the_log_is_bounded(home: Home, kubo_binary: Path) -> None:
    home.kubo_log.write_bytes(b"old\n" * (LOG_BOUND // 4 + 1))
    async with ManagedDaemon(home, kubo_binary, isolated=True, health_interval=0.1) as daemon:
        assert home.kubo_log.stat().st_size < LOG_BOUND
        assert home.kubo_log.with_name("kubo.log.1").stat().st_size > LOG_BOUND
        with home.kubo_log.open("ab") as log:  # as the daemon itself would, while it runs
            log.write(b"new\n" * (LOG_BOUND // 4 + 1))
        await until(lambda: home.kubo_log.stat().st_size < LOG_BOUND)
        assert await answers(daemon)


async def test_a_binary_that_is_none_is_one_clear_line(home: Home, tmp_path: Path) -> None:
    for content in (b"#!/bin/sh\nexit 3\n", b"not a program"):
        fake = tmp_path / "ipfs"
        fake.write_bytes(content)
        fake.chmod(0o755)
        with pytest.raises(KuboRefused, match="repo cannot be made") as error:
            async with ManagedDaemon(home, fake):
                pass
        assert error.value.hint
        assert list(home.root.glob("kubo*")) == []


async def test_a_second_daemon_of_the_test_bed_is_never_taken_for_a_left_over(
    kubo_factory: Callable[..., KuboDaemon], home: Home, kubo_binary: Path
) -> None:
    other = kubo_factory()
    async with ManagedDaemon(home, kubo_binary, isolated=True) as daemon:
        assert daemon.pid != other.pid
    assert other.process is not None
    assert other.process.poll() is None

"""Beside the Bash DRAGON: who runs, who goes first, who publishes; and what a swarm key of zeros is."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragon.astroport import beside
from dragon.astroport.beside import after_the_scripts, publisher_in_the_way, services
from dragon.astroport.private_network import network_findings
from dragon.astroport.reached import best_first
from dragon.astroport.scripts_running import Script, running_scripts, script_in
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.types import P2PEntry
from tests.unit.kubo.clocks import HandClock

NODE = "12D3KooWself"


@pytest.mark.parametrize(
    ("words", "script"),
    [
        (["bash", "/home/a/.zen/Astroport.ONE/_12345.sh"], "_12345.sh"),
        (["/bin/bash", "-x", "./_12345.sh", "ON"], "_12345.sh"),
        (["/home/a/.zen/Astroport.ONE/RUNTIME/DRAGON_p2p_ssh.sh", "ON"], "DRAGON_p2p_ssh.sh"),
        (["bash", "-c", "echo _12345.sh"], None),
        (["grep", "_12345.sh"], None),
        (["vim", "/home/a/_12345.sh"], None),
        (["tail", "-f", "/tmp/_12345.sh"], None),
        (["bash", "my_12345.sh"], None),
        (["bash"], None),
        ([], None),
    ],
)
def test_a_script_runs_where_a_shell_was_given_it(words: list[str], script: str | None) -> None:
    assert script_in(words) == script


@pytest.fixture
def pretended(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    path = tmp_path / "_12345.sh"
    path.write_text("echo up\nread -r forever\n")
    process = subprocess.Popen(
        ["bash", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"HOME": str(tmp_path), "PATH": os.environ["PATH"]},
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == b"up\n"
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_real_process_is_found_by_its_station_s_home_only(pretended: subprocess.Popen[bytes], tmp_path: Path) -> None:
    found = Script("_12345.sh", pretended.pid)
    assert found in running_scripts({"HOME": str(tmp_path)}, uid=os.getuid())
    assert found not in running_scripts({"HOME": "/home/other"}, uid=os.getuid())
    assert found not in running_scripts({"HOME": str(tmp_path)}, uid=os.getuid() + 1)
    pretended.kill()
    pretended.wait()
    assert found not in running_scripts({"HOME": str(tmp_path)})


def test_without_proc_nobody_is_seen(tmp_path: Path) -> None:
    assert running_scripts({}, proc=tmp_path / "none") == ()


def test_only_the_publisher_is_in_the_way_of_publishing() -> None:
    assert publisher_in_the_way([]) == ""
    assert publisher_in_the_way([Script("DRAGON_p2p_ssh.sh", 3)]) == ""
    assert "pid 7" in publisher_in_the_way([Script("_12345.sh", 7)])


def test_services_are_the_listeners_under_our_id() -> None:
    def listener(name: str, node: str = NODE) -> P2PEntry:
        return P2PEntry(f"/x/{name}-{node}", f"/p2p/{NODE}", "/ip4/127.0.0.1/tcp/5000")

    forward = P2PEntry(f"/x/qdrant-{NODE}", "/ip4/127.0.0.1/tcp/6333", "/p2p/12D3KooWother")
    entries = [listener("webtop-http"), listener("dragon"), listener("ollama"), listener("ssh", "12D3KooWother"), forward]
    assert list(services(entries, NODE)) == ["ollama", "webtop-http"]


class Waiting:
    """`bash_first` on a daemon in memory; `scripts` are those that run."""

    def __init__(self, *scripts: str) -> None:
        self.kubo, self.clock = FakeKubo(FakeNetwork(), seed=1), HandClock()
        self.scripts = set(scripts)
        self.task = asyncio.create_task(after_the_scripts(self.kubo.node_id, self.kubo, self.clock, self._running))

    def _running(self) -> list[Script]:
        return [Script(name, 1) for name in sorted(self.scripts)]

    async def turn(self, seconds: float = beside.LOOK) -> bool:
        """Let time pass; tell whether it still waits."""
        await self._settled()
        await self.clock.turn(seconds)
        await self._settled()
        return not self.task.done()

    async def _settled(self) -> None:
        """Return when its look, which asks in a thread, is over: it waits for the next one, or is done."""
        while not self.task.done() and not self.clock.sleepers:  # noqa: ASYNC110
            await asyncio.sleep(0.001)

    async def listen(self, slug: str) -> None:
        await self.kubo.p2p_listen(f"/x/{slug}-{self.kubo.node_id}", "/ip4/127.0.0.1/tcp/11434")


async def test_the_bash_dragon_goes_first_until_it_has_opened_everything() -> None:
    waiting = Waiting("_12345.sh")
    assert await waiting.turn()
    waiting.scripts.add("DRAGON_p2p_ssh.sh")
    await waiting.listen("ollama")
    assert await waiting.turn(), "it is not done yet"
    waiting.scripts.discard("DRAGON_p2p_ssh.sh")
    assert not await waiting.turn()
    waiting.task.result()


async def test_nothing_is_waited_for_where_no_script_runs_and_never_for_ever() -> None:
    assert not await Waiting().turn(0)
    waiting = Waiting("_12345.sh")
    assert await waiting.turn()
    assert not await waiting.turn(beside.FIRST_BOUND)


@pytest.mark.parametrize(
    ("text", "is_zero"),
    [
        ("/key/swarm/psk/1.0.0/\n/base16/\n" + "0" * 64 + "\n", True),
        ("/key/swarm/psk/1.0.0/\n/base16/\n" + "0" * 63 + "1\n", False),
        ("", False),
        ("\xff\xfe", False),
    ],
)
def test_the_key_of_zeros_is_told_and_left(tmp_path: Path, text: str, is_zero: bool) -> None:
    (tmp_path / "swarm.key").write_text(text)
    found = network_findings(tmp_path)
    assert bool(found) == is_zero
    assert (tmp_path / "swarm.key").read_text() == text
    if found:
        assert "public peers are unreachable" in found[0].detail
        assert "TCP only" in found[0].detail
        assert found[0].apply is None, "it is never ours to change"
    assert network_findings(tmp_path / "gone") == []


def test_addresses_best_first() -> None:
    given = [
        "/ip4/127.0.0.1/tcp/4001/p2p/12D3KooWself", "/ip6/::1/tcp/4001", "/ip4/192.168.1.5/udp/4001/quic-v1",
        "/ip4/192.168.1.5/tcp/4001/p2p/12D3KooWself", "/ip4/9.9.9.9/udp/4001/quic-v1", "/ip4/9.9.9.9/tcp/4001",
        "/ip4/9.9.9.9/tcp/4001/p2p/12D3KooWrelay/p2p-circuit", "/dns4/a.org/tcp/4001", "/ip6/2001:4860::1/tcp/4001",
        "/ip4/9.9.9.9/udp/4001/quic-v1/webtransport/certhash/uEi", "/ip4/999.1.1.1/tcp/1",
    ]  # fmt: skip
    assert best_first(given) == (
        "/ip4/9.9.9.9/tcp/4001", "/ip4/9.9.9.9/udp/4001/quic-v1", "/ip6/2001:4860::1/tcp/4001",
        "/ip4/192.168.1.5/tcp/4001", "/ip4/192.168.1.5/udp/4001/quic-v1", "/ip4/127.0.0.1/tcp/4001", "/ip6/::1/tcp/4001",
    )  # fmt: skip

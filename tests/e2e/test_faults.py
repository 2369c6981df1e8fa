"""Bad input and faults, as a person meets them: one clear line, the right exit code, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import NodeFactory, live
from tests.testbed.kubo import KuboDaemon
from tests.testbed.node import DragonNode, config_text, wait_for
from tests.testbed.ports import free_port


def refused(node: DragonNode, code: int, *expected: str, flags: tuple[str, ...] = ()) -> str:
    """Let `dragon serve` fail; check its exit code, and that what it says names `expected` without a traceback."""
    done = node.run("serve", *flags, timeout=120)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr, done.stderr
    return done.stderr


def test_no_node_running_is_exit_3_and_says_how_to_start_one(make_node: NodeFactory) -> None:
    node = make_node("nobody")
    for words in (
        ("status",),
        ("peers",),
        ("services",),
        ("forward", "ollama"),
        ("forwards",),
        ("off",),
        ("explain", "ollama"),
    ):
        done = node.run(*words)
        assert done.returncode == 3, (words, done.stderr)
        assert "dragon serve" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_typo_in_the_config_names_file_line_key_and_expectation(make_node: NodeFactory) -> None:
    node = make_node("typo", config='[node]\nalias = "x"\n\n[registry]\nheartbeet = 30\n')
    told = refused(node, 2, "config.toml:5", "heartbeet", "heartbeat")
    assert len(told.strip().splitlines()) <= 3


def test_a_wrong_value_in_the_config_names_what_was_expected(make_node: NodeFactory) -> None:
    refused(make_node("value", config='[node]\njoin = ["nonsense"]\n'), 2, "config.toml:2", "join", "/p2p/")


def test_broken_toml_names_the_line(make_node: NodeFactory) -> None:
    refused(make_node("toml", config='[node]\nalias = "x\n'), 2, "config.toml:2")


def test_a_home_that_is_a_file_is_refused(make_node: NodeFactory, tmp_path: Path) -> None:
    node = make_node("file")
    place = tmp_path / "home"
    place.write_text("not a folder")
    node.env["DRAGON_HOME"] = str(place)
    refused(node, 1, str(place), "DRAGON_HOME")


def test_a_home_that_cannot_be_written_is_refused(make_node: NodeFactory) -> None:
    node = make_node("unwritable")
    node.env["DRAGON_HOME"] = "/proc/dragon"  # root writes through permissions, but not into the kernel's own tree
    refused(node, 1, "/proc/dragon", "DRAGON_HOME")


def test_two_nodes_on_one_home_are_refused(make_node: NodeFactory) -> None:
    first = make_node("first").start()
    assert first.process is not None
    refused(first, 1, "in use by another node", str(first.process.pid))
    assert first.json("status")["alias"] == "first"


def test_settings_that_were_spoilt_under_a_running_node_are_said_before_its_next_start(make_node: NodeFactory) -> None:
    node = make_node("spoilt").start()
    file = node.home / "config.toml"
    sound = file.read_text()
    file.write_text(sound + "[nod]\n")
    reloaded = node.run("reload")
    assert reloaded.returncode == 2
    assert "did you mean node?" in reloaded.stderr
    found = {finding["name"]: finding for finding in json.loads(node.run("doctor", "--json").stdout)}
    assert not found["settings"]["ok"]
    assert "the next start fails" in found["settings"]["detail"]
    file.write_text(sound)
    assert node.json("doctor")[0]["ok"]


def test_two_nodes_on_one_kubo_are_refused(make_node: NodeFactory, kubo_factory: object) -> None:
    daemon: KuboDaemon = kubo_factory()  # type: ignore[operator]
    config = config_text(alias="one", swarm="e2e") + f'\n[kubo]\napi = "{daemon.api}"\n'
    first = make_node("one", config=config).start()
    assert first.json("status")["kubo"]["managed"] is False
    refused(make_node("two", config=config.replace("one", "two")), 1, "another Dragon")
    assert first.terminate() == 0
    make_node("three", config=config.replace("one", "three")).start()


def test_no_kubo_and_no_way_to_get_one_says_what_to_do(make_node: NodeFactory, tmp_path: Path) -> None:
    node = make_node("nokubo")
    del node.env["DRAGON_KUBO_BINARY"]
    node.env |= {"PATH": "/nonexistent", "XDG_CACHE_HOME": str(tmp_path), "DRAGON_KUBO_DIST": "http://127.0.0.1:9/"}
    refused(node, 1, "Kubo")


def test_a_kubo_that_is_not_there_is_named_by_its_address(make_node: NodeFactory) -> None:
    port = free_port()
    node = make_node("away", config=f'[kubo]\napi = "/ip4/127.0.0.1/tcp/{port}"\n')
    refused(node, 1, str(port))


def test_a_kubo_without_the_features_names_the_commands_and_doctor_fixes_them(
    make_node: NodeFactory, kubo_factory: object
) -> None:
    daemon: KuboDaemon = kubo_factory(features=False)  # type: ignore[operator]
    node = make_node("unfit", config=f'[kubo]\napi = "{daemon.api}"\n')
    refused(node, 1, "Libp2pStreamMounting", "ipfs config")
    told = node.run("doctor", "--json")
    assert told.returncode == 1
    assert any("Libp2pStreamMounting" in finding["fix"] for finding in json.loads(told.stdout))
    assert node.run("doctor", "--fix").returncode == 2  # nobody is there to be asked
    node.run("doctor", "--fix", "--yes")
    daemon.stop()
    daemon.start()
    assert all(finding["ok"] for finding in json.loads(node.run("doctor", "--json").stdout) if finding["essential"])
    node.start()
    assert node.json("status")["kubo"]["managed"] is False


def test_a_torn_store_is_set_aside_and_said(make_node: NodeFactory) -> None:
    node = make_node("torn")
    (node.home / "registry.sqlite").write_bytes(b"this is not a database" * 1000)
    node.start()
    assert "aside" in node.log
    assert list(node.home.glob("registry.sqlite*aside*"))
    assert node.json("status")["alias"] == "torn"


def test_a_full_disk_is_said_and_nothing_is_lost(make_node: NodeFactory, tmp_path: Path) -> None:
    """The home on a file system of its own that is filled up under the running node."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(place)], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"LOUD: this machine lets no test mount a file system of its own: {mounted.stderr.strip()}")
    peer = make_node("peer", swarm="full").start()
    beats = "[registry]\nheartbeat = 1\nlease = 5"
    config = config_text(alias="full", swarm="full", join=peer.json("status")["addresses"], tables=beats)
    node = DragonNode(place / "home", config, env={"DRAGON_KUBO_BINARY": peer.env["DRAGON_KUBO_BINARY"]})
    (node.home / "serve.log").symlink_to(tmp_path / "serve.log")  # what it says needs room too

    def goes_on() -> None:
        """The others go on hearing it: what it says rises, within its lease."""
        before = seen_sequence(peer, "full")
        wait_for(lambda: seen_sequence(peer, "full") >= before + 10_000, 60, lambda: f"{peer.json('peers')}\n{node.log}")
        assert "full" in live(peer)

    try:
        node.start()
        node_id = node.json("status")["id"]
        wait_for(lambda: "full" in live(peer), 30, lambda: node.log)
        filler = place / "filler"
        fill(filler)
        goes_on()
        assert node.json("status")["id"] == node_id
        assert node.run("peers").returncode == 0
        assert any(f["name"] == "home" and "full" in f["detail"] for f in json.loads(node.run("doctor", "--json").stdout))
        last = seen_sequence(peer, "full")
        assert node.log.count("tunnels.json cannot be written") <= 1, "said once"
        node.kill()
        refused(node, 1, "is full", "free some space")
        filler.unlink()
        node.start()
        wait_for(lambda: seen_sequence(peer, "full") > last, 30, lambda: f"{peer.json('peers')}\n{node.log}")
        assert node.terminate() == 0
        node.start()
        assert node.json("status")["id"] == node_id
        assert "Traceback" not in node.log
    finally:
        node.cleanup()
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(filler: Path) -> None:
    """Write until the disk takes no more."""
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass


def test_kubo_killed_and_frozen_under_a_running_node_heals(make_node: NodeFactory) -> None:
    a = make_node("heal-a", swarm="heal").start()
    b = make_node("heal-b", swarm="heal", join=a.json("status")["addresses"]).start()
    wait_for(lambda: live(a) == {"heal-a", "heal-b"} == live(b), 30, lambda: f"{a.log}\n{b.log}")

    first = b.kubo_pid()
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: (pid := b.kubo_pid()) is not None and pid != first, 30, lambda: b.log)
    sequence = seen_sequence(a, "heal-b")
    wait_for(lambda: seen_sequence(a, "heal-b") > sequence, 60, lambda: f"{a.json('peers')}\n{b.log}")

    frozen = b.kubo_pid()
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    try:
        assert b.run("peers").returncode == 0  # what is known stays readable
    finally:
        os.kill(frozen, signal.SIGCONT)
    sequence = seen_sequence(a, "heal-b")
    wait_for(lambda: seen_sequence(a, "heal-b") > sequence, 90, lambda: f"{a.json('peers')}\n{b.log}")

    frozen = b.kubo_pid()
    assert frozen is not None
    os.kill(frozen, signal.SIGSTOP)
    assert b.terminate(30) == 0, "a stop does not wait for a daemon that hangs"
    assert b.kubo_pid() is None


def seen_sequence(node: DragonNode, alias: str) -> int:
    return next((int(peer["sequence"]) for peer in node.json("peers") if peer["alias"] == alias), 0)


def test_sigterm_during_start_ends_the_node_and_its_kubo(make_node: NodeFactory) -> None:
    node = make_node("hasty")
    process = node.spawn()
    wait_for(node.kubo_pid, 30, lambda: node.log)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    assert "Traceback" not in node.log
    wait_for(lambda: node.kubo_pid() is None, 20, "its Kubo was left behind")


def test_dry_run_prints_what_would_be_published_and_publishes_nothing(make_node: NodeFactory) -> None:
    """THREATS 24: nothing but the allow-list leaves the machine, and the operator can see it before."""
    node = make_node("dry")
    printed = node.json("serve", "--dry-run")
    assert printed["alias"] == "dry"
    assert printed["offers"] == []
    assert node.kubo_pid() is None
    text = json.dumps(printed)
    for secret in (socket.gethostname(), "127.0.0.1", "@", str(Path.home())):
        assert secret not in text or secret == printed["alias"]


def test_the_store_survives_kill_9_during_writing(make_node: NodeFactory) -> None:
    node = make_node("durable").start()
    database = node.home / "registry.sqlite"
    node.kill()
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    node.start()

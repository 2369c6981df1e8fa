"""Whole nodes that die under a forward: `kill -9` of the node, which leaves its Kubo behind, and of its Kubo alone; SIGSTOP."""

from __future__ import annotations

import json
import os
import signal
import socket
import urllib.request
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.conftest import NodeFactory
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.ports import free_port
from tests.testbed.services import start_service


def offering(node: DragonNode) -> set[str]:
    return {each["alias"] for one in node.json("services") for each in one["providers"] if each["state"] == "live"}


def pid_behind(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/whoami", timeout=60) as answer:
        return int(json.load(answer)["pid"])


@pytest.mark.parametrize("what", ["node", "kubo", "frozen-node"])
def test_a_forward_outlives_its_providers_node(make_node: NodeFactory, tmp_path: Path, what: str) -> None:
    """THREATS 20: the next request on the same port is answered by the other one, and what ran through the dead one ends.

    Through a frozen one, whose Kubo lives, it waits: nobody can tell that from a service at work.
    """
    me = make_node("me", swarm=f"fo-{what}", tables=f"[catalogue.ollama]\nport = {free_port()}").start()
    join = me.json("status")["addresses"]
    pids, nodes = {}, {}
    with (
        start_service("http", name="ollama", home=tmp_path / "alpha") as one,
        start_service("http", name="ollama", home=tmp_path / "beta") as two,
    ):
        for alias, service in (("alpha", one), ("beta", two)):
            tables = f"[catalogue.ollama]\nport = {service.port}"
            node = make_node(alias, swarm=f"fo-{what}", join=join, tables=tables).start()
            node_id = node.json("status")["id"]
            nodes[node_id], pids[node_id] = node, service.pid
        wait_for(lambda: offering(me) == {"alpha", "beta"}, 60, lambda: f"{me.json('peers')}\n{me.log}")
        opened = me.json("forward", "ollama")
        port, first = opened["port"], opened["provider"]
        (second,) = set(nodes) - {first}
        assert pid_behind(port) == pids[first]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as running:
            running.sendall(b"GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n")
            assert running.recv(12) == b"HTTP/1.1 200"
            if what == "node":
                nodes[first].kill()
            elif what == "frozen-node":
                process = nodes[first].process
                assert process is not None
                process.send_signal(signal.SIGSTOP)
                try:
                    assert pid_behind(port) == pids[second]
                finally:
                    process.send_signal(signal.SIGCONT)
                running.shutdown(socket.SHUT_WR)
            else:
                kubo = nodes[first].kubo_pid()
                assert kubo is not None
                os.kill(kubo, signal.SIGKILL)
            assert pid_behind(port) == pids[second]
            try:
                while running.recv(1 << 16):
                    pass
            except ConnectionResetError:
                pass  # an end or a reset: never a hang
        (info,) = me.json("forwards")
        assert (info["port"], info["provider"], info["healthy"]) == (port, second, True)
        if what == "kubo":  # its node starts it again: it is a provider again, and takes over when the other one ends
            nodes[second].kill()
            wait_for(partial(answers, port, pids[first]), 90, lambda: f"{me.json('peers')}\n{me.log}")


def answers(port: int, pid: int) -> bool:
    try:
        return pid_behind(port) == pid
    except OSError:  # refused or cut while nobody serves
        return False

"""HashiCorp Serf beside us: a tag is set on one of three agents; when do the two others show it?

Where a `serf` is on PATH. Its RPC is a stream of msgpack maps: a header, then a body
(https://github.com/hashicorp/serf/blob/v0.10.2/docs/agent/rpc.html.markdown).
"""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack

from tests.testbed.node import START_BOUND, wait_for
from tests.testbed.ports import free_port

LOOK = 0.002
"""Seconds between two looks at an agent's members."""

LOST = 30.0
"""Seconds after which something is wrong."""


class Agent:
    """One agent of a swarm on loopback, with the LAN profile, which is its default."""

    def __init__(self, number: int, join: str, log: Path) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._rpc = ("127.0.0.1", free_port())
        command = ["serf", "agent", f"-node=agent{number}", f"-bind={self.address}", f"-rpc-addr=127.0.0.1:{self._rpc[1]}"]
        with log.open("wb") as file:
            self.process = subprocess.Popen([*command, *([f"-join={join}"] if join else [])], stdout=file, stderr=file)
        self._socket: socket.socket | None = None
        self._unpacker = msgpack.Unpacker()
        self._sequence = 0

    def ready(self) -> bool:
        """Connect to its RPC; return whether that succeeded."""
        try:
            self._socket = socket.create_connection(self._rpc, timeout=LOST)
        except OSError:
            return False
        self._ask("handshake", {"Version": 1})
        return True

    def begin_tag(self, value: str) -> None:
        """Set a tag; `end_tag` waits for the answer, which comes only when the news has been sent a few times."""
        self._send("tags", {"Tags": {"bench": value}})

    def end_tag(self) -> None:
        self._check("tags")

    def members(self, tags: dict[str, str]) -> int:
        """Return how many members with these tags it shows."""
        self._ask("members-filtered", {"Tags": tags, "Status": "alive"})
        return len(self._answer()["Members"])

    def end(self) -> None:
        if self._socket:
            self._socket.close()
        self.process.kill()
        self.process.wait()

    def _ask(self, command: str, body: dict[str, Any]) -> None:
        self._send(command, body)
        self._check(command)

    def _send(self, command: str, body: dict[str, Any]) -> None:
        assert self._socket is not None
        self._sequence += 1
        self._socket.sendall(msgpack.packb({"Command": command, "Seq": self._sequence}) + msgpack.packb(body))

    def _check(self, command: str) -> None:
        if error := self._answer()["Error"]:
            raise SystemExit(f"serf: {command}: {error}")

    def _answer(self) -> dict[str, Any]:
        assert self._socket is not None
        while True:
            for document in self._unpacker:
                answer: dict[str, Any] = document
                return answer
            self._unpacker.feed(self._socket.recv(1 << 16))


def tag_changes(folder: Path, count: int) -> list[float]:
    """Return, for `count` changes, the seconds until the last of the two other agents showed it."""
    with ExitStack() as stack:
        agents: list[Agent] = []
        for number in range(3):
            agents.append(Agent(number, agents[0].address if agents else "", folder / f"serf{number}.log"))
            stack.callback(agents[-1].end)
            wait_for(agents[-1].ready, START_BOUND, "serf did not start")
        wait_for(
            lambda: all(agent.members({}) == 3 for agent in agents), START_BOUND, "the serf agents did not find one another"
        )
        return [_change(agents, f"v{number}") for number in range(count)]


def _change(agents: list[Agent], value: str) -> float:
    time.sleep(0.3)
    began = time.monotonic()
    agents[0].begin_tag(value)
    waiting = agents[1:]
    while waiting:
        waiting = [agent for agent in waiting if not agent.members({"bench": value})]
        if time.monotonic() - began > LOST:
            raise SystemExit("serf: a tag was never shown")
        if waiting:
            time.sleep(LOOK)
    took = time.monotonic() - began
    agents[0].end_tag()
    return took

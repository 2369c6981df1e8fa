"""`dragon me ollama P2P`, and our `ollama.me.sh P2P`, by the clock on the wall, from the shell to its exit code.

Two real nodes, an ollama beside one; each round begins without a connection, and from the second on with a tunnel that is kept
warm. The original is not here to be run: its time was measured on two Kubo nodes of one machine (`ollama.me.sh P2P`, success:
4.8 to 5.2 s, of which two pings of 1 s and a sleep of 2 s). Then how soon after its port opens a service can be used so: the
script is called again and again from that moment until it succeeds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.harness import Row
from dragon.home import Home
from dragon.kubo.binary import find
from tests.testbed.node import DragonNode, config_text, wait_for
from tests.testbed.ports import free_port
from tests.testbed.services import RunningService, start_service

ROUNDS = 20
OPENINGS = 10
ME = (str(Path(sys.executable).with_name("dragon")), "me", "ollama")
ORIGINAL = 4.8
"""Seconds: the quickest of the original's successes."""

REFERENCE = "the original script, 4.8 to 5.2 s when it was measured"


def run() -> list[Row]:
    """Measure and return the rows."""
    binary = find(Home.locate())
    if binary is None:
        raise SystemExit("no Kubo binary: run `make kubo` first")
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as name, nodes(binary, Path(name)) as (node, port):
        folder = Path(name)
        node.env["ZEN_HOME"] = f"{name}/zen"
        node.run("astroport", "shims", f"{name}/services").check_returncode()
        script = [f"{name}/services/ollama.me.sh"]
        connecting, by_script, again, told = [], [], [], []
        with ollama(folder, port):
            wait_for(lambda: node.json("services"), 30)
            for _ in range(ROUNDS):
                connecting.append(timed(node, ME, "P2P"))
                again.append(timed(node, ME))
                told.append(timed(node, ME, "STATUS"))
                timed(node, ME, "OFF")
                by_script.append(timed(node, script, "P2P"))
                timed(node, script, "OFF")
        opened = [opening(node, folder, port, script) for _ in range(OPENINGS)]
    first = statistics.median(connecting)
    return [
        Row("dragon me ollama P2P, p50", first, "s", REFERENCE, first / ORIGINAL, f"<= {1 / ORIGINAL:.3f}"),
        Row(
            "dragon me ollama P2P, nothing warm",
            connecting[0],
            "s",
            REFERENCE,
            connecting[0] / ORIGINAL,
            f"<= {1 / ORIGINAL:.3f}",
        ),
        Row("ollama.me.sh P2P (ours), p50", statistics.median(by_script), "s"),
        Row("ollama.me.sh P2P (ours), slowest", max(by_script), "s", "seconds themselves", max(by_script), "<= 1"),
        Row("port opens → ollama.me.sh P2P done, p50", statistics.median(opened), "s"),
        Row("port opens → ollama.me.sh P2P done, slowest", max(opened), "s", "seconds themselves", max(opened), "<= 2"),
        Row("dragon me ollama P2P, slowest", max(connecting), "s", REFERENCE, max(connecting) / ORIGINAL),
        Row("dragon me ollama, connected already, p50", statistics.median(again), "s"),
        Row("dragon me ollama STATUS, p50", statistics.median(told), "s", "the original script, about 0.5 s"),
    ]


@contextmanager
def nodes(binary: Path, folder: Path) -> Iterator[tuple[DragonNode, int]]:
    """Give a node that sees another one, and the port where that one expects its ollama."""
    port = free_port()
    owl = DragonNode(folder / "owl", text_of("owl", port), env={"DRAGON_KUBO_BINARY": str(binary)})
    lark: DragonNode | None = None
    try:
        owl.start()
        text = text_of("lark", free_port(), owl.json("status")["addresses"])
        lark = DragonNode(folder / "lark", text, env={"DRAGON_KUBO_BINARY": str(binary)}).start()
        yield lark, port
    finally:
        for node in (lark, owl):
            if node is not None:
                node.cleanup()


def ollama(folder: Path, port: int) -> RunningService:
    return start_service("http", name="ollama", port=port, models=["gemma3:latest"], home=folder)


def opening(node: DragonNode, folder: Path, port: int, script: Sequence[str]) -> float:
    """Return the seconds from a port's opening beside one node until the script on the other has connected to it."""
    wait_for(lambda: not node.json("services"), 60)
    with ollama(folder, port):
        began = time.perf_counter()
        while called(node, script, "P2P"):
            pass
        taken = time.perf_counter() - began
        timed(node, script, "OFF")
    return taken


def text_of(alias: str, port: int, join: tuple[str, ...] = ()) -> str:
    return config_text(alias=alias, swarm="bench", join=join, tables=f"[catalogue.ollama]\nport = {port}")


def timed(node: DragonNode, command: Sequence[str], *words: str) -> float:
    """Return the seconds of a call that must succeed."""
    began = time.perf_counter()
    code = called(node, command, *words)
    taken = time.perf_counter() - began
    if code:
        raise SystemExit(f"{command[0]} {' '.join(words)}: exit {code}")
    return taken


def called(node: DragonNode, command: Sequence[str], *words: str) -> int:
    """Return the exit code of one call, from a shell's environment."""
    quiet = subprocess.DEVNULL
    return subprocess.run([*command, *words], env={**os.environ, **node.env}, stdout=quiet, stderr=quiet).returncode


if __name__ == "__main__":
    for row in run():
        print(f"{row.name:42} {row.value:6.3f} {row.unit}   {row.reference}")

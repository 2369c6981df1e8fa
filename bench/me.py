"""`dragon me ollama P2P` by the clock on the wall, from the shell to its exit code, beside what the original script takes.

Two real nodes, an ollama beside one; each round begins without a connection, and from the second on with a tunnel that is kept
warm. The original is not here to be run: its time was measured on two Kubo nodes of one machine (`ollama.me.sh P2P`, success:
4.8 to 5.2 s, of which two pings of 1 s and a sleep of 2 s).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.harness import Row
from dragon.home import Home
from dragon.kubo.binary import find
from tests.testbed.node import DragonNode, config_text, wait_for
from tests.testbed.ports import free_port
from tests.testbed.services import start_service

ROUNDS = 20
ORIGINAL = 4.8
"""Seconds: the quickest of the original's successes."""

REFERENCE = "the original script, 4.8 to 5.2 s when it was measured"


def run() -> list[Row]:
    """Measure and return the rows."""
    binary = find(Home.locate())
    if binary is None:
        raise SystemExit("no Kubo binary: run `make kubo` first")
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as name, nodes(binary, Path(name)) as node:
        node.env["ZEN_HOME"] = f"{name}/zen"
        connecting, again, told = [], [], []
        for _ in range(ROUNDS):
            connecting.append(timed(node, "ollama", "P2P"))
            again.append(timed(node, "ollama"))
            told.append(timed(node, "ollama", "STATUS"))
            timed(node, "ollama", "OFF")
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
        Row("dragon me ollama P2P, slowest", max(connecting), "s", REFERENCE, max(connecting) / ORIGINAL),
        Row("dragon me ollama, connected already, p50", statistics.median(again), "s"),
        Row("dragon me ollama STATUS, p50", statistics.median(told), "s", "the original script, about 0.5 s"),
    ]


@contextmanager
def nodes(binary: Path, folder: Path) -> Iterator[DragonNode]:
    """Give a node that sees the ollama of another."""
    port = free_port()
    owl = DragonNode(folder / "owl", text_of("owl", port), env={"DRAGON_KUBO_BINARY": str(binary)})
    lark: DragonNode | None = None
    try:
        owl.start()
        text = text_of("lark", free_port(), owl.json("status")["addresses"])
        lark = DragonNode(folder / "lark", text, env={"DRAGON_KUBO_BINARY": str(binary)}).start()
        seeing = lark
        with start_service("http", name="ollama", port=port, models=["gemma3:latest"], home=folder):
            wait_for(lambda: seeing.json("services"), 30)
            yield lark
    finally:
        for node in (lark, owl):
            if node is not None:
                node.cleanup()


def text_of(alias: str, port: int, join: tuple[str, ...] = ()) -> str:
    return config_text(alias=alias, swarm="bench", join=join, tables=f"[catalogue.ollama]\nport = {port}")


def timed(node: DragonNode, *words: str) -> float:
    command = [str(Path(sys.executable).with_name("dragon")), "me", *words]
    began = time.perf_counter()
    subprocess.run(command, env={**os.environ, **node.env}, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    for row in run():
        print(f"{row.name:42} {row.value:6.3f} {row.unit}   {row.reference}")

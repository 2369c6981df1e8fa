"""For the benchmarks on whole nodes: real `dragon serve` processes in one loopback swarm, and a service beside them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import ports
from dragon.client import Control
from dragon.home import Home
from dragon.kubo.binary import find
from tests.testbed.node import START_BOUND, DragonNode, config_text, wait_for


class Service:
    """The process of `bench.ports`, named `ollama` as `pgrep` sees it."""

    def __init__(self, folder: Path) -> None:
        link = folder / "ollama"
        link.symlink_to(Path(sys.executable).resolve())
        self._process = subprocess.Popen(
            [link, "-I", "-S", ports.__file__], executable=link, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def open(self, *wanted: int) -> float:
        """Open ports; return when they were, in seconds of the monotonic clock."""
        return self._ask(" ".join(["open", *map(str, wanted)]))

    def close(self) -> float:
        """Close all ports; return when they were."""
        return self._ask("close")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _ask(self, line: str) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline().split()[1])


@contextmanager
def service(folder: Path) -> Iterator[Service]:
    """Give a service for the time of the block."""
    running = Service(folder)
    try:
        yield running
    finally:
        running.end()


@contextmanager
def nodes(folder: Path, catalogues: Sequence[tuple[str, str]]) -> Iterator[list[DragonNode]]:
    """Give one node for each of `catalogues` (the `[catalogue]` section's keys, and tables), once all know all."""
    binary = find(Home.locate())
    if binary is None:
        raise SystemExit("no Kubo binary on this machine: run `make kubo` first")
    with ExitStack() as stack:
        started: list[DragonNode] = []
        join: list[str] = []
        for number, (catalogue, tables) in enumerate(catalogues):
            text = config_text(alias=f"node{number}", swarm="bench", join=join, catalogue=catalogue, tables=tables)
            node = DragonNode(folder / f"node{number}", text, env={"DRAGON_KUBO_BINARY": str(binary)})
            node.env.pop("TMPDIR")  # the control socket lies where the environment says: ours and the node's must say the same
            node.env |= {name: os.environ[name] for name in ("TMPDIR", "XDG_RUNTIME_DIR") if name in os.environ}
            stack.callback(node.cleanup)
            node.start("--quiet")
            started.append(node)
            join = join or control(node).status()["addresses"]
        wait_for(lambda: _all_see_all(started), START_BOUND, "the nodes did not find one another")
        yield started


def control(node: DragonNode) -> Control:
    """Return the control API of a node."""
    return Control(Home(node.home))


def _all_see_all(started: list[DragonNode]) -> bool:
    return all(sum(peer["state"] == "live" for peer in control(node).peers()) == len(started) for node in started)

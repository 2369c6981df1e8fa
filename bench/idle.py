"""What a node costs that has nothing to do: 20 services run beside it and are offered, one neighbour, nobody asks for anything.

Memory and CPU of `dragon serve` itself over two of its slow surveys and several beats. For comparison its Kubo, and a bare
asyncio loop that only wakes: on a busy machine with cold caches a wake costs several times what it costs on an idle one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.harness import Row
from bench.served import control, nodes, service
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.ports import free_port

SERVICES = 20
SETTLE = 15.0
"""Seconds after the last service was found: the surveys that follow a change, the exchanges that follow a start."""

WINDOW = 60.0
"""Seconds: two of the full surveys, one each 30 s."""

WAKES = 20
"""Wakes a second of the bare loop: about as many as the node's own timers and answers make."""

BARE = f"""
import asyncio
async def main():
    while True:
        await asyncio.sleep(1 / {WAKES})
asyncio.run(main())
"""

FOUND_BOUND = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has used so far: seconds of CPU; bytes of memory now."""

    cpu: float
    rss: float
    pss: float
    threads: int


def run() -> list[Row]:
    """Measure and return the rows."""
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as name:
        folder = Path(name)
        ports = [free_port() for _ in range(SERVICES)]
        slugs = [f"bench-{number}" for number in range(SERVICES)]
        tables = "\n".join(
            f'[catalogue.{slug}]\nport = {port}\nscheme = "http"\nevidence = ["process:ollama"]\ntest = "/api/tags"\n'
            for slug, port in zip(slugs, ports, strict=True)
        )
        only = ", ".join(f'"{slug}"' for slug in slugs)
        catalogues = [(f"only = [{only}]", tables), ("only = []", "")]
        with service(folder) as beside, nodes(folder, catalogues) as (node, neighbour), _bare_loop() as bare:
            beside.open(*ports)
            both = [control(each) for each in (node, neighbour)]
            wait_for(lambda: all(len(each.services()) == SERVICES for each in both), FOUND_BOUND, "not all were found")
            time.sleep(SETTLE)
            pids = (*_pids(node), bare)
            before = [_cost(pid) for pid in pids]
            time.sleep(WINDOW)
            after = [_cost(pid) for pid in pids]
    cpu, kubo_cpu, bare_cpu = ((now.cpu - then.cpu) / WINDOW * 100 for now, then in zip(after, before, strict=True))
    ours, kubo, _ = after
    return [
        Row("dragon serve, resident (RSS)", ours.rss / MEGABYTE, "MB", "80 MB", ours.rss / MEGABYTE / 80, "<= 1"),
        Row("dragon serve, its share of shared pages (PSS)", ours.pss / MEGABYTE, "MB"),
        Row("dragon serve, CPU of one core", cpu, "%", "1 %", cpu, "<= 1"),
        Row("dragon serve, threads", ours.threads, ""),
        Row("its Kubo, resident (RSS)", kubo.rss / MEGABYTE, "MB", "dragon / Kubo", ours.rss / kubo.rss),
        Row("its Kubo, CPU of one core", kubo_cpu, "%", "dragon / Kubo", cpu / kubo_cpu if kubo_cpu else None),
        Row(
            f"a bare asyncio loop that wakes {WAKES} times a second, CPU",
            bare_cpu,
            "%",
            "dragon / bare loop",
            cpu / bare_cpu if bare_cpu else None,
        ),
    ]


@contextmanager
def _bare_loop() -> Iterator[int]:
    """Give the process id of a bare loop."""
    process = subprocess.Popen([sys.executable, "-I", "-S", "-c", BARE])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def _pids(node: DragonNode) -> tuple[int, int]:
    kubo = node.kubo_pid()
    assert node.process is not None
    assert kubo is not None
    return node.process.pid, kubo


def _cost(pid: int) -> Cost:
    """Return what /proc says of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    sizes = {
        key: int(value.split()[0]) * 1024
        for key, _, value in (line.partition(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    }
    return Cost((int(fields[11]) + int(fields[12])) / TICKS, sizes["Rss"], sizes["Pss"], int(fields[17]))

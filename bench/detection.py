"""A service's port opens beside one node: when do all nodes of a swarm of three show it? Real `dragon serve` processes.

Every node's watch stream is read; all times are the machine's monotonic clock, which all processes share. The port opens at a
random moment between two looks of the prober. What this is compared with is the tag change of a HashiCorp Serf swarm of three:
measured in the same run where a `serf` is on PATH, else what it took on an idle machine of this kind.
"""

from __future__ import annotations

import queue
import random
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import serf
from bench.harness import Row
from bench.served import control, nodes, service
from dragon.errors import NotRunning
from tests.testbed.node import DragonNode
from tests.testbed.ports import free_port

OPENINGS = 40
BETWEEN = 1.0, 1.4
"""Seconds between an opening and the next: the prober makes at most 20 surveys in 10 s, and opening and closing are one each.
Random, so that no opening keeps step with the looks."""

OPEN_FOR = 0.1, 0.4
"""Seconds from seen to closed; random, so that no closing keeps step with the look that saw the opening."""

LOST = 30.0
"""Seconds after which something is wrong."""

SLUG = "ollama"
SERF_P50, SERF_P95 = 0.100, 0.158
"""Seconds until another agent shows a changed tag: Serf 0.10.2, three agents on loopback, two cores, LAN profile."""


@dataclass(frozen=True, slots=True)
class Seen:
    """When one node's listing began to show the service, or ceased to."""

    node: int
    shown: bool
    at: float


def run() -> list[Row]:
    """Measure and return the rows."""
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as name:
        folder = Path(name)
        found, gone = _dragon(folder)
        beside = serf.tag_changes(folder, OPENINGS) if shutil.which("serf") else []
    own = [times[0] for times in found]
    others = [times[number] for times in found for number in (1, 2)]
    last = [max(times[1:]) for times in found]
    beyond = [max(times[1:]) - times[0] for times in found]
    rows = [
        _row("port opens -> the last other node shows it, p50", _p50(last), "target: 500 ms", 0.5, "<= 1"),
        _row("port opens -> the last other node shows it, p95", _p95(last), "target: 1 s", 1.0, "<= 1"),
        _row("  of it: until its own node shows it, p50", _p50(own)),
        _row("  of it: until its own node shows it, p95", _p95(own)),
        _row("  of it: from there to the last other node, p50", _p50(beyond)),
        _row("  of it: from there to the last other node, p95", _p95(beyond)),
        _row("port opens -> one other node shows it, p50", _p50(others)),
        _row("port closes -> the last other node shows it no more, p50", _p50(gone)),
        _row("port closes -> the last other node shows it no more, p95", _p95(gone)),
        _row("port opens -> the last other node shows it, p95", _p95(last), "the bash original: up to an hour", 3600.0),
    ]
    where = f"Serf {'in this run' if beside else 'as documented'}: a tag is set (nothing detected), the last other shows it"
    for share, of, documented in (("p50", _p50, SERF_P50), ("p95", _p95, SERF_P95)):
        theirs = of(beside) if beside else documented
        reference = f"{where}, {theirs * 1e3:.0f} ms"
        rows.append(_row(f"port opens -> the last other node shows it, {share}", of(last), reference, theirs))
        rows.append(_row(f"  without detection: own node -> last other, {share}", of(beyond), reference, theirs))
    return rows


def _dragon(folder: Path) -> tuple[list[list[float]], list[float]]:
    """Return for each opening the seconds until each node showed it, and for each closing until the last other one did."""
    port = free_port()
    catalogues = [(f'only = ["{SLUG}"]', f"[catalogue.{SLUG}]\nport = {each}") for each in (port, free_port(), free_port())]
    rng = random.Random()
    found: list[list[float]] = []
    gone: list[float] = []
    with nodes(folder, catalogues) as swarm, service(folder) as beside, _watched(swarm) as seen:
        for _ in range(OPENINGS):
            started = time.monotonic()
            opened = beside.open(port)
            found.append([at - opened for at in _all(seen, len(swarm), shown=True)])
            time.sleep(rng.uniform(*OPEN_FOR))
            closed = beside.close()
            gone.append(max(_all(seen, len(swarm), shown=False)[1:]) - closed)
            time.sleep(max(rng.uniform(*BETWEEN) - (time.monotonic() - started), 0.0))
    return found, gone


@contextmanager
def _watched(swarm: list[DragonNode]) -> Iterator[queue.Queue[Seen]]:
    """Give what the nodes' listings show from now on; none of them shows the service yet."""
    seen: queue.Queue[Seen] = queue.Queue()

    def watch(number: int, node: DragonNode) -> None:
        with suppress(NotRunning):  # the end of the node ends its stream
            for document in control(node).watch("services"):
                at = time.monotonic()
                seen.put(Seen(number, any(one["slug"] == SLUG and one["providers"] for one in document), at))

    for number, node in enumerate(swarm):
        threading.Thread(target=watch, args=(number, node), daemon=True).start()
    _all(seen, len(swarm), shown=False)
    yield seen


def _all(seen: queue.Queue[Seen], count: int, *, shown: bool) -> list[float]:
    """Return when each node first showed the service, or first did not."""
    times: dict[int, float] = {}
    while len(times) < count:
        each = seen.get(timeout=LOST)
        if each.shown == shown:
            times.setdefault(each.node, each.at)
    return [times[number] for number in range(count)]


def _row(name: str, seconds: float, reference: str = "", bound: float | None = None, target: str = "") -> Row:
    return Row(name, seconds * 1e3, "ms", reference, None if bound is None else seconds / bound, target)


def _p50(times: list[float]) -> float:
    return statistics.median(times) if times else 0.0


def _p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20, method="inclusive")[-1] if times else 0.0

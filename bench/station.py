"""Two stations on hosts of their own: how soon one's new service is usable in the other's swarm cache, and wipes are mended.

Beside it what a service that a Bash script would offer must wait for at least: `ipfs add`, `name publish`, and on the other
side `name resolve --nocache` and `get`, all by hand and at once (the scripts come round every five minutes to an hour).
Needs root.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import Row
from dragon.home import Home
from dragon.kubo.binary import find
from tests.testbed.netns import unable
from tests.testbed.station import Station, Stations, wait_for, wipe

ROUNDS = 12
BOUND = 60.0
LOOK = 0.002


def run() -> list[Row]:
    """Measure and return the rows; none where this machine cannot have hosts of its own."""
    binary = find(Home.locate())
    if (why := unable()) or binary is None:
        print(f"passed over: {why or 'no Kubo binary: make kubo'}")
        return []
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as folder, Stations(Path(folder), binary) as stations:
        alpha, beta = stations.add("alpha"), stations.add("beta")
        alpha.serve()
        beta.serve()
        wait_for(lambda: beta.sees(alpha) and alpha.sees(beta), BOUND)
        appeared, usable, wiped, by_hand = [], [], [], []
        for _ in range(ROUNDS):
            script = beta.swarm / alpha.id / "x_ollama.sh"
            with alpha.run_service() as service:
                opened = time.perf_counter()
                appeared.append(_until(script.exists) - opened)
                assert beta.bash(script).returncode == 0
                assert beta.ask(11434)["pid"] == service.pid
                usable.append(time.perf_counter() - opened)
                assert beta.bash(script, "stop").returncode == 0
                wipe(beta.tmp)
                emptied = time.perf_counter()
                wiped.append(_until(script.exists) - emptied)
                by_hand.append(_by_hand(alpha, beta))
            _until(lambda script=script: not script.exists())  # type: ignore[misc]
    reference = statistics.median(by_hand)
    return [
        _row("port open → script in the other's cache", appeared, reference),
        Row("the same, the slowest", max(appeared), "s", "the 2 s that are asked", max(appeared) / 2, "<= 1"),
        _row("port open → used by bash there (1 s of it is `ipfs ping`)", usable, reference),
        _row("cache wiped → laid again", wiped, reference),
        Row("add, publish, resolve, get by hand", reference, "s"),
    ]


def _until(holds: Callable[[], bool]) -> float:
    """Return the time at which `holds()` first did."""
    deadline = time.perf_counter() + BOUND
    while not holds():
        assert time.perf_counter() < deadline, "it did not happen"
        time.sleep(LOOK)
    return time.perf_counter()


def _by_hand(alpha: Station, beta: Station) -> float:
    began = time.perf_counter()
    alpha.publish_by_hand()
    path = beta.ipfs("name", "resolve", "--nocache", alpha.id).strip()
    beta.ipfs("get", "-o", str(beta.folder / "got"), path)
    return time.perf_counter() - began


def _row(name: str, seconds: list[float], reference: float) -> Row:
    median = statistics.median(seconds)
    return Row(name, median, "s", "all by hand, at once", median / reference)

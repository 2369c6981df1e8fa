"""`dragon peers` from the shell against `python -c "import typer"`: what a command costs beyond its framework.

The running node is a process that answers the real control API with plain values; the command is the real one. Both are started
alternately, because on a shared machine the load of one second is not the load of the next.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.harness import Row

ROUNDS = 20
"""Pairs of starts: the median of 20 moves by a few percent between runs."""

LIMIT = 3.0
"""What issue 3 asks for."""


def measure(rounds: int = ROUNDS) -> tuple[float, float]:
    """Return the median seconds of `import typer` and of `dragon peers`."""
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as home:
        node = subprocess.Popen([sys.executable, "-m", "tests.testbed.backend", home], stdout=subprocess.PIPE)
        try:
            assert node.stdout is not None
            node.stdout.readline()
            environment = {**os.environ, "DRAGON_HOME": home}
            typer = [sys.executable, "-c", "import typer"]
            peers = [sys.executable, "-m", "dragon", "peers"]
            timed([*peers], environment)  # the first start of all writes bytecode
            pairs = [(timed(typer, environment), timed(peers, environment)) for _ in range(rounds)]
        finally:
            node.terminate()
            node.communicate(timeout=10)
    return statistics.median(pair[0] for pair in pairs), statistics.median(pair[1] for pair in pairs)


def run() -> list[Row]:
    """Measure and return the rows."""
    typer, peers = measure()
    return [
        Row("python -c 'import typer', p50", typer * 1000, "ms"),
        Row("dragon peers, p50", peers * 1000, "ms", "python -c 'import typer'", peers / typer, f"<= {LIMIT:.0f}"),
    ]


def timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parent.parent)
    return time.perf_counter() - started

"""The frame of the benchmarks: a module of this package offers `run() -> list[Row]` (plain or async), and this prints the rows.

Every figure stands beside what it is compared with, measured in the same run: on a shared machine only ratios mean something.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Row:
    """One figure. `ratio` and `target` are None where there is nothing to compare or to reach."""

    name: str
    value: float
    unit: str
    reference: str = ""
    """What `ratio` compares with, in words."""
    ratio: float | None = None
    target: str = ""
    """What the ratio should reach, as `>= 0.6` or `<= 0.05`; it is printed, not asserted."""

    @property
    def reached(self) -> bool | None:
        """Tell whether `ratio` meets `target`, None where there is none."""
        if self.ratio is None or not self.target:
            return None
        sign, bound = self.target.split()
        return self.ratio >= float(bound) if sign == ">=" else self.ratio <= float(bound)


def names() -> list[str]:
    """Return the benchmarks there are: the modules of this folder that offer `run`."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [
        file.stem for file in files if file.stem not in ("__init__", "__main__", "harness") and "def run(" in file.read_text()
    ]


def measure(name: str) -> list[Row]:
    """Run the benchmark `name` and return its rows."""
    result = importlib.import_module(f"bench.{name}").run()
    rows: list[Row] = asyncio.run(result) if inspect.iscoroutine(result) else result
    return rows


def table(rows: Iterable[Row]) -> str:
    """Return `rows` as aligned text."""
    cells = [("what", "value", "unit", "ratio", "target", "compared with")]
    for row in rows:
        verdict = {True: "ok", False: "MISSED", None: ""}[row.reached]
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        cells.append((row.name, f"{row.value:,.4g}", row.unit, ratio, f"{row.target} {verdict}".strip(), row.reference))
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells)


def seconds_each(
    work: Callable[[], object], rounds: int, batches: int = 15, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the seconds one call of `work` takes: the median of `batches` of `rounds` calls each."""
    times = []
    for _ in range(batches):
        started = clock()
        for _ in range(rounds):
            work()
        times.append((clock() - started) / rounds)
    return statistics.median(times)


def side_by_side(
    works: dict[str, Callable[[], object]], rounds: int, batches: int = 15, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Return the median seconds of each of `works`, measured in turns so that a busy moment strikes all of them.

    For work that only computes, `time.process_time` as `clock` leaves out what other processes took meanwhile.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(batches):
        for name, work in works.items():
            times[name].append(seconds_each(work, rounds, 1, clock))
    return {name: statistics.median(samples) for name, samples in times.items()}

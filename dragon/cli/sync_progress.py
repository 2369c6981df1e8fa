"""How far a run is, for people: a bar on a terminal, lines where asked for. On stderr: the answer alone goes to stdout."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dragon.cli import sync_tables as tables
from dragon.text import clean

if TYPE_CHECKING:
    from dragon.constellation.progress import Progress

PRINT_EVERY = 5.0
"""Seconds between two lines about the progress where there is no terminal and `--verbose` asks for them."""


def say(text: str) -> None:
    """Tell a person something besides the answer."""
    print(clean(text, 2000), file=sys.stderr)


@contextmanager
def shown_progress(*, visible: bool, verbose: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Any], None]]]:
    """Give what tells a person something, and what shows how far a run is: a bar on a terminal, lines where `verbose`."""

    if not visible:
        last = float("-inf")

        def line(progress: Progress) -> None:
            nonlocal last
            if verbose and (progress.seconds - last >= PRINT_EVERY or progress.phase == "done"):
                last = progress.seconds
                say(tables.moment_of(progress))

        yield say, line
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False, emoji=False, markup=False)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
        TextColumn("{task.fields[counts]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("looking", total=None, counts="")

        def update(progress: Progress) -> None:
            wanted = max(progress.wanted, progress.received)
            busy = clean(", ".join(progress.busy), 40)
            bar.update(task, description=f"{progress.phase} {busy}", completed=progress.received, total=wanted or None,
                       counts=tables.counts_of(progress))  # fmt: skip

        yield (lambda text: console.print(clean(text, 2000))), update

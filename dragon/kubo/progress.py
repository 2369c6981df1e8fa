"""Where a long installation says how far it is: a live line on a terminal, plain lines elsewhere, nothing in tests."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

QUIET_SECONDS = 10.0
"""Seconds between two lines of detail where they cannot overwrite one another (a log, a CI run)."""


RESTING = "preparing Kubo"
"""What the live line says while there is nothing to say in detail."""


class Progress(Protocol):
    def step(self, text: str) -> None:
        """Something worth a line of its own."""
        ...

    def detail(self, text: str) -> None:
        """How far the current step is; comes often, and may be dropped."""
        ...


class Silent:
    def step(self, text: str) -> None: ...

    def detail(self, text: str) -> None: ...


class Lines:
    """Plain lines, details at most every `QUIET_SECONDS`."""

    def __init__(self, out: TextIO, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._monotonic = monotonic
        self._said_at = monotonic()

    def step(self, text: str) -> None:
        self._said_at = self._monotonic()
        print(text, file=self._out, flush=True)

    def detail(self, text: str) -> None:
        if self._monotonic() - self._said_at >= QUIET_SECONDS:
            self.step(f"  … {text}")


@contextmanager
def shown(out: TextIO | None = None) -> Iterator[Progress]:
    """Give a live display when `out` (default: stderr) is a terminal, else plain lines."""
    stream = out or sys.stderr
    if not stream.isatty():
        yield Lines(stream)
        return
    from rich.console import Console  # 20 ms and some MB, for terminals only

    console = Console(file=stream)
    with console.status(RESTING) as status:

        class Live:
            def step(self, text: str) -> None:
                console.print(text, markup=False, highlight=False)
                status.update(RESTING)

            def detail(self, text: str) -> None:
                status.update(text.replace("[", r"\["))

        yield Live()

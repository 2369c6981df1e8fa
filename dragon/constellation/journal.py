"""The logs that a station's people and scripts read, in the scripts' own line format, bounded.

    [2026-11-27 03:04:05] [INFO] text

Source: ASTROPORT facts 4.1, 4.6, 4.8.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Literal

from dragon.text import clean

log = logging.getLogger(__name__)

ROTATE = 10 << 20
"""Bytes after which a log is put aside under a number: as the scripts do."""

KEPT = 3
"""Numbered logs that stay."""

LONGEST = 2000
"""Characters of one line."""

Level = Literal["DEBUG", "INFO", "WARN", "ERROR"]


class Journal:
    """One log file. A line that cannot be written is lost, and said so once in our own log; the run goes on."""

    def __init__(self, path: Path, only: frozenset[Level] = frozenset()) -> None:
        """`only`: the levels that enter; all when empty."""
        self._path = path
        self._only = only
        self._told = False

    def begin(self, *heading: str) -> None:
        """Start the file anew with the lines of `heading`. Only whoever holds the run's locks may do that."""
        self._write("".join(f"{clean(line, LONGEST)}\n" for line in heading), "w")

    def line(self, level: Level, text: str) -> None:
        if self._only and level not in self._only:
            return
        at = datetime.now().strftime("%Y-%m-%d %H:%M:%S")
        self._write(f"[{at}] [{level}] {clean(text, LONGEST)}\n", "a")

    def rotate(self) -> None:
        """Put a log aside that has grown beyond `ROTATE`; the oldest goes."""
        with suppress(OSError):
            if self._path.stat().st_size <= ROTATE:
                return
            for number in range(KEPT, 0, -1):
                older = self._path.with_name(f"{self._path.name}.{number}")
                newer = self._path.with_name(f"{self._path.name}.{number - 1}") if number > 1 else self._path
                if newer.exists():
                    newer.replace(older)

    def _write(self, text: str, mode: Literal["a", "w"]) -> None:
        try:
            with self._path.open(mode, encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            if not self._told:
                log.warning("%s is not written: %s", self._path, error.strerror or error)
            self._told = True


class Journals:
    """Several logs that take the same lines."""

    def __init__(self, *journals: Journal) -> None:
        self._journals = journals

    def line(self, level: Level, text: str) -> None:
        for journal in self._journals:
            journal.line(level, text)

    def rotate(self) -> None:
        for journal in self._journals:
            journal.rotate()

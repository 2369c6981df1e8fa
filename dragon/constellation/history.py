"""The reports of the last runs, on disk: one JSON document each and the same as a page, the oldest going first."""

from __future__ import annotations

import json
import logging
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dragon.constellation.html import page
from dragon.errors import HomeError, UsageError
from dragon.home import write_atomically

log = logging.getLogger(__name__)

KEPT = 100
"""Runs: four days of hourly ones; 20 kB each, with its page 50 kB."""

MAX_BYTES = 16 << 20
"""Bytes read of one report: that of a run with 1,000 peers has 1 MB."""

_NAME = re.compile(r"\d{8}T\d{6}Z(-\d{1,3})?")

Document = dict[str, Any]


class History:
    """The runs of one home, below `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def new_run(self, started: float) -> str:
        """Return a name for a run that starts now: its time in UTC, with a number where that second has one already."""
        name = datetime.fromtimestamp(started, UTC).strftime("%Y%m%dT%H%M%SZ")
        number = 1
        run = name
        while self._json(run).exists():
            number += 1
            run = f"{name}-{number}"
        return run

    def keep(self, document: Document) -> Path:
        """Write a report as JSON and as a page, and let the oldest go; return where the page is. Raises `HomeError`."""
        run = str(document["run"])
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError(f"{self._folder}: {error.strerror or error}", "make it a folder that you may write") from None
        write_atomically(self._json(run), json.dumps(document, indent=1).encode())
        write_atomically(self.page_of(run), page(document).encode())
        for old in self.runs()[KEPT:]:
            for path in (self._json(old), self.page_of(old)):
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return self.page_of(run)

    def runs(self) -> list[str]:
        """Return the names of the runs, the latest first."""
        with suppress(OSError):
            names = {path.stem for path in self._folder.iterdir() if path.suffix == ".json"}
            return sorted((name for name in names if _NAME.fullmatch(name)), key=_order, reverse=True)
        return []

    def read(self, run: str) -> Document | None:
        """Return the report of `run`; None when it is gone or torn."""
        try:
            with self._json(run).open("rb") as file:
                document = json.loads(file.read(MAX_BYTES))
        except (OSError, ValueError, RecursionError) as error:
            log.warning("the report of %s is not read: %s", run, error)
            return None
        return document if isinstance(document, dict) else None

    def last(self) -> Document | None:
        """Return the latest report that can be read."""
        return next((document for run in self.runs() if (document := self.read(run)) is not None), None)

    def find(self, word: str) -> str:
        """Return the run that `word` names: a number (1 is the latest), or its name. Raises `UsageError`."""
        runs = self.runs()
        if word.isascii() and word.isdecimal() and len(word) <= 3:
            if 1 <= int(word) <= len(runs):
                return runs[int(word) - 1]
        elif word in runs:
            return word
        raise UsageError(f"there is no run {word}", "`dragon sync history` lists them")

    def page_of(self, run: str) -> Path:
        return self._folder / f"{run}.html"

    def _json(self, run: str) -> Path:
        return self._folder / f"{run}.json"


def _order(name: str) -> tuple[str, int]:
    at, _, number = name.partition("-")
    return at, int(number or 1)

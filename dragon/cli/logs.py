"""The log of `dragon serve`: stderr, one line for each record, every text in it made fit for a terminal."""

from __future__ import annotations

import logging
import os
import sys
from typing import TextIO

from dragon.text import clean

LONGEST = 8000
"""Characters of a line: a traceback fits, a peer's flood does not."""

_LEVELS = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}


class OneLine(logging.Formatter):
    """A record on one line: nobody whose words we log can forge a second one. Tracebacks keep their lines apart by `⏎`."""

    def format(self, record: logging.LogRecord) -> str:
        return " ⏎ ".join(clean(line, LONGEST) for line in super().format(record).splitlines() if line.strip())[:LONGEST]


class ToStderr(logging.StreamHandler[TextIO]):
    """Writes to what is stderr now: while a live display is shown, that is what keeps lines above it."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def set_up_logging(level: int) -> None:
    """Log to stderr at `level`: -1 warnings, 0 what happens, 1 everything of ours."""
    handler = ToStderr()
    when = "" if "JOURNAL_STREAM" in os.environ else "%(asctime)s "  # the journal has its own clock
    handler.setFormatter(OneLine(f"{when}%(levelname)s %(name)s: %(message)s", datefmt="%Y-%m-%d %H:%M:%S"))
    logging.basicConfig(level=max(_LEVELS[level], logging.INFO), handlers=[handler], force=True)
    for ours in ("dragon", "registry_schema"):  # the libraries' debug output tells their story, not ours
        logging.getLogger(ours).setLevel(_LEVELS[level])

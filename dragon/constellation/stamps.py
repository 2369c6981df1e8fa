"""When the last run began, told to and by everybody on this machine who starts runs: a station's hourly script, and ours.

A stamp is a file with the seconds since the epoch on one line. The latest of all counts, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dragon.errors import LocalError
from dragon.home import write_atomically

APART = 3000.0
"""Seconds between two runs that nobody asked for: what a station's own hourly loop keeps (ASTROPORT facts 2.1)."""

READABLE = 0o644

_SECONDS = re.compile(rb"\s*(\d{1,12})\s*")


def last_run(stamps: Sequence[Path], now: float) -> float | None:
    """Return when the latest run began, in seconds since the epoch; None when no stamp tells. One of the future is no stamp."""
    told = [at for at in map(_read, stamps) if at is not None and at <= now]
    return max(told, default=None)


def stamp(stamps: Sequence[Path], now: float) -> None:
    """Say that a run begins now, wherever that can be said: a station's folder that is not ours to write is passed over."""
    for path in stamps:
        if path.parent.is_dir():
            with suppress(LocalError):
                write_atomically(path, f"{int(now)}\n".encode(), READABLE)


def wait_for(last: float | None, now: float, every: float) -> float:
    """Return the seconds until a run is due that shall follow another one after `every` seconds; 0 when it is."""
    return 0.0 if last is None else max(last + min(every, APART) - now, 0.0)


def _read(path: Path) -> float | None:
    try:
        with path.open("rb") as file:
            match = _SECONDS.fullmatch(file.read(64))
            return float(match[1]) if match else path.stat().st_mtime
    except OSError:
        return None

"""Since when a station has had a Qdrant that works: the stamp by which stations are ranked among those that offer one.

Source: ASTROPORT facts 3.2 (a successful TEST of qdrant writes it) and 2.3 (`qdrant_veteran_days`): Unix seconds of the first
success, never written again.
"""

from __future__ import annotations

import os
from pathlib import Path

from dragon.astroport.status_file import READABLE
from dragon.errors import HomeError

DAY = 86400


def stamp_of(zen: Path) -> Path:
    return zen / "tmp" / "qdrant_veteran_since"


def note_success(zen: Path, at: float) -> None:
    """Write the stamp unless there is one. `at`: seconds since the epoch. Raises `HomeError`."""
    file = stamp_of(zen)
    if file.exists():
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, READABLE)
    except OSError as error:
        raise HomeError(f"{file}: {error.strerror or error}", "set ZEN_HOME to a folder of your own") from error
    with os.fdopen(descriptor, "w") as stamp:
        stamp.write(f"{at:.0f}\n")


def days(stamp: str, at: float) -> int | None:
    """Return the whole days from the text of a stamp until `at`; None where it tells no past moment."""
    text = stamp.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 11) or int(text) > at:
        return None
    return int(at - int(text)) // DAY

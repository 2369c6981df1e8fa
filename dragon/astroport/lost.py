"""Scripts of a Dragon that no journal knows: ours from before a crash, or copies that the station's scripts brought back."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path
from typing import Final

from dragon.astroport.facts import read_text
from dragon.astroport.scripts import HEAD, slug_of

MAX_SCRIPT: Final = 65536
"""Bytes of a script that may be one: ours have about 3,400."""


def scripts_in(folder: Path, known: Container[str] = ()) -> list[str]:
    """Return the names of the plain files `x_<slug>.sh` in `folder` that are not `known`. Blocks; none where it is not read."""
    try:
        with os.scandir(folder) as entries:
            strangers = (entry for entry in entries if entry.name not in known)
            return [entry.name for entry in strangers if slug_of(entry.name) and entry.is_file(follow_symlinks=False)]
    except OSError:
        return []


def lost_scripts(folder: Path, known: Container[str]) -> list[str]:
    """Return those that a Dragon made, by how they begin, and that are not `known`. Blocks."""
    return [name for name in scripts_in(folder, known) if read_text(folder / name, MAX_SCRIPT).startswith(HEAD)]

"""This very program, for those who write down how it is called: units and scripts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path


def executable() -> tuple[str, ...]:
    """Return how this very program is called from anywhere: its script, else Python with the module."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).parent / "dragon"
    for candidate in (called if called.name == "dragon" else None, beside, shutil.which("dragon")):
        if candidate is not None and Path(candidate).is_file() and os.access(candidate, os.X_OK):
            return (os.path.abspath(candidate),)  # noqa: PTH100
    return (sys.executable, "-m", "dragon")

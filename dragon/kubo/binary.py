"""Where the Kubo binary comes from: found, downloaded and verified, or built.

Order: `PATH` (unless too old) → `DRAGON_HOME/bin` → the user's cache folder → the official release, verified against its
published SHA-512 → built from the pinned Go module in `deploy/kubo`. What was downloaded or built lands in the cache folder
in one step, so that a second start, or a second node at the same time, finds it whole or not at all.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from dragon.home import Home

VERSION = "0.43.0"
"""The release everything was measured with. 0.43.1 carries a `replace` and cannot be built as a dependency."""

MINIMUM = (0, 40)
"""`name/get`, and pubsub sequence numbers that behave as KUBO.md describes."""

Progress = Callable[[str], None]
"""Takes one line that says what is happening."""


def cache_dir() -> Path:
    """Return the folder of downloaded and built binaries of this user, outside every work tree."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dragon" / "kubo" / VERSION


def version_of(binary: Path) -> tuple[int, ...] | None:
    """Return the version that `binary` states, e.g. `(0, 43, 0)`; None when it is not a working Kubo."""
    try:
        answer = subprocess.run([binary, "version", "--number"], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", answer.stdout.strip())
    return tuple(int(part) for part in match.groups()) if match else None


def find(home: Home, *, progress: Progress = lambda line: None) -> Path | None:
    """Return a usable binary of this machine, or None. What is passed over is told to `progress` with the reason."""
    on_path = shutil.which("ipfs")
    for candidate in (Path(on_path) if on_path else None, home.bin / "ipfs", cache_dir() / "ipfs"):
        if candidate is None or not candidate.is_file():
            continue
        version = version_of(candidate)
        if version is None:
            progress(f"{candidate} is passed over: it does not run")
        elif version < MINIMUM:
            progress(f"{candidate} is passed over: version {'.'.join(map(str, version))} is older than 0.40")
        else:
            return candidate
    return None

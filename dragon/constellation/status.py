"""What the run that goes on says of itself: one small JSON file, replaced about once a second, for `dragon sync status`.

Not durable on purpose: after a crash of the machine there is no run. Whether the process that wrote it lives decides.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dragon.constellation.progress import Progress

EVERY = 1.0
"""Seconds between two writings: what a person who watches notices, and 0.1 ms of work."""

MAX_BYTES = 1 << 20
"""Bytes read of a status file: one has about 1 kB, with the names of 64 busy peers 10 kB."""

Document = dict[str, Any]


class StatusFile:
    """The file of the run, or of the follower, of one home."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def write(self, run: str, started: float, progress: Progress | None, **more: Any) -> None:
        """Say how far the run is. A place that cannot be written loses the status, never the run."""
        document = {"pid": os.getpid(), "run": run, "started": started, **(asdict(progress) if progress else {}), **more}
        new = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        with suppress(OSError):
            new.write_text(json.dumps(document))
            new.replace(self._path)

    def clear(self) -> None:
        """Say that the run has ended; a status of another process stays."""
        if self._document().get("pid") == os.getpid():
            with suppress(OSError):
                self._path.unlink(missing_ok=True)

    def read(self) -> Document | None:
        """Return what the living run says; None when none goes on."""
        document = self._document()
        pid = document.get("pid")
        return document if isinstance(pid, int) and _lives(pid) else None

    def _document(self) -> Document:
        try:
            with self._path.open("rb") as file:
                document = json.loads(file.read(MAX_BYTES))
        except (OSError, ValueError, RecursionError):
            return {}
        return document if isinstance(document, dict) else {}


def _lives(pid: int) -> bool:
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True

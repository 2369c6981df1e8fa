"""One Dragon per station: two of them would take each other's files away. A lock beside what the daily wipe empties."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from dragon.astroport.zen import Zen
from dragon.errors import HomeError
from dragon.home import Home

LOCK: Final = ".dragon.lock"

_MAX_OWNER = 4096


@contextmanager
def held(zen: Zen, home: Home) -> Iterator[str]:
    """Hold the station for the Dragon of `home`; the kernel lets go of it with the process.

    Gives "", or why no lock could be taken: then the node serves all the same, and its files tell the same trouble. Raises
    `HomeError` that names the other Dragon where there is one.
    """
    file = zen.root / LOCK
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        yield f"{file} cannot be taken: {error.strerror or error}"
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HomeError(
                f"the station at {zen.root} is served by another Dragon already ({_owner(descriptor)})",
                'stop that node, or start this one with [astroport] enabled = "off" or another ZEN_HOME',
            ) from None
        with suppress(OSError):  # a full disk: the lock holds without a name in it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "home": str(home.root)}).encode(), 0)
        yield ""
    finally:
        os.close(descriptor)


def _owner(descriptor: int) -> str:
    try:
        owner = json.loads(os.pread(descriptor, _MAX_OWNER, 0))
        return f"pid {int(owner['pid'])}, home {Path(owner['home'])}"
    except (OSError, ValueError, KeyError, TypeError):
        return "it does not say which"

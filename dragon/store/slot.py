"""One number in a file that never grows: where our own sequence is kept while the disk has no room for a commit.

The file gets its size when the store is opened and is only ever overwritten in place, which takes no room on file systems that
overwrite (ext4, xfs, tmpfs). One that copies (btrfs) may refuse: then there is no slot, as where it could not be made.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_FORM = re.compile(rb"\d{20}\n")
"""Twenty digits hold every sequence (below 2^63); of one length, so that one write of one sector replaces all of it."""


class Slot:
    """Blocking; used from the store's thread only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int | None:
        """Return the number, None where there is none."""
        try:
            content = self._path.read_bytes()
        except OSError:
            return None
        return (int(content) or None) if _FORM.fullmatch(content) else None

    def make(self) -> None:
        """Take the room for a number now, while there may be some; what is there stays."""
        if self.read() is None:
            self.clear()

    def clear(self) -> None:
        """Forget the number and keep the room."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        except OSError:
            return
        os.close(descriptor)
        self.write(0)

    def write(self, number: int) -> bool:
        """Overwrite the number; False where that cannot be done."""
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
            try:
                data = b"%020d\n" % number
                written = os.pwrite(descriptor, data, 0)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            return False
        return written == len(data)

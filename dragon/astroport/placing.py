"""Single files in a folder that is held open: nothing here follows a link or waits for a pipe. Paths are names, never more."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""How a folder is opened: a link of its name is refused."""

MAX_READ: Final = 1 << 20
"""Bytes of a file that is read to be merged with: a full 12345.json has some ten thousand."""

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # a pipe of that name must not hold us up


@dataclass(frozen=True, slots=True)
class File:
    """What a file shall hold, and its permissions."""

    data: bytes
    mode: int = 0o644


def held(root: int, folder: str, names: Iterable[str], limit: int = MAX_READ) -> tuple[dict[str, bytes], frozenset[str]]:
    """Return the contents of the plain files of these names, each of at most `limit` bytes, and the names of all entries."""
    try:
        place = os.open(folder, FOLDER, dir_fd=root)
    except OSError:
        return {}, frozenset()
    try:
        with os.scandir(place) as entries:
            there = frozenset(entry.name for entry in entries)
        read = ((name, contents(place, name, limit)) for name in names if name in there)
        return {name: data for name, data in read if data is not None}, there
    finally:
        os.close(place)


def contents(place: int, name: str, limit: int) -> bytes | None:
    """Return what a plain file of at most `limit` bytes holds, None for any other, and for what is not there."""
    try:
        descriptor = os.open(name, _READ, dir_fd=place)
    except OSError:
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            data = file.read(limit + 1)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data if len(data) <= limit else None


def differs(place: int, name: str, file: File) -> bool:
    """Tell whether what has this name is anything else than `file`. Raises `OSError`."""
    try:
        status = os.stat(name, dir_fd=place, follow_symlinks=False)
    except FileNotFoundError:
        return True
    if not stat.S_ISREG(status.st_mode) or status.st_size != len(file.data) or stat.S_IMODE(status.st_mode) != file.mode:
        return True
    return contents(place, name, len(file.data)) != file.data


def replace(place: int, name: str, file: File) -> bool:
    """Put `file` in its place in one step. A link of that name is replaced itself, what it points to stays untouched."""
    temporary = unfinished(name)
    with suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=place)
    create(place, temporary, file)
    try:
        os.rename(temporary, name, src_dir_fd=place, dst_dir_fd=place)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=place)
        raise
    return True


def unfinished(name: str) -> str:
    """Return the name under which a file is written; a crash may leave one, which the next writing of the file takes away."""
    return f".{name}.dragon"


def create(place: int, name: str, file: File) -> None:
    """Write a file that is not there yet. Raises `FileExistsError` where it is, and any other `OSError`."""
    descriptor = os.open(name, _NEW, file.mode, dir_fd=place)
    try:
        os.fchmod(descriptor, file.mode)  # whatever the umask is
        written = 0
        while written < len(file.data):
            written += os.write(descriptor, file.data[written:])
    finally:
        os.close(descriptor)


def remove(place: int, name: str) -> bool:
    """Take a file away and tell whether there was one; a folder of that name stays."""
    try:
        os.unlink(name, dir_fd=place)
    except FileNotFoundError:
        return False
    except IsADirectoryError:
        return False  # somebody else's
    return True


def clear(staging: int, folder: str) -> None:
    """Take away what a crash left of a folder that was being filled."""
    with suppress(FileNotFoundError):
        place = os.open(folder, FOLDER, dir_fd=staging)
        try:
            with os.scandir(place) as entries:
                for name in [entry.name for entry in entries]:
                    os.unlink(name, dir_fd=place)
        finally:
            os.close(place)
        os.rmdir(folder, dir_fd=staging)


def looks(root: int, folder: str) -> int:
    """Return a number that changes when a file of the folder is made, replaced, written or taken away; 0: no folder."""
    try:
        place = os.open(folder, FOLDER, dir_fd=root)
    except OSError:
        return 0
    try:
        itself = os.fstat(place)
        with os.scandir(place) as entries:
            seen = sorted((each.name, _signature(each.stat(follow_symlinks=False))) for each in entries)
    finally:
        os.close(place)
    return hash((itself.st_dev, itself.st_ino, *seen))


def _signature(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode

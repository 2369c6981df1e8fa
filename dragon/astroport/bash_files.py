"""Where the files of a Bash station are read: under its IPNS name, or in the copy that this station's own scripts fetched.

Bounded everywhere: so many names, so many bytes of a file, so many files. A copy on disk is read without following links, and
only plain files count: whoever can write there may not make us read anything else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dragon.astroport.hearsay import wanted
from dragon.astroport.reading import MAX_NAMES, Listing, read_listing
from dragon.errors import KuboRefused
from dragon.kubo.types import Kubo
from registry_schema.ids import is_node_id

MADE_BY_US = b"# Made by Dragon"
"""Second line of the scripts that are generated here (`scripts.HEAD`): such a copy repeats a signed manifest."""

MAX_COPIES = 2048
"""Folders of a swarm cache that are looked at."""

Files = tuple[Listing, Mapping[str, bytes]]
Stamp = tuple[int, ...]


async def under_name(kubo: Kubo, path: str) -> Files:
    """Return what the balise at an immutable `/ipfs/…` path holds, as far as it is wanted.

    Raises `Unreadable`, and `KuboUnreachable` where nobody has it now.
    """
    listing = read_listing(await kubo.ls(path, limit=MAX_NAMES + 1))
    files: dict[str, bytes] = {}
    if not listing.has_manifest:
        for name, limit in wanted(listing).items():
            with suppress(KuboRefused):  # a folder or a link of that name, or no such file
                files[name] = await kubo.cat(f"{path}/{name}", limit=limit)
    return listing, files


def copied(swarm: Path) -> dict[str, Stamp]:
    """Return the node ids that a swarm cache has folders of, at most `MAX_COPIES`; none where it cannot be read. Blocks.

    With each comes what changes whenever the scripts fetch the node again: they lay a new folder.
    """
    found: dict[str, Stamp] = {}
    with suppress(OSError), os.scandir(swarm) as entries:
        for _, entry in zip(range(MAX_COPIES), entries, strict=False):
            if is_node_id(entry.name):
                about = entry.stat(follow_symlinks=False)
                found[entry.name] = about.st_ino, about.st_mtime_ns
    return found


def in_copy(folder: Path) -> Files | None:
    """Return what one folder of a swarm cache holds; None where it is no plain folder, or was made here. Blocks.

    Raises `Unreadable`.
    """
    try:
        files = _copy(folder)
    except OSError:
        return None
    return None if _is_ours(files) else files


def _copy(folder: Path) -> Files:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        with os.scandir(descriptor) as entries:
            listing = read_listing(entry.name for _, entry in zip(range(MAX_NAMES + 1), entries, strict=False))
        files: dict[str, bytes] = {}
        if not listing.has_manifest:
            for name, limit in wanted(listing).items():
                with suppress(OSError):
                    files[name] = _read(name, descriptor, limit)
        return listing, files
    finally:
        os.close(descriptor)


def _read(name: str, folder: int, limit: int) -> bytes:
    """Return at most `limit` bytes of a plain file; `OSError` for anything else, links included. Never waits for a pipe."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(f"{name} is no plain file")
        return file.read(limit)


def _is_ours(files: Files) -> bool:
    return any(MADE_BY_US in data[:64] for name, data in files[1].items() if name.endswith(".sh"))

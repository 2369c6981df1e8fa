"""Which files are ours, in a file outside the folders that others wipe: folder → names, for one root."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from dragon.errors import HomeError
from dragon.home import set_aside, write_atomically

log = logging.getLogger(__name__)

MAX_BYTES: Final = 16 << 20
"""Of a journal: 2,000 folders with 76 names each take half of it. What is longer is not one."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")


def is_name(text: str) -> bool:
    """Tell whether `text` may name a file or folder that we lay: one visible path component of plain characters."""
    return _NAME.fullmatch(text) is not None


class LaidJournal:
    """The journal of everything that was laid below `root`."""

    def __init__(self, path: Path, root: Path) -> None:
        self._path = path
        self._root = root
        self._written: dict[str, set[str]] | None = None

    def read(self) -> dict[str, set[str]]:
        """Return folder → names. Another root's counts as empty, a torn one is set aside. Raises `HomeError`."""
        found = self._read()
        self._written = {folder: set(names) for folder, names in found.items()}
        return found

    def write(self, ours: Mapping[str, set[str]]) -> None:
        """Hold `ours` on the disk when this returns. Raises `HomeError`."""
        if ours == self._written:
            return
        folders = {folder: sorted(names) for folder, names in sorted(ours.items())}
        document = {"root": str(self._root), "folders": folders}
        write_atomically(self._path, json.dumps(document, separators=(",", ":")).encode())
        self._written = {folder: set(names) for folder, names in ours.items()}

    def _read(self) -> dict[str, set[str]]:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise HomeError(f"{self._path}: {error.strerror or error}", "make it readable") from error
        found = _parsed(data) if len(data) <= MAX_BYTES else None
        if found is None:
            kept = set_aside(self._path)
            log.warning("%s is no journal of ours: kept as %s; files laid before stay where they are", self._path, kept.name)
            return {}
        root, folders = found
        return folders if root == str(self._root) else {}


def _parsed(data: bytes) -> tuple[str, dict[str, set[str]]] | None:
    """Return the root and its folder → names; None when this is no journal."""
    try:
        document = json.loads(data)
        root = str(document["root"])
        folders = {str(folder): {str(name) for name in names} for folder, names in document["folders"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return (root, folders) if all(is_name(name) for folder, names in folders.items() for name in (folder, *names)) else None

"""What stands under a station's IPNS names: its balise, and its map of the swarm, read from the disk with bounds.

Other programs' files are part of it, as they are when the station's own `_12345.sh` publishes. Names that begin with a dot stay
home at every depth, links and whatever is no plain file do too. Source: ASTROPORT facts 2.2, 2.4.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from dragon.astroport.balise import DOCUMENT, MANIFEST, TIMES
from dragon.astroport.beacon import VOLATILE
from dragon.astroport.facts import read_document

MAX_FILES: Final = 20_000
"""A map of 1,000 nodes with a dozen files each, and room."""

MAX_BYTES: Final = 256 << 20
"""Of all files together: players' pages and maps take some megabytes each; beyond this the directory is something else."""

MAX_DEPTH: Final = 12
"""Folders in folders; the UPLANET grid has six."""

SILENT: Final = TIMES | {MANIFEST}
"""Files that change with every beat and say nothing new."""


@dataclass(frozen=True, slots=True)
class Tree:
    """Relative path → file. `signature` changes when the content does, `left_out` says what stayed home for lack of room."""

    files: dict[str, Path] = field(default_factory=dict)
    signature: bytes = b""
    left_out: str = ""


Documents: TypeAlias = dict[Path, tuple[tuple[int, int], bytes]]
"""Every 12345.json that was read: its size and time then, and what it said beside times."""


def read_tree(root: Path, *, wanted: Callable[[str], bool] = lambda name: True, documents: Documents | None = None) -> Tree:
    """Return what is published of `root`; `wanted` tells it of the names in `root` itself. Blocks; a missing folder is empty.

    Contents are not read: a file of the same size and time is the same, 12345.json excepted, whose times alone are no news.
    `documents` remembers those from look to look.
    """
    documents = {} if documents is None else documents
    seen: Documents = {}
    files: dict[str, Path] = {}
    digest = hashlib.sha256()
    total, left_out = 0, 0
    for name, path, status in _walk(root, "", wanted, 1):
        if len(files) >= MAX_FILES or total + status.st_size > MAX_BYTES:
            left_out += 1
            continue
        files[name] = path
        total += status.st_size
        last = name.rpartition("/")[2]
        if last == DOCUMENT:
            looks = status.st_size, status.st_mtime_ns
            known = documents.get(path)
            seen[path] = known if known is not None and known[0] == looks else (looks, _said(path))
            digest.update(name.encode() + b"\0" + seen[path][1])
        elif last not in SILENT:
            digest.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    documents.clear()
    documents.update(seen)
    said = (
        f"{left_out} files of {root} are not published: beyond {MAX_FILES} files or {MAX_BYTES >> 20} MiB" if left_out else ""
    )
    return Tree(files, digest.digest(), said)


def _said(file: Path) -> bytes:
    """Return what a 12345.json says beside times, as a hash."""
    document = {key: value for key, value in read_document(file).items() if key not in VOLATILE | {"uptime"}}
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode(errors="surrogatepass")).digest()


def _walk(folder: Path, prefix: str, wanted: Callable[[str], bool], depth: int) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Yield (relative path, file, status), plain files of a folder before its folders: the balise's own are never left out."""
    folders: list[os.DirEntry[str]] = []
    try:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in found:
        if entry.name.startswith(".") or not _is_text(entry.name) or not wanted(entry.name):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry)
            elif entry.is_file(follow_symlinks=False):
                yield f"{prefix}{entry.name}", Path(entry.path), entry.stat(follow_symlinks=False)
        except OSError:
            continue  # it went while we looked
    if depth < MAX_DEPTH:
        for entry in folders:
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", lambda name: True, depth + 1)


def _is_text(name: str) -> bool:
    """Tell whether a name can be sent to Kubo: a file system takes bytes that are no text."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return name.isprintable()

"""A station's people, from its files: whose NOSTR events its relay is there for. Read as data, with bounds.

The files are others': one that is torn, huge, a directory or unreadable counts as absent, and says so in the log once.
Source: ASTROPORT facts 4.2; the node's own key: 2.1, 2.2.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dragon.astroport.zen import Zen
from registry_schema import is_node_id

log = logging.getLogger(__name__)

MAX_KEY_FILE = 4096
"""Bytes read of a HEX file: one line of 64 digits; `secret.nostr` has three short lines."""

MAX_FRIENDS_FILE = 4 << 20
"""Bytes read of amisOfAmis.txt: 60,000 lines of 65."""

MAX_BEACON = 1 << 20
"""Bytes read of our own 12345.json: some 10 kB."""

MAX_FILES = 20_000
"""HEX files read below one folder: a station has some hundreds of cards."""

MAX_DEPTH = 6
"""Folders below flashmem that are looked into: its memories lie three deep."""

_KEY = re.compile(r"[0-9a-f]{64}")
_SECRET_HEX = re.compile(r"""(?:^|[;\s])HEX=["']?([0-9A-Fa-f]{64})(?![0-9A-Za-z])""")


@dataclass(frozen=True, slots=True)
class StationPeople:
    """Who a station keeps events of. Lower-case keys of 64 hex digits, no key twice within one field."""

    people: tuple[str, ...]
    """Its card holders, its captain, and the keys in its flash memories: whose follow lists count."""
    station: tuple[str, ...]
    """The station's own key."""
    friends: tuple[str, ...]
    """What amisOfAmis.txt holds, in the order of its lines."""


def station_people(zen: Zen, node_id: str) -> StationPeople:
    """Return the people of the station at `zen` whose node is `node_id`. Raises nothing: what cannot be read is absent."""
    balise = zen.balise(node_id) if is_node_id(node_id) else None
    captain = _captain(balise / "12345.json") if balise else ""
    cards = _key_files(zen.game / "nostr", depth=1)
    memories = _key_files(zen.flashmem, depth=MAX_DEPTH)
    own = [*_SECRET_HEX.findall(_text(zen.game / "secret.nostr", MAX_KEY_FILE)), _text(balise / "HEX") if balise else ""]
    friends = _text(zen.strfry / "amisOfAmis.txt", MAX_FRIENDS_FILE).splitlines()
    return StationPeople(tuple(_keys([*cards, captain, *memories])), tuple(_keys(own)), tuple(_keys(friends)))


def _keys(words: Iterable[str]) -> Iterator[str]:
    seen: set[str] = set()
    for word in words:
        key = word.strip().lower()
        if _KEY.fullmatch(key) and key not in seen:
            seen.add(key)
            yield key


def _captain(beacon: Path) -> str:
    try:
        document = json.loads(_text(beacon, MAX_BEACON) or "{}")
    except (ValueError, RecursionError):
        return ""
    told = document.get("captainHEX") if isinstance(document, dict) else None
    return told if isinstance(told, str) else ""


def _key_files(folder: Path, depth: int) -> list[str]:
    """Return the first line of each file called HEX at most `depth` folders below `folder`, in the order of their paths."""
    found: list[str] = []
    for path, folders, files in os.walk(folder):  # does not follow links: a link to / would walk the machine
        level = len(Path(path).relative_to(folder).parts)
        folders[:] = sorted(folders) if level < depth else []
        if "HEX" in files and level > 0:
            lines = _text(Path(path) / "HEX").splitlines()
            found += lines[:1]
            if len(found) >= MAX_FILES:
                log.warning("%s: more than %d HEX files; the rest is not read", folder, MAX_FILES)
                break
    return found


def _text(path: Path, most: int = MAX_KEY_FILE) -> str:
    """Return what the regular file `path` holds, "" when there is none to read or it is larger than `most` bytes."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a fifo must not hold us
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        try:
            data = file.read(most + 1)
        except OSError as error:
            log.warning("%s is not read: %s", path, error.strerror or error)
            return ""
    if len(data) > most:
        log.warning("%s is not read: larger than %d bytes", path, most)
        return ""
    return data.decode(errors="replace")

"""What we opened in a daemon, on disk, so that a node that was killed leaves nothing behind for ever.

Written before the act and replaced in one step. Not synced to the disk: after a power cut the daemon is gone as well, and
its tunnels with it.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from dragon.home import set_aside
from dragon.kubo.plan import Ours
from dragon.kubo.types import P2PEntry

log = logging.getLogger(__name__)

FORMAT = 1


def load(path: Path) -> dict[P2PEntry, bool]:
    """Return what the journal holds; nothing where there is none. A torn or foreign file is set aside with a message."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return {}
    try:
        value = json.loads(text)
        if value["format"] != FORMAT:
            raise ValueError(f"format {value['format']}")
        return {
            P2PEntry(str(protocol), str(listen), str(target)): bool(names) for protocol, listen, target, names in value["ours"]
        }
    except (ValueError, KeyError, TypeError) as error:
        place = set_aside(path)
        log.warning("%s cannot be read (%s) and was set aside as %s: tunnels of an earlier run may remain", path, error, place)
        return {}


def save(path: Path, ours: Ours) -> None:
    """Replace the journal; an empty one is removed. Raises `OSError`."""
    if not ours:
        path.unlink(missing_ok=True)
        return
    entries = [[entry.protocol, entry.listen, entry.target, names] for entry, names in ours.items()]
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(json.dumps({"format": FORMAT, "ours": entries}))
    temporary.replace(path)

"""How far an interrupted run came with peers that are read in pages: the next one goes on from there.

With NIP-77 nothing of the kind is needed: what is here already is no difference any more.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dragon.constellation.wanted import Wanted
from dragon.home import set_aside, write_atomically

log = logging.getLogger(__name__)

KEPT = 6 * 3600
"""Seconds for which a mark counts: what reaches a peer late, below a mark, is found by the next run that has none."""

MAX_FILE = 1 << 20
"""Bytes of marks that are read: 8,000 of them."""

Span = tuple[int, int]
"""Unix seconds, both ends included; of the first second not everything may have been read."""


@dataclass(slots=True)
class Marks:
    """Which part of a filter's window was read of which peer, and when that was."""

    spans: dict[str, tuple[Span, int]] = field(default_factory=dict)

    def covered(self, node_id: str, wanted: Wanted, now: int) -> Span | None:
        """Return what need not be read again."""
        span, noted = self.spans.get(_key(node_id, wanted), (None, 0))
        return span if span is not None and 0 <= now - noted <= KEPT else None

    def note(self, node_id: str, wanted: Wanted, down_to: int, top: int, now: int) -> None:
        """Everything from `top` down to `down_to` is in hand. Two spans become one where they meet; else the longer stays."""
        low, high = down_to, min(wanted.until, top)
        old = self.covered(node_id, wanted, now)
        if old is not None and low > old[1]:
            return  # what is newer than the old span is not through yet: it is read again, not the long rest
        if low <= high:
            self.spans[_key(node_id, wanted)] = ((low, high), now)

    def forget(self, node_id: str) -> None:
        """This peer was read to its end."""
        for key in [key for key in self.spans if key.startswith(f"{node_id} ")]:
            del self.spans[key]

    def save(self, path: Path) -> None:
        """Keep the marks in a file; none is left where there is nothing to keep. `HomeError` where that fails."""
        if self.spans:
            document = [[key, *span, noted] for key, (span, noted) in self.spans.items()]
            write_atomically(path, json.dumps({"version": 1, "marks": document}).encode())
        else:
            path.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | None) -> Marks:
        """Return the marks in a file; none where there is no such file, or it is not ours: that one is set aside."""
        if path is None or not path.exists():
            return cls()
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
        marks = _parsed(data)
        if marks is None:
            log.warning("%s is not what a sync wrote: set aside as %s", path, set_aside(path))
        return marks or cls()


def _parsed(data: bytes) -> Marks | None:
    found = Marks()
    with suppress(ValueError, RecursionError, TypeError, KeyError):
        document: Any = json.loads(data)
        if document["version"] == 1:
            for key, low, high, noted in document["marks"]:
                if type(key) is not str or any(type(number) is not int for number in (low, high, noted)):
                    return None
                found.spans[key] = (low, high), noted
            return found
    return None


def _key(node_id: str, wanted: Wanted) -> str:
    asked = json.dumps([wanted.authors, wanted.kinds]).encode()
    return f"{node_id} {hashlib.sha256(asked).hexdigest()[:32]}"

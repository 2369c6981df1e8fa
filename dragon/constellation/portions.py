"""How many events are asked for at once: as many as take little memory, however large they are. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from dragon.constellation.frames import Frame

PORTION = 1024 * 1024
"""Bytes of events that are asked for at once. Five such are under way at most: one is read, others verified and stored."""

FIRST = 8 * 1024
"""Bytes that an event is taken to have before any came: most have some hundreds, the largest 64 KiB."""

LEAST = 20
"""Events that are asked for however large they are: 1.3 MB of the largest."""


class Portions:
    """Learns the size of a peer's events: larger ones at once, smaller ones by and by."""

    def __init__(self) -> None:
        self._size = FIRST

    def count(self, most: int) -> int:
        """Return how many to ask for next, `most` where they are small."""
        return min(max(PORTION // self._size, LEAST), most)

    def note(self, events: Sequence[Frame]) -> None:
        """These came."""
        if events:
            mean = sum(len(event.text) for event in events) // len(events)
            self._size = max(mean, self._size // 8, 1)

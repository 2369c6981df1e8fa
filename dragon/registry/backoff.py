"""How long to wait before trying again: doubling, bounded, jittered. Pure."""

from __future__ import annotations

import random


class Backoff:
    """Waits of `first`, 2 × `first` … up to `most` seconds, each shortened at random by up to a half.

    The jitter keeps nodes that lost the same daemon or peer from coming back in step.
    """

    def __init__(self, first: float, most: float, rng: random.Random) -> None:
        self._first = first
        self._most = most
        self._rng = rng
        self._next = first

    def wait(self) -> float:
        """Return the seconds to wait now, and wait longer next time."""
        now, self._next = self._next, min(self._next * 2, self._most)
        return now * (0.5 + self._rng.random() / 2)

    def reset(self) -> None:
        """What was tried worked: the next failure begins anew."""
        self._next = self._first

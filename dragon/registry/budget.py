"""What one partner may cost us: a token bucket per key, and a bound on how many keys are remembered. Pure.

Keys are carriers (node ids that Kubo verified), never what somebody claims (THREATS 8).
"""

from __future__ import annotations

from collections import OrderedDict

MAX_KEYS = 1024
"""Carriers remembered: more than anybody is directly connected to; the one unused for longest is forgotten first."""


class Budget:
    """`size` tokens at once, `rate` tokens a second afterwards, for each key on its own. Time is passed in, in seconds."""

    def __init__(self, size: float, rate: float, max_keys: int = MAX_KEYS) -> None:
        self._size = size
        self._rate = rate
        self._max_keys = max_keys
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def left(self, key: str, at: float) -> float:
        """Return how many tokens `key` has at `at`; below zero when its last cost was more than it had."""
        if key not in self._levels:
            return self._size
        level, since = self._levels[key]
        return min(self._size, level + max(at - since, 0.0) * self._rate)

    def spend(self, key: str, cost: float, at: float) -> bool:
        """Charge `cost` to `key` and tell whether it still had something; a single overdraft is allowed and paid off later."""
        left = self.left(key, at)
        if left <= 0:
            return False
        self._levels[key] = (left - cost, at)
        self._levels.move_to_end(key)
        while len(self._levels) > self._max_keys:
            self._levels.popitem(last=False)
        return True

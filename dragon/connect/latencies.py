"""How long a provider's answers took: a histogram of fixed size that forgets slowly, for the median and the slow tail.

Buckets grow by a constant factor (as in DDSketch, Masson et al. 2019, and HdrHistogram), so that every quantile is off by the
same small share whatever its size. Pure; nothing but counts is kept, so it is small to store.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

LEAST = 1e-4
"""Seconds of the first bucket's lower edge: a loopback answer takes more."""

GROWTH = 2**0.25
"""From one bucket to the next: a quantile, told as its bucket's middle, is off by at most 9 %."""

BUCKETS = 92
"""Up to 840 s, longer than any forward waits; what is slower counts as that."""

MEMORY = 1024
"""Answers after which all counts are halved: a provider that changed is known by its new ways within as many again."""


class Latencies:
    """Counts of answers by the time they took, in seconds."""

    __slots__ = ("_counts", "_total")

    def __init__(self, counts: Iterable[tuple[int, int]] = ()) -> None:
        """`counts` as `counts()` gave them. Raises `ValueError` for what it never gives."""
        self._counts: dict[int, int] = {}
        for bucket, count in counts:
            if not (0 <= bucket < BUCKETS and 0 < count <= MEMORY) or bucket in self._counts:
                raise ValueError(f"no bucket {bucket} with {count} answers")
            self._counts[bucket] = count
        self._total = sum(self._counts.values())
        if self._total > MEMORY:
            raise ValueError(f"{self._total} answers are more than are kept")

    def __len__(self) -> int:
        """Return how many answers are remembered, at most `MEMORY`."""
        return self._total

    def add(self, seconds: float) -> None:
        bucket = 0 if seconds <= LEAST else min(int(math.log(seconds / LEAST, GROWTH)), BUCKETS - 1)
        if self._total >= MEMORY:
            self._counts = {each: count // 2 for each, count in self._counts.items() if count > 1}
            self._total = sum(self._counts.values())
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1

    def quantile(self, share: float) -> float | None:
        """Return the seconds within which `share` (0 to 1) of the answers came; None when nothing was measured."""
        if not self._total:
            return None
        rank, seen = max(math.ceil(share * self._total), 1), 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= rank:
                break
        return float(LEAST * GROWTH ** (bucket + 0.5))

    def counts(self) -> list[tuple[int, int]]:
        """Return (bucket, answers) of the buckets in use, to be stored."""
        return sorted(self._counts.items())

"""What this node knows, by its own measuring, about reaching one provider's service over one route."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dragon.connect.breaker import CLOSED, Breaker
from dragon.connect.latencies import Latencies
from dragon.connect.measure import PeakEwma, observed

REMEMBERED = 4096
"""Entries kept: more providers than anybody uses. Beyond it the longest unused that nobody is connected through are dropped."""

MOVING_MEMORY = 60.0
"""Seconds of moving bytes after which half of them are forgotten, so that the speed told is one of late."""


@dataclass(slots=True)
class Reach:
    """Counts since it was first used, kept over restarts (`records`); times in monotonic seconds.

    `proven_at`: when it last answered a test or a client. `used_at`: when anything was last measured.
    """

    node_id: str
    slug: str
    route: str
    breaker: Breaker = CLOSED
    measured: PeakEwma | None = None
    in_flight: int = 0
    proven_at: float = float("-inf")
    attempts: int = 0
    failures: int = 0
    sent: int = 0
    received: int = 0
    last_failure: str = ""
    used_at: float = float("-inf")
    latencies: Latencies = field(default_factory=Latencies)
    moved: float = 0.0
    moving: float = 0.0
    """Bytes of late, and the seconds in which they moved."""

    @property
    def bytes_per_second(self) -> float | None:
        """Return how fast bytes moved per connection while any did; None when nothing was moved."""
        return self.moved / self.moving if self.moving > 0 else None

    def move(self, sent: int, received: int, seconds: float, at: float) -> None:
        """One connection carried so many bytes more within its last `seconds`."""
        self.sent += sent
        self.received += received
        self.moved += sent + received
        self.moving += seconds
        if self.moving > MOVING_MEMORY:
            self.moved, self.moving = self.moved / 2, self.moving / 2
        self.used_at = at

    def attempt(self, at: float) -> None:
        """Somebody begins to use it."""
        self.attempts += 1
        self.used_at = at
        self.breaker = self.breaker.attempt(at)

    def succeed(self, seconds: float | None, at: float) -> None:
        """It answered; `seconds` until the first byte, None where that says nothing about its speed."""
        self.breaker = self.breaker.succeed(at)
        self.proven_at = self.used_at = at
        if seconds is not None:
            self._took(seconds, at)

    def slow(self, seconds: float, at: float) -> None:
        """It was still silent after `seconds` when somebody else had answered: no failure, but no recommendation."""
        self._took(seconds, at)

    def fail(self, at: float, why: str) -> None:
        """It did not answer as it should."""
        self.failures += 1
        self.used_at = at
        self.last_failure = why
        self.breaker = self.breaker.fail(at, why)

    def excuse(self, why: str) -> None:
        """It did not answer as it should, and that may be our own trouble: its breaker hears nothing of it."""
        self.failures += 1
        self.last_failure = why
        self.breaker = self.breaker.excuse()

    def die(self, at: float, why: str) -> None:
        """It is known to be gone."""
        self.last_failure = why
        self.breaker = self.breaker.trip(at, why)
        self.proven_at = float("-inf")

    def _took(self, seconds: float, at: float) -> None:
        self.used_at = at
        self.measured = observed(self.measured, seconds, at)
        self.latencies.add(seconds)


@dataclass(slots=True)
class Reaches:
    """All of them, made when first asked for."""

    _table: dict[tuple[str, str, str], Reach] = field(default_factory=dict)

    def of(self, node_id: str, slug: str, route: str) -> Reach:
        key = (node_id, slug, route)
        reach = self._table.pop(key, None) or Reach(node_id, slug, route)
        self._table[key] = reach  # to the end: the order is that of use
        if len(self._table) > REMEMBERED:
            idle = next((old for old, each in self._table.items() if each.in_flight == 0), None)
            if idle is not None and idle != key:
                del self._table[idle]
        return reach

    def peek(self, node_id: str, slug: str, route: str) -> Reach | None:
        """Return what is known without making an entry."""
        return self._table.get((node_id, slug, route))

    def of_node(self, node_id: str) -> list[Reach]:
        return [each for each in self._table.values() if each.node_id == node_id]

    def restore(self, remembered: Iterable[Reach]) -> None:
        """Take in what was measured before a restart; what was measured since outranks it."""
        self._table = {(each.node_id, each.slug, each.route): each for each in remembered} | self._table

    def __iter__(self) -> Iterator[Reach]:
        return iter(list(self._table.values()))

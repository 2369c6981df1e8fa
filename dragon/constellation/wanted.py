"""Which events are asked for: the filters of a run, in parts that relays accept. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from dragon.constellation.event import Event
from dragon.constellation.job import Job
from dragon.constellation.kinds import DELETION

AUTHORS_PER_FILTER = 400
"""Authors in one question: 27 kB of the 128 KiB that strfry takes, and what its planner handles well."""

FAR_FUTURE = 15 * 60
"""Seconds that an event may be ahead of our clock: what clocks may differ, with room."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One filter (NIP-01)."""

    kinds: tuple[int, ...]
    since: int
    until: int
    authors: tuple[str, ...]
    _kinds: frozenset[int] = field(init=False, repr=False, compare=False)
    _authors: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_kinds", frozenset(self.kinds))
        object.__setattr__(self, "_authors", frozenset(self.authors))

    def filter(self, **more: Any) -> dict[str, Any]:
        """Return the filter as relays read it, with `more` conditions."""
        said = {"kinds": list(self.kinds), "since": self.since, "until": self.until, "authors": list(self.authors)}
        return said | more

    def admits(self, event: Event) -> bool:
        """Tell whether `event` is what was asked for."""
        return event.kind in self._kinds and self.since <= event.created_at <= self.until and event.pubkey in self._authors

    def halves(self) -> tuple[Wanted, Wanted] | None:
        """Return the newer and the older half of the window; None where it is a single second."""
        if self.since >= self.until:
            return None
        middle = (self.since + self.until) // 2
        return replace(self, since=middle + 1), replace(self, until=middle)

    def parts(self) -> tuple[Wanted, Wanted] | None:
        """Return two filters that ask for the same together: half of the authors each, else half of the kinds."""
        if len(self.authors) > 1:
            middle = len(self.authors) // 2
            return replace(self, authors=self.authors[:middle]), replace(self, authors=self.authors[middle:])
        if len(self.kinds) > 1:
            middle = len(self.kinds) // 2
            return replace(self, kinds=self.kinds[:middle]), replace(self, kinds=self.kinds[middle:])
        return None


def filters(job: Job) -> list[Wanted]:
    """Return the filters of a run, deletions first: what comes after them is not stored in vain."""
    kinds = tuple(kind for kind in job.kinds if kind != DELETION)
    found: list[Wanted] = []
    for some in ((DELETION,) if DELETION in job.kinds else (), kinds):
        if some:
            found += [Wanted(some, job.since, job.until, authors) for authors in batches(job.authors, AUTHORS_PER_FILTER)]
    return found


def batches(values: tuple[str, ...], count: int) -> Iterator[tuple[str, ...]]:
    """Return `values` in tuples of at most `count`."""
    for start in range(0, len(values), count):
        yield values[start : start + count]

"""Reading everything of a window from a relay that answers a page at a time, newest first. Pure.

The next page begins in the second in which the last one ended, so that nothing of that second is lost; what comes twice is
known by its id. A relay may cap pages lower than it says, so a short page is no end; a page without news is. Where one second
holds more than a page, that second is asked for in parts: some of the authors, some of the kinds. A relay that leaves the end
of a window out (nostr-relay does; NIP-01 counts it in) is found out at the first border, and asked for a second more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from dragon.constellation.frames import Frame
from dragon.constellation.wanted import Wanted

LOWEST_CAP = 20
"""Events that every relay gives at once: fewer of one second are all there are."""


class Pages:
    """The questions of one filter, one after another."""

    def __init__(self, wanted: Wanted, limit: int, covered: tuple[int, int] | None = None) -> None:
        """`covered` is a part of the window, both ends included, that need not be read again."""
        self.wanted = wanted
        self.until = wanted.until
        self.overfull = 0
        """Seconds of which not everything could be had: one author's events of one kind, more than a page."""
        self._limit = self._asked = limit
        self._covered = covered
        self._border: frozenset[str] = frozenset()
        self._beyond = 0
        """1 where the relay was seen to leave `until` itself out."""
        self._longest = LOWEST_CAP
        self._parts: list[Wanted] = []
        self._done = False
        self._skip()

    @property
    def done(self) -> bool:
        return self._done and not self._parts

    def question(self, most: int | None = None) -> dict[str, Any]:
        """Return the filter to ask with next, for a page of `most` events at most; `done` tells that there is none.

        A part of a second is asked for in whole pages: of what is left of it nothing else can be asked.
        """
        asked = self._parts[-1] if self._parts else replace(self.wanted, until=self.until)
        self._asked = self._limit if self._parts or most is None else min(most, self._limit)
        return replace(asked, until=asked.until + self._beyond).filter(limit=self._asked)

    def answer(self, events: Sequence[Frame]) -> list[Frame]:
        """Take a page; return what of it had not come with the page before."""
        if self._parts:
            self._part(len(events), self._parts.pop())
            return list(events)
        if self._border and not self._beyond and not any(event.created_at == self.until for event in events):
            self._beyond = 1
            return []
        fresh = [event for event in events if event.id not in self._border]
        times = [event.created_at for event in fresh if self.wanted.since <= event.created_at <= self.until]
        full = len(events) >= min(self._longest, self._asked)
        self._longest = max(self._longest, len(events))
        lowest = min(times, default=self.until)
        if lowest < self.until:
            self._turn(lowest, events)
        elif full and any(event.created_at == self.until for event in events):
            self._part(len(events), replace(self.wanted, since=self.until, until=self.until))
            self._turn(self.until - 1, ())
        else:
            self._done = True
        return fresh

    def _turn(self, until: int, events: Sequence[Frame]) -> None:
        self._border = frozenset(event.id for event in events if event.created_at == until)
        self.until = until
        self._skip()

    def _skip(self) -> None:
        if self._covered and self._covered[0] <= self.until <= self._covered[1]:
            self.until, self._border = self._covered[0], frozenset()
        if self.until < self.wanted.since:
            self._done = True

    def _part(self, count: int, second: Wanted) -> None:
        """One second, or a part of it, brought `count` events: ask for smaller parts where that may not be all."""
        if count < min(self._longest, self._asked):
            return
        if parts := second.parts():
            self._parts += parts
        else:
            self.overfull += 1

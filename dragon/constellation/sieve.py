"""What is not worth storing: events that their author deleted (NIP-09), and those that a newer one replaces (NIP-01). Pure.

Relays apply both themselves, so this only has to be right where it says no. It looks at what this run saw, in whatever order
it came, and forgets the oldest when that grows too much.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from dragon.constellation.event import Event
from dragon.constellation.kinds import DELETION

DELETIONS_REMEMBERED = 50_000
"""Named ids that are remembered, in 6 MB."""

ADDRESSES_REMEMBERED = 25_000
"""Newest versions and deleted addresses that are remembered, in 4 MB each."""


class Sieve:
    """Grows with what `note` is shown, up to its bounds."""

    def __init__(self) -> None:
        self._ids: dict[int, None] = {}
        self._addresses: dict[int, int] = {}
        self._newest: dict[int, int] = {}

    def note(self, events: Iterable[Event]) -> None:
        """Learn what these events delete and replace."""
        for event in events:
            if event.kind == DELETION:
                for target in event.deletes:
                    self._note_deletion(event, target)
            elif event.address:
                key, mine = hash(event.address), _rank(event)
                if mine > self._newest.get(key, -1):
                    self._newest[key] = mine
                    _bounded(self._newest, ADDRESSES_REMEMBERED)

    def verdict(self, event: Event) -> Literal["deleted", "superseded", ""]:
        """Return why `event` is not worth storing; empty where it is."""
        if event.kind == DELETION:  # to delete a deletion has no effect
            return ""
        if hash((event.pubkey, event.id)) in self._ids:
            return "deleted"
        if event.address:
            key = hash(event.address)
            if event.created_at <= self._addresses.get(key, -1):
                return "deleted"
            if self._newest.get(key, -1) > _rank(event):
                return "superseded"
        return ""

    def _note_deletion(self, deletion: Event, target: str) -> None:
        if ":" not in target:
            self._ids[hash((deletion.pubkey, target))] = None  # with the author: nobody deletes what another one wrote
            _bounded(self._ids, DELETIONS_REMEMBERED)
        elif target.split(":")[1] == deletion.pubkey:
            key = hash(target)
            self._addresses[key] = max(self._addresses.get(key, -1), deletion.created_at)
            _bounded(self._addresses, ADDRESSES_REMEMBERED)


def _rank(event: Event) -> int:
    """Return a number that is greater for what replaces others: the later; of the same second, the one with the lower id."""
    return (event.created_at + 1 << 256) - int(event.id, 16)


def _bounded(known: dict[int, Any], bound: int) -> None:
    if len(known) > bound:
        del known[next(iter(known))]

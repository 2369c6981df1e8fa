"""Who is in which state: entries, leases, and what follows from a change of state (index, digest, notices). Pure.

(enter) ──► silent ◄──────────► live ──────► left
              │  ▲               ▲ │           │        live    its lease runs on our clock
              │  └── skewed ◄────┘ │           │        skewed  heard, but its clock is off: shown, never chosen
              ▼        (any word may lead anywhere)     silent  remembered as a hint whom to ask
            (gone) ◄── after `keep`, or pushed out ◄┘   left    said good-bye
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator

from dragon.registry.digest import BucketedDigest, bucket_of
from dragon.registry.entry import Entry, State
from dragon.registry.index import OfferIndex
from dragon.registry.members import Members
from dragon.registry.policy import Policy
from dragon.registry.verdict import Change, Kind
from registry_schema import Manifest, Rank

_NEVER = float("inf")


class Roster:
    """The entries of a view. Every step that may change a state ends with `settle`; `tell` then hands out what happened."""

    def __init__(self, self_id: str, policy: Policy, members: Members, marks: dict[str, Rank], counters: Counter[str]) -> None:
        self.entries: dict[str, Entry] = {}
        self.marks = marks
        self.members = members
        self.live: set[str] = set()
        self.skewed: set[str] = set()
        self.left: set[str] = set()
        self.index = OfferIndex()
        self.digest = BucketedDigest()
        self._self_id = self_id
        self._policy = policy
        self._counters = counters
        self._deadlines: list[tuple[float, str]] = []
        self._changes: list[Change] = []
        self._callbacks: list[Callable[[Change], None]] = []

    def enter(self, manifest: Manifest, size: int) -> Entry:
        """Return the entry of a node that was not held; others may have to make room for it."""
        entry = self.entries[manifest.node] = Entry(manifest.node, bucket_of(manifest.node), manifest)
        self.resize(entry, size)
        return entry

    def resize(self, entry: Entry, size: int) -> None:
        """The envelope of `entry` has `size` bytes now."""
        if entry.node_id != self._self_id:
            for evicted in self.members.put(entry.node_id, size):
                self._counters["evicted"] += 1
                self._drop(evicted)

    def vouch(self, node_id: str) -> None:
        """Make `node_id` known; where the known are full, a random one that is not live makes room."""
        if node_id == self._self_id or self.members.vouch(node_id):
            return
        candidate = self.members.pick_known()
        if candidate is not None and candidate not in self.live:
            self._counters["evicted"] += 1
            self._drop(candidate)
            self.members.vouch(node_id)

    def settle(self, entry: Entry, at: float) -> None:
        """Put `entry` into the state that its newest word, its clock and its lease give it at `at`."""
        if entry.node_id not in self.entries:
            return  # pushed out in this very step
        ends = self._lease_end(entry)
        state: State
        if entry.manifest.leaving:
            state = "left"
        elif ends <= at or not entry.confirmed:
            state = "silent"
        else:
            state = "skewed" if entry.reason else "live"
        self._turn(entry, state)
        self._watch(entry, ends if state in ("live", "skewed") else entry.heard + self._policy.keep)

    def expire(self, at: float) -> None:
        """End leases and memories that are over at `at`."""
        while self._deadlines and self._deadlines[0][0] <= at:
            deadline, node_id = heapq.heappop(self._deadlines)
            entry = self.entries.get(node_id)
            if entry is None or entry.watched != deadline:
                continue
            entry.watched = _NEVER
            if entry.state in ("silent", "left") and entry.heard + self._policy.keep <= at:
                self._drop(node_id)
                continue
            self.settle(entry, at)

    def note(self, entry: Entry, kind: Kind) -> None:
        self._changes.append(Change(entry.node_id, kind))

    def subscribe(self, callback: Callable[[Change], None]) -> None:
        self._callbacks.append(callback)

    def tell(self) -> list[Change]:
        """Hand what happened since the last call to the subscribers, and return it."""
        if not self._changes:
            return []
        changes, self._changes = self._changes, []
        for change in changes:
            for callback in self._callbacks:
                callback(change)
        return changes

    def relayable(self, number: int, at: float) -> Iterator[Entry]:
        """Yield the entries of one bucket that others should have: who is live, and who left within a lease."""
        for node_id in self.digest.members(number):
            yield self.entries[node_id]
        for node_id in tuple(self.left):
            entry = self.entries[node_id]
            if entry.bucket == number and at - entry.heard < self._policy.lease_cap and entry.confirmed:
                yield entry

    def _turn(self, entry: Entry, state: State) -> None:
        before, node_id = entry.state, entry.node_id
        entry.state = state
        if state == "live":
            self.live.add(node_id)
            if self.digest.put(entry.bucket, node_id, entry.content_hash):
                self.index.update(entry, entry.manifest.offers)
            else:
                self.index.refresh(entry, entry.manifest.offers)
        elif before == "live":
            self.live.discard(node_id)
            self.index.drop(entry)
            self.digest.remove(entry.bucket, node_id)
        if state == before:
            return
        for name, ids in (("skewed", self.skewed), ("left", self.left)):
            if state == name:
                ids.add(node_id)
            else:
                ids.discard(node_id)
        self.note(entry, "joined" if state == "live" else state)

    def _drop(self, node_id: str) -> None:
        entry = self.entries.pop(node_id)
        if entry.state == "live":
            self.index.drop(entry)
            self.digest.remove(entry.bucket, node_id)
        for ids in (self.live, self.skewed, self.left):
            ids.discard(node_id)
        self.members.forget(node_id)
        self.marks.pop(node_id, None)
        self.note(entry, "gone")

    def _lease_end(self, entry: Entry) -> float:
        if entry.node_id == self._self_id and entry.source == "self":
            return _NEVER
        return entry.heard + self._policy.lease(entry.manifest.ttl, len(self.live))

    def _watch(self, entry: Entry, deadline: float) -> None:
        """Look at `entry` at `deadline`; an earlier look that is due anyway leads to the later one."""
        if deadline < entry.watched:
            entry.watched = deadline
            heapq.heappush(self._deadlines, (deadline, entry.node_id))
            if len(self._deadlines) > 2 * len(self.entries) + 64:  # looks at entries that are gone
                self._deadlines = [(one.watched, one.node_id) for one in self.entries.values() if one.watched < _NEVER]
                heapq.heapify(self._deadlines)

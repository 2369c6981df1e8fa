"""Who counts as real: known nodes, and a bounded crowd of unknown ones that can never push them out. THREATS 7.

A node becomes known by a direct connection, an answered exchange, or three beats. Everything else is cheap to fake in any
number; so the unknown share one set, bounded in nodes and in bytes, and a new one pushes out a random one of them (random, so
that nobody can aim). The known are bounded as well: who finds no room there stays in the crowd.
"""

from __future__ import annotations

import random
from collections import OrderedDict


class Crowd:
    """A bounded set of node ids with their sizes in bytes, and a random pick in constant time."""

    __slots__ = ("_capacity", "_limit", "_order", "_place", "_sizes", "size")

    def __init__(self, capacity: int, limit: int) -> None:
        self._capacity = capacity
        self._limit = limit
        self._order: list[str] = []
        self._place: dict[str, int] = {}
        self._sizes: dict[str, int] = {}
        self.size = 0

    def __len__(self) -> int:
        return len(self._order)

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._place

    @property
    def overfull(self) -> bool:
        return len(self._order) > self._capacity or self.size > self._limit

    def has_room(self, size: int) -> bool:
        return len(self._order) < self._capacity and self.size + size <= self._limit

    def put(self, node_id: str, size: int) -> None:
        if node_id not in self._place:
            self._place[node_id] = len(self._order)
            self._order.append(node_id)
        self.size += size - self._sizes.get(node_id, 0)
        self._sizes[node_id] = size

    def remove(self, node_id: str) -> int:
        """Take `node_id` out and return its size; 0 when it was not there."""
        place = self._place.pop(node_id, None)
        if place is None:
            return 0
        last = self._order.pop()
        if last != node_id:
            self._order[place] = last
            self._place[last] = place
        size = self._sizes.pop(node_id)
        self.size -= size
        return size

    def pick(self, rng: random.Random) -> str:
        """Return one of them at random; `IndexError` when there is none."""
        return rng.choice(self._order)


class Members:
    """Which nodes of a view are known, and who has to go when it is full."""

    def __init__(self, known: Crowd, unknown: Crowd, rng: random.Random) -> None:
        self._known = known
        self._unknown = unknown
        self._rng = rng
        self._vouched: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known) + len(self._unknown)

    def is_known(self, node_id: str) -> bool:
        """Tell whether the node is known, also before its first envelope came."""
        return node_id in self._known or node_id in self._vouched

    def put(self, node_id: str, size: int) -> list[str]:
        """Take in a node of `size` bytes, or note its new size; return the unknown nodes that had to make room."""
        if node_id in self._known:
            self._known.put(node_id, size)
            if not self._known.overfull:
                return []
            self._known.remove(node_id)  # it grew beyond what the known may take: it counts as unknown again
        elif node_id in self._vouched and self._known.has_room(size):
            del self._vouched[node_id]
            self._unknown.remove(node_id)
            self._known.put(node_id, size)
            return []
        self._unknown.put(node_id, size)
        evicted = []
        while self._unknown.overfull:
            loser = self._unknown.pick(self._rng)
            if loser == node_id and len(self._unknown) > 1:
                continue
            self._unknown.remove(loser)
            evicted.append(loser)
        return evicted

    def vouch(self, node_id: str) -> bool:
        """Make `node_id` known, now or (when it is not in the view yet) as it enters; False when there is no room."""
        if node_id in self._known:
            return True
        if node_id not in self._unknown:
            self._vouched[node_id] = None
            if len(self._vouched) > MAX_VOUCHED:
                self._vouched.popitem(last=False)
            return True
        size = self._unknown.remove(node_id)
        room = self._known.has_room(size)
        (self._known if room else self._unknown).put(node_id, size)
        return room

    def pick_known(self) -> str | None:
        """Return a random known node, for one that may have to go."""
        return self._known.pick(self._rng) if len(self._known) else None

    def forget(self, node_id: str) -> None:
        self._known.remove(node_id)
        self._unknown.remove(node_id)
        self._vouched.pop(node_id, None)


MAX_VOUCHED = 4_096
"""Connected nodes remembered before they say anything: Kubo keeps a few hundred connections, its peers change over days."""

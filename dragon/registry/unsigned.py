"""What stations say that sign nothing: read from their IPNS names, and kept apart from every signed word. Pure.

(learn) ──► live ──► silent ──► (gone)
              ▲        │            live    its newest word is younger than the lease
              └────────┘            silent  remembered, never chosen

A station that only runs the Bash scripts publishes files under its IPNS name. That proves whose they are, but neither when
they were written nor that nobody replays them (DESIGN §7, rule 6). So this set has an index of its own and never touches what
is compared, relayed or stored; whoever signs pushes its unsigned word out; and a word counts from the time that stands in it,
not from when it was read: reading the same files again revives nobody.

The manifest of such a node is one that its reader made out of the files; its `sequence` is their time in milliseconds.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Literal

from dragon.registry.entry import Entry, Listed, State
from dragon.registry.index import OfferIndex
from dragon.registry.lease import spell_seconds
from dragon.registry.verdict import Admitted, Kind, Rejected
from registry_schema import Manifest

LEASE = 12 * 3600.0
"""Seconds for which such a word is believed. The scripts renew theirs hourly and drop what is older than this."""

AHEAD = 3600.0
"""Seconds that its time may lie ahead of our clock: machines without NTP, of stations that only look at the hour."""

CAPACITY = 512
"""Nodes held: constellations of the scripts count dozens, and each costs about 10 kB. Invented ones push out one another."""

SUPERSEDED = "unsigned-superseded"
"""Reason: an older copy of what is held."""

_BY_ID = attrgetter("entry.node_id")
_NEVER = float("inf")


class Unsigned:
    """The entries, and who of them is live and may be used. `note` is told what happens to them."""

    def __init__(self, keep: float, note: Callable[[Entry, Kind], None], rng: random.Random) -> None:
        """`keep`: seconds for which a silent node is remembered."""
        self.entries: dict[str, Entry] = {}
        self.members: set[str] = set()
        """Live nodes that the operator's policy lets us use: those whose offers are in `index`."""
        self.index = OfferIndex()
        self._keep = max(keep, LEASE)
        self._note = note
        self._rng = rng
        self._next = _NEVER

    def learn(self, manifest: Manifest, signed: Entry | None, *, at: float, now_ms: int, usable: bool) -> Admitted | Rejected:
        """Take in a node's word; `signed` is what is held of it with a signature.

        `usable`: whether it may be chosen and counts as a member. A word as old as the one that is held replaces it: the files
        change more often than the time in them.
        """
        node_id, spoken = manifest.node, manifest.sequence
        age = (now_ms - spoken) / 1000
        held = self.entries.get(node_id)
        if signed is not None and (signed.state in ("live", "skewed") or spoken <= signed.manifest.sequence):
            return Rejected("unsigned-signed", f"{node_id} signs what it says")
        if age >= LEASE:
            return Rejected("unsigned-stale", f"the files of {node_id} are {spell_seconds(age)} old")
        if age < -AHEAD:
            return Rejected("unsigned-future", f"the files of {node_id} are of {spell_seconds(-age)} from now")
        if held is not None and spoken < held.manifest.sequence:
            return Rejected(SUPERSEDED, f"newer files of {node_id} were read before")
        heard = at - max(age, 0.0)
        if held is None:
            self._make_room()
            held = self.entries[node_id] = Entry(node_id, 0, manifest, trust="ipns", source="ipns", heard=heard)
        elif spoken == held.manifest.sequence:
            heard = min(heard, held.heard)
        if heard + LEASE <= at:
            return Rejected("unsigned-stale", f"the files of {node_id} say nothing new")
        return Admitted(node_id, self._hold(held, manifest, heard, usable), (spoken, b""))

    def unlearn(self, node_id: str) -> None:
        """Forget a node, if it is held, and tell that it is gone."""
        entry = self.entries.get(node_id)
        if entry is not None:
            self._drop(entry)
            self._note(entry, "gone")

    def yield_to(self, signed: Entry) -> None:
        """Forget the unsigned word of a node that has signed a newer one, or that signs now."""
        entry = self.entries.get(signed.node_id)
        if entry is not None and (signed.state in ("live", "skewed") or entry.manifest.sequence <= signed.manifest.sequence):
            self._drop(entry)

    def expire(self, at: float) -> None:
        """End leases and memories that are over at `at`."""
        if at < self._next:
            return
        for entry in tuple(self.entries.values()):
            if entry.heard + self._keep <= at:
                self.unlearn(entry.node_id)
            elif entry.state == "live" and entry.heard + LEASE <= at:
                self._turn(entry, "silent")
                self._note(entry, "silent")
        self._next = min((self._deadline(entry) for entry in self.entries.values()), default=_NEVER)

    def _hold(self, entry: Entry, manifest: Manifest, heard: float, usable: bool) -> Literal["new", "content", "beat", "back"]:
        before, same = entry.state, entry.manifest.model_copy(update={"sequence": manifest.sequence}) == manifest
        same = same and entry.usable == usable
        entry.manifest, entry.heard, entry.usable = manifest, heard, usable
        self._turn(entry, "live")
        self._next = min(self._next, self._deadline(entry))
        if before != "live":
            self._note(entry, "joined")
            return "new" if before is None else "back"
        self._note(entry, "beat" if same else "changed")
        return "beat" if same else "content"

    def _turn(self, entry: Entry, state: State) -> None:
        entry.state = state
        if state == "live" and entry.usable:
            self.members.add(entry.node_id)
            self.index.update(entry, entry.manifest.offers)
        else:
            self.members.discard(entry.node_id)
            self.index.drop(entry)

    def _drop(self, entry: Entry) -> None:
        self._turn(entry, "silent")
        del self.entries[entry.node_id]

    def _make_room(self) -> None:
        """While the set is full, forget a random silent node, else any: nobody can aim at one."""
        while len(self.entries) >= CAPACITY:
            silent = [node_id for node_id, entry in self.entries.items() if entry.state != "live"]
            self.unlearn(self._rng.choice(silent or list(self.entries)))

    def _deadline(self, entry: Entry) -> float:
        return entry.heard + (LEASE if entry.state == "live" else self._keep)


def merged(signed: Sequence[Listed], unsigned: Sequence[Listed]) -> Sequence[Listed]:
    """Return the offers of both, each ascending by node id, as one such sequence; costs a few steps for each unsigned one."""
    if not unsigned:
        return signed
    found: list[Listed] = []
    taken = 0
    for one in unsigned:
        place = bisect_left(signed, one.entry.node_id, lo=taken, key=_BY_ID)
        found += signed[taken:place]
        found.append(one)
        taken = place
    found += signed[taken:]
    return found

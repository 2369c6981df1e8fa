"""When to ask whom for what we may have missed: the pacing of exchanges. Pure; time is passed in, in seconds. DESIGN §5.

Every beat carries its sender's digest. A difference may simply be news that is on its way, so only a bucket that differs in
two successive beats of one peer is asked for, and only if it differs in the same way: both sides still hold what they held.
(Where contents change all the time, buckets of two nodes differ often, each time for another reason, which is over before
anybody asks. Simulated with 60 nodes of which 40 change per beat and nothing lost: 12 needless exchanges per beat without
this, none with it.) A bucket that never comes to rest is asked for after some more beats.

There is one exchange at a time, with a random one of the peers that differ, and a pause after it; one that brought nothing is
not repeated with that peer until its digest or ours changes in these buckets (a peer may know *less*, or another policy may
keep views apart for good).

A newcomer does not wait for beats: its first exchanges are `greeting`'s.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from registry_schema.limits import DIGEST_BUCKETS

MAX_PEERS = 4_096
"""Peers whose last difference is remembered; the longest silent is forgotten first."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One exchange to be made now."""

    partner: str
    buckets: tuple[int, ...]
    """Ascending."""


RESTLESS = 5
"""Successive beats after which a bucket is asked for although it differs in another way each time."""


@dataclass(frozen=True, slots=True)
class _Difference:
    theirs: bytes
    ours: bytes
    beats: int
    """Successive beats of the peer in which the bucket differed."""
    lasting: bool
    """It differed in the beat before in the same way, or for long enough in any."""

    @classmethod
    def after(cls, before: _Difference | None, theirs: bytes, ours: bytes) -> _Difference:
        if before is None:
            return cls(theirs, ours, 1, False)
        beats = before.beats + 1
        return cls(theirs, ours, beats, beats >= RESTLESS or (before.theirs, before.ours) == (theirs, ours))


_Differences: TypeAlias = dict[int, _Difference]


class AntiEntropy:
    """Feed it digests by `heard`, ask `next` whenever it may be time, and say `finished` after each exchange it named."""

    def __init__(self, interval: float, rng: random.Random) -> None:
        """`interval`: least seconds between the end of one exchange and the next; a tenth of a heartbeat is plenty."""
        self._interval = interval
        self._rng = rng
        self._peers: OrderedDict[str, _Differences] = OrderedDict()
        self._lasting: dict[str, None] = {}
        self._fruitless: OrderedDict[str, dict[int, tuple[bytes, bytes]]] = OrderedDict()
        self._rest_until = float("-inf")
        self._running: Ask | None = None
        self.count = 0
        """Exchanges named so far."""

    @property
    def running(self) -> Ask | None:
        return self._running

    @property
    def wanted(self) -> tuple[str, ...]:
        """Return the peers that have a bucket to be asked for."""
        return tuple(self._lasting)

    def heard(self, peer_id: str, theirs: Sequence[bytes], ours: Sequence[bytes]) -> None:
        """A beat of `peer_id` carried the digest `theirs` while ours was `ours`; an empty one says nothing."""
        before = self._peers.pop(peer_id, {})
        self._lasting.pop(peer_id, None)
        if len(theirs) != DIGEST_BUCKETS or len(ours) != DIGEST_BUCKETS:
            return
        settled = self._fruitless.get(peer_id, {})
        now = {
            number: _Difference.after(before.get(number), one, other)
            for number, (one, other) in enumerate(zip(theirs, ours, strict=True))
            if one != other and settled.get(number) != (one, other)
        }
        if not now:
            return
        self._peers[peer_id] = now
        if any(difference.lasting for difference in now.values()):
            self._lasting[peer_id] = None
        if len(self._peers) > MAX_PEERS:
            self._lasting.pop(self._peers.popitem(last=False)[0], None)

    def forget(self, peer_id: str) -> None:
        """`peer_id` is gone."""
        self._peers.pop(peer_id, None)
        self._lasting.pop(peer_id, None)
        self._fruitless.pop(peer_id, None)

    def next(self, at: float, reachable: Collection[str]) -> Ask | None:
        """Return the exchange to make now, if any; it runs until `finished`. `reachable`: who may be asked at all."""
        if self._running is not None or at < self._rest_until:
            return None
        wanted = [one for one in self.wanted if one in reachable]
        if not wanted:
            return None
        partner = self._rng.choice(wanted)
        lasting = sorted(number for number, difference in self._peers[partner].items() if difference.lasting)
        self._running = Ask(partner, tuple(lasting))
        self.count += 1
        return self._running

    def finished(self, at: float, *, answered: bool, learned: int, ours: Sequence[bytes]) -> None:
        """The running exchange ended: `learned` envelopes were news, and our digest is now `ours`."""
        ask, self._running = self._running, None
        if ask is None:
            return
        self._rest_until = at + self._interval * self._rng.uniform(1.0, 2.0)
        differences = self._peers.pop(ask.partner, {})
        self._lasting.pop(ask.partner, None)
        for peer_id in tuple(self._lasting):  # what one peer taught us, the others need not be asked for
            held = self._peers[peer_id].items()
            if not any(one.lasting and one.ours == ours[number] for number, one in held):
                del self._lasting[peer_id]
        if not answered or learned:
            return
        settled = self._fruitless.setdefault(ask.partner, {})
        settled.update({number: (differences[number].theirs, ours[number]) for number in ask.buckets if number in differences})
        self._fruitless.move_to_end(ask.partner)
        if len(self._fruitless) > MAX_PEERS:
            self._fruitless.popitem(last=False)

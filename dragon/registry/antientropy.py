"""When to ask whom for what we may have missed: the pacing of exchanges. Pure; time is passed in, in seconds. DESIGN §5.

Every beat carries its sender's digest. A difference may simply be news that is on its way, so only a bucket that differs in
two successive beats of one peer is asked for. There is one exchange at a time, with a random one of the peers that differ, and
a pause after it; an exchange that brought nothing is not repeated with that peer until its digest or ours changes in these
buckets (a peer may know *less*, or another policy may keep views apart for good).

A newcomer does not wait for beats: its first exchanges are `greeting`'s.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from registry_schema.limits import DIGEST_BUCKETS

MAX_PEERS = 4_096
"""Peers whose last difference is remembered; the longest silent is forgotten first."""


@dataclass(frozen=True, slots=True)
class Ask:
    """One exchange to be made now."""

    partner: str
    buckets: tuple[int, ...]
    """Ascending."""


@dataclass(slots=True)
class _Peer:
    theirs: Sequence[bytes]
    differs: frozenset[int]
    twice: frozenset[int] = frozenset()
    """Buckets that differed in its last two beats."""


class AntiEntropy:
    """Feed it digests by `heard`, ask `next` whenever it may be time, and say `finished` after each exchange it named."""

    def __init__(self, interval: float, rng: random.Random) -> None:
        """`interval`: least seconds between the end of one exchange and the next; a tenth of a heartbeat is plenty."""
        self._interval = interval
        self._rng = rng
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
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
        """Return the peers that have differed twice in the same buckets."""
        return tuple(peer_id for peer_id, peer in self._peers.items() if peer.twice)

    def heard(self, peer_id: str, theirs: Sequence[bytes], ours: Sequence[bytes]) -> None:
        """A beat of `peer_id` carried the digest `theirs` while ours was `ours`; an empty one says nothing."""
        if len(theirs) != DIGEST_BUCKETS or len(ours) != DIGEST_BUCKETS:
            self._peers.pop(peer_id, None)
            return
        settled = self._fruitless.get(peer_id, {})
        differs = frozenset(
            number
            for number, (one, other) in enumerate(zip(theirs, ours, strict=True))
            if one != other and settled.get(number) != (one, other)
        )
        before = self._peers.pop(peer_id, None)
        twice = differs & before.differs if before is not None else frozenset()
        self._peers[peer_id] = _Peer(tuple(theirs), differs, twice)
        if len(self._peers) > MAX_PEERS:
            self._peers.popitem(last=False)

    def forget(self, peer_id: str) -> None:
        """`peer_id` is gone."""
        self._peers.pop(peer_id, None)
        self._fruitless.pop(peer_id, None)

    def next(self, at: float, reachable: Collection[str]) -> Ask | None:
        """Return the exchange to make now, if any; it runs until `finished`. `reachable`: who may be asked at all."""
        if self._running is not None or at < self._rest_until:
            return None
        wanted = [one for one in self.wanted if one in reachable]
        if not wanted:
            return None
        partner = self._rng.choice(wanted)
        self._running = Ask(partner, tuple(sorted(self._peers[partner].twice)))
        self.count += 1
        return self._running

    def finished(self, at: float, *, answered: bool, learned: int, ours: Sequence[bytes]) -> None:
        """The running exchange ended: `learned` envelopes were news, and our digest is now `ours`."""
        ask, self._running = self._running, None
        if ask is None:
            return
        self._rest_until = at + self._interval * self._rng.uniform(1.0, 2.0)
        peer = self._peers.get(ask.partner)
        if peer is None:
            return
        if answered and not learned:
            settled = self._fruitless.setdefault(ask.partner, {})
            settled.update({number: (peer.theirs[number], ours[number]) for number in ask.buckets})
            self._fruitless.move_to_end(ask.partner)
            if len(self._fruitless) > MAX_PEERS:
                self._fruitless.popitem(last=False)
        self._peers[ask.partner] = _Peer(peer.theirs, frozenset())

"""The receiver's own rules for a view: how long it believes, how much it remembers, how much it listens to."""

from __future__ import annotations

import math
from dataclasses import dataclass

LARGE_SWARM = 1000
"""Live nodes up to which everybody beats at the plain pace: 33 beats a second, about 1 % of a small machine's core."""


def stretch(live: int) -> float:
    """Return by how much beats and leases are stretched in a swarm of `live` nodes; 1.0 up to `LARGE_SWARM`.

    The square root shares the cost: at 10,000 nodes a beat comes 3.2 times rarer and the swarm hears 3.2 times more of them.
    """
    return 1.0 if live <= LARGE_SWARM else math.sqrt(live / LARGE_SWARM)


@dataclass(frozen=True, slots=True)
class Rate:
    """A token bucket's measures."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Policy:
    """Seconds, counts and rates; the defaults are those of DESIGN §5."""

    heartbeat: float = 30.0
    """Seconds between two beats of a node that has nothing new to say, before `stretch`."""
    lease_cap: float = 90.0
    """A node is believed for three beats at most, whatever ttl it asks for; grows with `stretch` as beats do."""
    keep: float = 48 * 3600.0
    """A silent node is remembered over a weekend switched off."""
    max_skew: float = 300.0
    """Clocks of NTP-less home machines; the contract's bound for sequences that lie ahead (`limits.MAX_SKEW_MS`)."""
    admit: frozenset[str] | None = None
    """Node ids of a closed swarm; None: whoever signs well may enter."""
    known_capacity: int = 12_000
    """Nodes that showed themselves real; the design's 10,000 and some room."""
    unknown_capacity: int = 2_048
    """Nodes that did not yet: a newcomer to a large swarm hears about so many before the first become known."""
    known_bytes: int = 64 * 1024 * 1024
    """Envelopes of all known nodes together; 10,000 of eight offers take 25 MB. Parsed, a byte costs about twenty."""
    unknown_bytes: int = 8 * 1024 * 1024
    """The same for the unknown: a crowd of usual envelopes fits twice, a crowd of the largest does not cost 64 MB."""
    beat_spacing: float = 10.0
    """Seconds between beats that count towards becoming known: three of them cost a flooder 20 s for each identity."""
    beats_to_be_known: int = 3
    seen_capacity: int = 16_384
    """Fingerprints of envelopes remembered: each comes by several ways within seconds; 30 s of the largest swarm's beats."""
    carrier_rate: Rate = Rate(per_second=20, burst=100)
    """Envelopes that one pubsub sender may have checked: one beat in 30 s and bursts of changes are far below."""
    strangers_rate: Rate = Rate(per_second=500, burst=4_000)
    """The same for all senders that are not known together: about a tenth of a core, and a newcomer's first minute fits."""
    partner_rate: Rate = Rate(per_second=1_000, burst=30_000)
    """Envelopes that one exchange partner may bring: the largest view twice at once (the exchange has byte budgets beside)."""
    carriers: int = 4_096
    """Carriers whose buckets are remembered; the longest unused is forgotten first."""
    signers_for_suspicion: int = 2
    """So many signers must agree that our own clock is off, also in a swarm of three: skewed ones and more than half of those
    heard make it the suspect; as many measurements count for nodes that were not measured, the smaller one of two."""

    def lease(self, ttl: float, live: int) -> float:
        """Return the seconds that a manifest asking for `ttl` is believed in a view of `live` nodes."""
        return min(float(ttl), self.lease_cap * stretch(live))

"""What is decided about bytes before anybody decodes them: seen lately, and too many from one carrier. THREATS 7 and 8."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from statistics import median_low
from typing import TypeAlias

from dragon.registry.policy import Policy, Rate

Fingerprint: TypeAlias = bytes


def fingerprint(data: bytes) -> Fingerprint:
    """Return 16 bytes that stand for `data`. BLAKE2b: the quickest hash of the standard library that nobody can collide."""
    return hashlib.blake2b(data, digest_size=16).digest()


class Seen:
    """A bounded map from fingerprints of envelopes to the node they spoke for.

    Two generations of half the capacity each: when the young one is full, the old one is forgotten as a whole. An entry is
    thereby remembered for at least half the capacity's worth of further ones, without any order to maintain.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, capacity: int) -> None:
        self._half = max(1, capacity // 2)
        self._young: dict[Fingerprint, str] = {}
        self._old: dict[Fingerprint, str] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def add(self, key: Fingerprint, node_id: str) -> None:
        self._young[key] = node_id
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}

    def get(self, key: Fingerprint) -> str | None:
        """Return whose envelope it was (empty for one that can never be admitted), or None when it was not seen."""
        node_id = self._young.get(key)
        return self._old.get(key) if node_id is None else node_id


class Bucket:
    """A token bucket, full at first."""

    __slots__ = ("_at", "_rate", "_tokens")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._tokens = rate.burst
        self._at = float("-inf")

    def take(self, at: float) -> bool:
        """Take one token at time `at` (seconds); False when there is none."""
        if at > self._at:
            refill = (at - self._at) * self._rate.per_second
            self._tokens = min(self._rate.burst, self._tokens + refill)
            self._at = at
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Rates:
    """What carriers may bring. Keys are ids that Kubo verified, never what an envelope claims; their number is bounded."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._publishers: OrderedDict[str, Bucket] = OrderedDict()
        self._partners: OrderedDict[str, Bucket] = OrderedDict()
        self._strangers = Bucket(policy.strangers_rate)

    def __len__(self) -> int:
        return len(self._publishers) + len(self._partners)

    def take(self, carrier: str, is_exchange: bool, known: bool, at: float) -> bool:
        """Tell whether one more envelope from `carrier` may be looked at: a bucket each, and one more that strangers share."""
        if is_exchange:
            return self._bucket(self._partners, carrier, self._policy.partner_rate).take(at)
        own = self._bucket(self._publishers, carrier, self._policy.carrier_rate)
        return own.take(at) and (known or self._strangers.take(at))

    def _bucket(self, buckets: OrderedDict[str, Bucket], carrier: str, rate: Rate) -> Bucket:
        bucket = buckets.get(carrier)
        if bucket is None:
            if len(buckets) >= self._policy.carriers:
                buckets.popitem(last=False)
            bucket = buckets[carrier] = Bucket(rate)
        else:
            buckets.move_to_end(carrier)
        return bucket


class Lags:
    """How far the clocks of those who speak for themselves are behind ours: where most agree, it is our own clock's error."""

    def __init__(self, least: int, kept: int = 63) -> None:
        """`least`: signers to hear before their median means anything; `kept`: those heard last, enough for a median."""
        self._least = least
        self._kept = kept
        self._lags: OrderedDict[str, float] = OrderedDict()
        self._usual: float | None = 0.0

    def add(self, node_id: str, lag: float) -> None:
        """Note what was measured of a signer, in seconds. Each has one voice, however often it speaks (THREATS 3)."""
        self._lags[node_id] = lag
        self._lags.move_to_end(node_id)
        if len(self._lags) > self._kept:
            self._lags.popitem(last=False)
        self._usual = None

    @property
    def usual(self) -> float:
        """The median in seconds, the lower one of two; 0 while too few were heard."""
        if self._usual is None:
            self._usual = median_low(self._lags.values()) if len(self._lags) >= self._least else 0.0
        return self._usual

"""What was measured of others, kept over restarts: one small, bounded value in the store, written when something changed.

Monotonic time means nothing after a restart, so ages are stored by the wall clock and only ever used as ages: a clock that was
set back makes a record fresh, never invalid. What is restored informs, it proves nothing: breakers start closed and every
provider is tested before its first use.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from dragon.connect.latencies import Latencies
from dragon.connect.measure import TAU, PeakEwma
from dragon.connect.reach import Reach, Reaches
from dragon.errors import StoreError

if TYPE_CHECKING:
    from dragon.clock import Clock

log = logging.getLogger(__name__)

KEY = "connect/reaches"
VERSION = 1
"""Another version's value is not read: figures are worth no migration."""

KEPT = 256
"""Records, the last used: at about 300 bytes below 100 kB, more providers than one node uses."""

SAVE_EVERY = 10.0
"""Seconds between writes while something changes: what a crash may forget."""

FORGET_AFTER = 30 * 86400.0
"""Seconds without use after which a record is dropped: the machine behind it may be another one."""

FADED_AFTER = 10 * TAU
"""Seconds after which a latency has faded (e^-10) and is not restored; the counts and the histogram are."""

LONGEST_WHY = 200
"""Characters kept of a last failure."""


class SmallStore(Protocol):
    """What is needed of `dragon.store.Store`."""

    def set(self, key: str, value: bytes | None) -> None: ...

    async def get(self, key: str) -> bytes | None: ...


class Records:
    """Loads and saves `reaches`; without a `store` it does nothing."""

    def __init__(self, reaches: Reaches, store: SmallStore | None, clock: Clock) -> None:
        self._reaches = reaches
        self._store = store
        self._clock = clock
        self._saved_at = clock.monotonic()

    async def load(self) -> None:
        """Take in what was stored; what cannot be read is left, for figures must never keep a node from starting."""
        if self._store is None:
            return
        try:
            data = await self._store.get(KEY)
            if data is not None:
                self._reaches.restore(decode(data, self._clock.monotonic(), self._clock.now_ms()))
        except (StoreError, ValueError) as error:
            log.info("earlier measurements are not used: %s", error)

    def save_if_due(self) -> None:
        if self._clock.monotonic() - self._saved_at >= SAVE_EVERY:
            self.save()

    def save(self) -> None:
        """Store what has changed since the last time, if anything has."""
        since, self._saved_at = self._saved_at, self._clock.monotonic()
        if self._store is not None and any(each.used_at >= since for each in self._reaches):
            self._store.set(KEY, encode(self._reaches, self._clock.monotonic(), self._clock.now_ms()))


def encode(reaches: Iterable[Reach], at: float, now_ms: int) -> bytes:
    """Return the `KEPT` last used of `reaches` as stored, at monotonic `at` and wall clock `now_ms`."""
    used = sorted((each for each in reaches if each.used_at > float("-inf")), key=lambda each: each.used_at)
    return json.dumps({"version": VERSION, "reaches": [_document(each, at, now_ms) for each in used[-KEPT:]]}).encode()


def decode(data: bytes, at: float, now_ms: int) -> list[Reach]:
    """Return the stored reaches, the last used last. Raises `ValueError` for anything that `encode` does not write."""
    try:
        document = json.loads(data)
        if document["version"] != VERSION:
            raise ValueError(f"version {document['version']!r}")
        found = [_reach(each, at, now_ms) for each in document["reaches"][-KEPT:]]
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not a record of ours: {error!r}") from error
    return sorted((each for each in found if at - each.used_at < FORGET_AFTER), key=lambda each: each.used_at)


def _document(reach: Reach, at: float, now_ms: int) -> dict[str, Any]:
    measured = reach.measured
    return {
        "node": reach.node_id,
        "slug": reach.slug,
        "route": reach.route,
        "used_ms": _wall(reach.used_at, at, now_ms),
        "attempts": reach.attempts,
        "failures": reach.failures,
        "sent": reach.sent,
        "received": reach.received,
        "last_failure": reach.last_failure[:LONGEST_WHY],
        "latencies": reach.latencies.counts(),
        "moved": reach.moved,
        "moving": reach.moving,
        "measured": None
        if measured is None
        else {"cost": measured.cost, "at_ms": _wall(measured.stamp, at, now_ms), "samples": measured.samples},
    }


def _reach(document: dict[str, Any], at: float, now_ms: int) -> Reach:
    reach = Reach(_text(document["node"]), _text(document["slug"]), _text(document["route"]))
    reach.used_at = at - _age(document["used_ms"], now_ms)
    reach.attempts = int(_amount(document["attempts"]))
    reach.failures = int(_amount(document["failures"]))
    reach.sent = int(_amount(document["sent"]))
    reach.received = int(_amount(document["received"]))
    reach.last_failure = _text(document["last_failure"])
    reach.latencies = Latencies((int(bucket), int(count)) for bucket, count in document["latencies"])
    reach.moved, reach.moving = _amount(document["moved"]), _amount(document["moving"])
    measured = document["measured"]
    if measured is not None and (age := _age(measured["at_ms"], now_ms)) < FADED_AFTER:
        reach.measured = PeakEwma(_amount(measured["cost"]), at - age, int(_amount(measured["samples"])))
    return reach


def _wall(moment: float, at: float, now_ms: int) -> int:
    return now_ms - round((at - moment) * 1000)


def _age(stored_ms: object, now_ms: int) -> float:
    """Return seconds since then; a moment that lies ahead is now."""
    return max(now_ms - _amount(stored_ms), 0.0) / 1000


def _amount(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1 << 63:
        raise ValueError(f"not an amount: {value!r}")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r}")
    return value

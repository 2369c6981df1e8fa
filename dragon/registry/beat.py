"""When to publish our manifest: a change at once, otherwise a beat now and then. Pure; time is passed in, in seconds.

A burst of changes is one publication: the first change waits a moment for others that belong to it, and while the swarm still
digests a publication further changes gather for the next. Beats are jittered, so that nodes started together do not speak
together, and stretched as the swarm grows (`policy.stretch`).
"""

from __future__ import annotations

import math
import random

from dragon.registry.policy import stretch

GATHER = 0.002
"""Seconds that a first change waits for others: listeners that were opened together are confirmed in one look, within a turn
of the loop; what comes later goes into the next publication, `PAUSE` after this one."""

PAUSE = 0.1
"""Seconds between two publications of changes: ten a second, half of what a receiver accepts of one carrier."""

EARLIEST, LATEST = 0.8, 0.97
"""A beat comes within this share of its interval: three late ones in a row (87 s) are still within a lease of three."""


class Beat:
    """Tells when the next publication is due; `published` after each one."""

    def __init__(self, heartbeat: float, rng: random.Random) -> None:
        self._heartbeat = heartbeat
        self._rng = rng
        self._last = -math.inf
        self._beat_at = -math.inf
        self._change_at: float | None = None

    @property
    def due_at(self) -> float:
        """When to publish next: at once before the first time."""
        return self._beat_at if self._change_at is None else min(self._beat_at, self._change_at)

    def interval(self, live: int) -> float:
        """Return the seconds between two beats in a swarm of `live` nodes, before jitter."""
        return self._heartbeat * stretch(live)

    def changed(self, at: float) -> None:
        """What we say has changed at `at`."""
        if self._change_at is None:
            self._change_at = max(at + GATHER, self._last + PAUSE)

    def published(self, at: float, live: int) -> None:
        """A publication went out at `at`, in a swarm of `live` nodes; changes from now on need another one."""
        self._change_at = None
        self._last = at
        self._beat_at = at + self.interval(live) * self._rng.uniform(EARLIEST, LATEST)

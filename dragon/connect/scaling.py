"""How many providers a pool should have for the load it carries (`forward … --pool auto`). Pure.

    in flight > GROW_ABOVE × size, all of them ready ──► as many as the load asks for, at most twice as many as before
    in flight < SHRINK_BELOW × (size - 1) for CALM s ──► one fewer

The two thresholds lie apart, so that no constant load ever makes a pool grow and shrink by turns.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

GROW_ABOVE = 4
"""Connections in flight per provider beyond which one more is asked for: what Ollama serves at once (OLLAMA_NUM_PARALLEL)
before it makes callers wait, and a picture's generator serves fewer."""

SHRINK_BELOW = 2
"""Connections per provider that would remain, below which one is let go: half of `GROW_ABOVE`, for hysteresis."""

GROW_PAUSE = 2.0
"""Seconds after a change until the next growth: what the last one's providers need to take their share (a leg and a test take
well below one)."""

CALM = 30.0
"""Seconds of low load before one provider is let go: the pause between two questions of one person to a model."""

LARGEST = 16
"""Providers of one pool at most, also when asked for: each costs a leg, and a test every ten seconds."""


@dataclass(frozen=True, slots=True)
class Scale:
    """`size` wanted; `changed_at` and `calm_since` in monotonic seconds, the latter None while the load is not low."""

    size: int = 1
    changed_at: float = float("-inf")
    calm_since: float | None = None


def scaled(scale: Scale, in_flight: int, ready: int, at: float) -> Scale:
    """Return the scale after a look at `at`, with `in_flight` connections over `ready` providers."""
    size = scale.size
    if in_flight > GROW_ABOVE * size:
        if ready < size or size >= LARGEST or at < scale.changed_at + GROW_PAUSE:
            return replace(scale, calm_since=None)
        return Scale(min(math.ceil(in_flight / GROW_ABOVE), 2 * size, LARGEST), at)
    if size == 1 or in_flight >= SHRINK_BELOW * (size - 1):
        return replace(scale, calm_since=None)
    if scale.calm_since is None:
        return replace(scale, calm_since=at)
    if at < scale.calm_since + CALM:
        return scale
    return Scale(size - 1, at, at)

"""Peak-EWMA: how slow a provider feels, from what we measured ourselves.

Source: Finagle's `PeakEwma` (twitter/finagle, finagle-core, loadbalancer): an exponentially weighted moving average over time
that jumps to a peak at once and comes down slowly, so that a provider that turns slow is avoided after one answer, and one that
recovers is trusted again step by step:

    w = exp(-elapsed / TAU);  cost = rtt if rtt > cost else cost * w + rtt * (1 - w)

One thing differs: Finagle's reading decays towards 0 without traffic, which makes a long unused provider look perfect. Ours
decays towards `prior`, what we would assume of a provider that was never measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

TAU = 60.0
"""Seconds after which 63 % of a measurement is forgotten. Finagle's 10 s suits thousands of requests a second; the requests of
a swarm (a question to a model, a picture) last seconds and come minutes apart."""


@dataclass(frozen=True, slots=True)
class PeakEwma:
    """The latency of one provider's service over one route. `cost` in seconds, valid at `stamp` (monotonic seconds).

    `since`: when the first answer came; None: longer ago than matters.
    """

    cost: float
    stamp: float
    samples: int = 1
    since: float | None = None

    def observe(self, seconds: float, at: float) -> PeakEwma:
        """Return the measure after one more answer that took `seconds`."""
        if seconds > self.cost:
            cost = seconds
        else:
            weight = math.exp(-max(at - self.stamp, 0.0) / TAU)
            cost = self.cost * weight + seconds * (1.0 - weight)
        return PeakEwma(cost, max(at, self.stamp), self.samples + 1, self.since)

    def estimate(self, at: float, prior: float) -> float:
        """Return the seconds to expect at `at`: the measure, fading towards `prior` with age."""
        weight = math.exp(-max(at - self.stamp, 0.0) / TAU)
        return self.cost * weight + prior * (1.0 - weight)


def observed(measure: PeakEwma | None, seconds: float, at: float) -> PeakEwma:
    """Return `measure` with one more answer; the first answer is the first measure."""
    return PeakEwma(seconds, at, since=at) if measure is None else measure.observe(seconds, at)

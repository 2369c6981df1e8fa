"""A circuit breaker for one provider's service over one route (Nygard, Release It!), as a value with pure transitions.

                 fail × THRESHOLD, or trip
       ┌────────┐ ───────────────────────► ┌──────┐
       │ closed │                          │ open │ ◄──────────────┐
       └────────┘ ◄──────┐                 └──────┘                │
            ▲            │ succeed             │ cooldown over     │ fail: cooldown doubles
            │ succeed    │                     ▼                   │
            └────────────┴──────────────── half-open ──────────────┘
                                     (one attempt at a time)

One failure never opens it (KUBO.md: one reply in several thousand arrives short under load); a death that we know of does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half-open"]

THRESHOLD = 3
"""Failures in a row that open it: a false claim of health drops out after three dials (THREATS 23)."""

FIRST_COOLDOWN = 1.0
"""Seconds until the first new attempt: what a service needs to restart."""

MAX_COOLDOWN = 60.0
"""Seconds between attempts at a provider that stays dead: two of its beats, so that its return is noticed."""

ATTEMPT_BOUND = 30.0
"""Seconds after which a half-open attempt that never reported counts as lost, and another may start."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failures` in a row; `opened_at` and `attempt_at` in monotonic seconds, None while not open or not attempted."""

    failures: int = 0
    opened_at: float | None = None
    cooldown: float = FIRST_COOLDOWN
    attempt_at: float | None = None
    why: str = ""

    def state(self, at: float) -> State:
        if self.opened_at is None:
            return "closed"
        return "open" if at < self.opened_at + self.cooldown else "half-open"

    def permits(self, at: float) -> bool:
        """Tell whether a connection may be tried now."""
        state = self.state(at)
        if state == "half-open":
            return self.attempt_at is None or at >= self.attempt_at + ATTEMPT_BOUND
        return state == "closed"

    def attempt(self, at: float) -> Breaker:
        """Return the breaker with its half-open attempt taken; unchanged in the other states."""
        return replace(self, attempt_at=at) if self.state(at) == "half-open" else self

    def succeed(self) -> Breaker:
        """Return the breaker after an answer: closed, all forgiven."""
        return CLOSED

    def fail(self, at: float, why: str) -> Breaker:
        """Return the breaker after a failure that `why` tells in a few words."""
        state = self.state(at)
        if state == "half-open":
            return Breaker(self.failures + 1, at, min(self.cooldown * 2, MAX_COOLDOWN), None, why)
        if state == "open":  # a straggler of the time before: no news
            return self
        if self.failures + 1 >= THRESHOLD:
            return Breaker(self.failures + 1, at, FIRST_COOLDOWN, None, why)
        return Breaker(self.failures + 1, None, FIRST_COOLDOWN, None, why)

    def trip(self, at: float, why: str) -> Breaker:
        """Return the breaker open at once: the provider is known to be gone, not merely slow."""
        if self.state(at) == "open":
            return self
        return Breaker(max(self.failures, THRESHOLD), at, self.cooldown, None, why)


CLOSED = Breaker()

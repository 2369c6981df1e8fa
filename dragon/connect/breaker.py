"""A circuit breaker for one provider's service over one route (Nygard, Release It!), as a value with pure transitions.

                 fail × THRESHOLD, or trip
       ┌────────┐ ───────────────────────► ┌──────┐
       │ closed │                          │ open │ ◄──────────────┐
       └────────┘                          └──────┘                │
            ▲        fail: cooldown doubles  ▲   │ cooldown over   │ fail: cooldown doubles
            │          ┌─────────────────────┘   ▼                 │
            │    ┌───────────┐   succeed      ┌───────────┐        │
            └─── │ probation │ ◄───────────── │ half-open │ ───────┘
                 └───────────┘                └───────────┘
       succeed × PROBATION_SUCCESSES,      (one attempt at a time)
       or PROBATION seconds

One failure never opens it (KUBO.md: one reply in several thousand arrives short under load); a death that we know of does, and
so does one failure on probation. Hysteresis (THREATS 22): one that opens again soon after it closed is shut out for twice as
long each time, so that a provider that comes and goes moves its clients ever more seldom.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

State = Literal["closed", "open", "half-open"]
"""On probation it counts as closed: anybody may use it, see `on_probation`."""

THRESHOLD = 3
"""Failures in a row that open it: a false claim of health drops out after three dials (THREATS 23)."""

FIRST_COOLDOWN = 1.0
"""Seconds until the first new attempt: what a service needs to restart."""

MAX_COOLDOWN = 60.0
"""Seconds between attempts at a provider that stays dead: two of its beats, so that its return is noticed."""

ATTEMPT_BOUND = 30.0
"""Seconds after which a half-open attempt that never reported counts as lost, and another may start."""

PROBATION_SUCCESSES = 3
"""Answers, that of the half-open attempt included, until a provider that was out is trusted as before: as many as failures."""

PROBATION = 30.0
"""Seconds without failure that end probation too, where hardly anybody asks: a provider's beat."""

STEADY = 60.0
"""Seconds that it must have been closed for the next opening to count as the first again: the longest cooldown."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """`failures` in a row; `opened_at`, `attempt_at` and `closed_at` in monotonic seconds, None while not open, not attempted,
    or never closed since. `owed`: answers still to come before a failure is forgiven."""

    failures: int = 0
    opened_at: float | None = None
    cooldown: float = FIRST_COOLDOWN
    attempt_at: float | None = None
    why: str = ""
    closed_at: float | None = None
    owed: int = 0

    def state(self, at: float) -> State:
        if self.opened_at is None:
            return "closed"
        return "open" if at < self.opened_at + self.cooldown else "half-open"

    def on_probation(self, at: float) -> bool:
        """Tell whether it has just closed, and the next failure opens it again."""
        return self.opened_at is None and self.owed > 0 and self.closed_at is not None and at < self.closed_at + PROBATION

    def permits(self, at: float) -> bool:
        """Tell whether a connection may be tried now."""
        state = self.state(at)
        if state == "half-open":
            return self.attempt_at is None or at >= self.attempt_at + ATTEMPT_BOUND
        return state == "closed"

    def attempt(self, at: float) -> Breaker:
        """Return the breaker with its half-open attempt taken; unchanged in the other states."""
        return replace(self, attempt_at=at) if self.state(at) == "half-open" else self

    def excuse(self) -> Breaker:
        """Return the breaker after an attempt that says nothing about the provider: as if it had not been made."""
        return replace(self, attempt_at=None)

    def succeed(self, at: float) -> Breaker:
        """Return the breaker after an answer: closed; on probation where it was open."""
        if self.opened_at is not None:
            return Breaker(cooldown=self.cooldown, why=self.why, closed_at=at, owed=PROBATION_SUCCESSES - 1)
        if self.closed_at is None:
            return CLOSED
        return replace(self, failures=0, owed=max(self.owed - 1, 0))

    def fail(self, at: float, why: str) -> Breaker:
        """Return the breaker after a failure that `why` tells in a few words."""
        state = self.state(at)
        if state == "open":  # a straggler of the time before: no news
            return self
        if state == "half-open" or self.on_probation(at) or self.failures + 1 >= THRESHOLD:
            return self._opened(at, why, self.failures + 1)
        return replace(self, failures=self.failures + 1, why=why)

    def trip(self, at: float, why: str) -> Breaker:
        """Return the breaker open at once: the provider is known to be gone, not merely slow."""
        if self.state(at) == "open":
            return self
        return self._opened(at, why, max(self.failures, THRESHOLD))

    def _opened(self, at: float, why: str, failures: int) -> Breaker:
        again = self.opened_at is not None or (self.closed_at is not None and at < self.closed_at + STEADY)
        return Breaker(failures, at, min(self.cooldown * 2, MAX_COOLDOWN) if again else FIRST_COOLDOWN, None, why)


CLOSED = Breaker()

"""Is it us? Local-health awareness: a sick observer does not blame providers (THREATS 21).

Source: Dadgar, Phillips, Currey, Lifeguard: Local Health Awareness for More Accurate Failure Detection (2017), and memberlist's
`awareness.go`: most wrong suspicions come from observers that were themselves slow to handle the answer. Lifeguard stretches
the time-outs of such an observer; we need not wait for a verdict, since another provider is tried in any case, so ours simply
counts no failure against anybody while it has evidence against itself:

- its event loop is late: a pulse that runs beside every attempt came later than it should, or is overdue at this moment
  (after SIGSTOP the time-outs of the attempts fire before the pulse does);
- its own Kubo does not answer: what went through it says nothing about the other side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PULSE = 0.1
"""Seconds between two pulses: several within the shortest attempt that fails by silence."""

TOLERANCE = 0.25
"""Seconds by which a pulse may be late: a collection of garbage or a burst of connections delays it by tens of milliseconds."""

CONVALESCENCE = 15.0
"""Seconds without new evidence until we trust our eyes again: the longest attempt that may have begun before (10 s to dial and
5 s to test by default)."""


@dataclass(frozen=True, slots=True)
class Awareness:
    """`pulsed_at`: the last pulse, None while none is due. `ill_at`: the last evidence, of which `why` tells. Monotonic."""

    pulsed_at: float | None = None
    ill_at: float = float("-inf")
    why: str = ""

    def pulse(self, at: float) -> Awareness:
        """Return it after a pulse at `at`; the first one after a rest is never late."""
        late = self._lateness(at)
        return replace(self.fell_ill(at, _late(late)) if late > TOLERANCE else self, pulsed_at=at)

    def rest(self, at: float) -> Awareness:
        """Return it after the last attempt has ended: no pulse is due any more; one that was overdue still counts."""
        return replace(self.pulse(at), pulsed_at=None)

    def fell_ill(self, at: float, why: str) -> Awareness:
        """Return it after evidence against ourselves, told in a few words."""
        return replace(self, ill_at=at, why=why)

    def ailing(self, at: float) -> str | None:
        """Return why what we see at `at` may be our own trouble, None when we are well."""
        late = self._lateness(at)
        if late > TOLERANCE:
            return _late(late)
        return self.why if at < self.ill_at + CONVALESCENCE else None

    def _lateness(self, at: float) -> float:
        return 0.0 if self.pulsed_at is None else at - self.pulsed_at - PULSE


def _late(seconds: float) -> str:
    return f"our own event loop was {seconds:.1f} s late"

"""Do our messages get out? Found by asking others what they hold of us. Pure (THREATS 17).

A daemon whose clock stepped back before a restart numbers its messages below what its peers have seen: they drop them without a
word, and publishing still answers 200 (KUBO.md, pubsub trap 2). One lost message looks the same, so one answer is a suspicion
and two in different beats are an alarm.
"""

from __future__ import annotations

from collections import deque

ASK_EVERY = 5
"""Beats between two questions (DESIGN §5): one small question per node in two and a half minutes."""

GRACE = 2.0
"""Seconds that a message may take to arrive and be admitted before its absence says anything."""

ALARM_AFTER = 2
"""Answers in a row that lag, before it is an alarm."""

_KEPT = 16  # sequences waiting for their grace to pass: bursts are published at most a few times a second


class MuteWatch:
    """Remembers what was sent and judges answers; time is passed in, in seconds."""

    def __init__(self) -> None:
        self._sent: deque[tuple[float, int]] = deque(maxlen=_KEPT)
        self._expected = 0
        self._beats = 0
        self._lagging = 0

    @property
    def mute(self) -> bool:
        """True while others do not hear us over pubsub."""
        return self._lagging >= ALARM_AFTER

    def sent(self, sequence: int, at: float) -> None:
        """A manifest of this sequence went out over pubsub."""
        self._advance(at)
        self._sent.append((at, sequence))
        self._beats += 1

    def due(self) -> bool:
        """Tell whether this beat asks: every fifth one, and each one while there is a suspicion."""
        return bool(self._sent) and (self._lagging > 0 or self._beats % ASK_EVERY == 0)

    def judge(self, held: int, source: str, at: float) -> bool:
        """Take a peer's answer: the sequence it holds of us (0: none), and how that came to it. False when it lags.

        What came by an exchange proves nothing about pubsub: it neither raises the alarm nor ends it.
        """
        self._advance(at)
        if held < self._expected:
            self._lagging += 1
            return False
        if source == "pubsub":
            self._lagging = 0
        return True

    def _advance(self, at: float) -> None:
        while self._sent and self._sent[0][0] <= at - GRACE:
            self._expected = max(self._expected, self._sent.popleft()[1])

"""One client on its way to a provider, or with it: what went through, and how long it has waited since it last spoke."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from dragon.connect.finder import Found
from dragon.connect.patience import FIRST, LONGEST
from dragon.connect.relay import Relay


@dataclass(slots=True, eq=False)
class Conversation:
    """`far` is the provider's side; `relay` runs once the provider has answered."""

    found: Found
    far: socket.socket
    relay: Relay | None = None
    counted: tuple[int, int] = (0, 0)
    measured: tuple[int, int] = (0, 0)
    measured_at: float = 0.0
    said: bytes | bytearray = b""
    lost: str | None = None
    """Why the provider was given up while it was silent."""
    seen: tuple[int, int] = (0, 0)
    rest: float = FIRST
    due: float = float("inf")
    """When the provider's silence is to be looked into."""

    def measure(self, at: float) -> None:
        """Tell the provider's figures what went through since the last time; time in which nothing did is not counted."""
        if self.relay is None:
            return
        sent, received = self.relay.sent - self.measured[0], self.relay.received - self.measured[1]
        if sent or received:
            self.found.reach.move(sent, received, at - self.measured_at, at)
        self.measured, self.measured_at = (self.relay.sent, self.relay.received), at

    def is_overdue(self, at: float) -> bool:
        """Tell whether the client, answered before, has waited long since it last spoke; again after twice as long.

        Not while its provider has answered anybody meanwhile. What the client said may have been answered between two looks:
        then the test that follows is one too many, now and then.
        """
        if self.relay is None:  # its first answer is awaited with patience elsewhere
            return False
        before, self.seen = self.seen, (self.relay.sent, self.relay.received)
        if self.seen[0] != before[0]:
            self.rest, self.due = FIRST, at + FIRST
        elif self.seen[1] != before[1]:
            self.due = float("inf")
        if at < self.due:
            return False
        waited, self.rest = self.rest, min(self.rest * 2, LONGEST)
        self.due = at + self.rest
        return at - self.found.reach.proven_at >= waited

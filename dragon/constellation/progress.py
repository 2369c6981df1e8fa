"""How far a run is: what a progress bar or `dragon sync status` shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Phase = Literal["deletions", "events", "profiles", "done"]


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run."""

    phase: Phase
    peers_done: int
    """Peers that were asked to the end or failed, in this phase."""
    peers_total: int
    busy: tuple[str, ...]
    """Aliases of the peers that are being read."""
    wanted: int
    """Events known to be missing here so far; grows while NIP-77 goes on, stays behind `received` for peers without it."""
    received: int
    stored: int
    rejected: int
    bytes_in: int
    seconds: float
    """Since the run started."""

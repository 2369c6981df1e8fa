"""What `dragon doctor` says of the sync: when it ran last, and how that ended."""

from __future__ import annotations

import time

from dragon.constellation.figures import count, span, verdict
from dragon.constellation.history import History
from dragon.constellation.places import Places
from dragon.kubo.checks import Finding

LATE = 3
"""Intervals without a run after which something keeps them from happening."""


def findings(places: Places, *, enabled: bool, every: float) -> list[Finding]:
    """Return what there is to say; nothing where this node never ran a sync. Blocks for a file or two."""
    last = History(places.runs).last()
    if last is None:
        return []
    try:
        ago, state = max(time.time() - float(last["started"]), 0.0), str(last["state"])
        told = f"{verdict(last)}, {count(last['stored'])} new events from {last['peers_ok']} of {last['peers_total']} peers"
        error = str(last["error"])
    except (KeyError, TypeError, ValueError):
        return [Finding("constellation sync", False, "its last report is torn", "dragon sync", essential=False)]
    detail = f"{span(ago)} ago: {told}" + (f" ({error})" if error else "")
    late = enabled and ago > LATE * every
    well = state not in ("failed", "timeout") and not late
    return [Finding("constellation sync", well, detail, "" if well else "dragon sync --verbose", essential=False)]

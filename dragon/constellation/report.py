"""A run as one JSON document: what the engine counted, and who, where and how. The text and the page are made from it alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dragon.constellation.outcome import Outcome
from dragon.constellation.progress import Progress

VERSION = 1
"""Of the document. Fields may be added under it, never change their meaning."""

MOST_SAMPLES = 240
"""Moments of the timeline that are kept: more than a chart of 700 points' width shows."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class About:
    """What the engine does not know of its run."""

    run: str
    node_id: str = ""
    alias: str = ""
    swarm: str = ""
    uplanet: str = ""
    mode: str = "sync"
    """`sync`, `dry-run`, `verify`, `scheduled`, `backfill`, `trigger`, `follow`."""
    dragon: str = ""
    """Our version."""
    relay: str = ""
    tool: str = ""
    people: int = 0
    """Authors of this node's own list; the others are those of the constellation."""
    notes: tuple[str, ...] = ()
    """What a reader should know: locks taken over, lists that did not come."""


@dataclass(slots=True)
class Timeline:
    """How the counts grew: `(seconds, received, stored)`; thinned out evenly when it gets long."""

    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def add(self, progress: Progress) -> None:
        if self.samples and progress.seconds <= self.samples[-1][0]:
            return
        self.samples.append((round(progress.seconds, 2), progress.received, progress.stored))
        if len(self.samples) > MOST_SAMPLES:
            del self.samples[1:-1:2]


def document(about: About, outcome: Outcome, timeline: Sequence[tuple[float, int, int]] = ()) -> Document:
    """Return the report of a run in whatever state it ended."""
    return {
        "version": VERSION,
        "run": about.run,
        "mode": about.mode,
        "node": about.node_id,
        "alias": about.alias,
        "swarm": about.swarm,
        "uplanet": about.uplanet,
        "dragon": about.dragon,
        "relay": about.relay,
        "tool": about.tool,
        "people": about.people,
        "notes": list(about.notes),
        "pubkeys": outcome.authors,
        **outcome.document(),
        "timeline": [list(sample) for sample in timeline],
    }


def brought_nothing(document: Document) -> bool:
    """Whether a run neither stored nor lost anything: not worth a mail."""
    return not document["stored"] and not document["peers_failed"] and document["state"] in ("ok", "nothing", "cancelled")

"""What admission answers, and what a view tells those who listen to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from registry_schema import Rank

Source: TypeAlias = Literal["pubsub", "exchange", "ipns", "self", "store"]
"""The way by which an envelope came."""

Kind: TypeAlias = Literal["joined", "changed", "beat", "left", "silent", "gone", "skewed", "equivocated"]


class Hearing(NamedTuple):
    """How an envelope came. `at`: seconds on our monotonic clock; `now_ms`: our wall clock; `age`: seconds, as claimed."""

    carrier: str
    source: Source
    at: float
    now_ms: int
    age: float

    def is_firsthand(self, node_id: str) -> bool:
        """Tell whether `node_id` itself brought it: what it says by its own mouth is as old as it says."""
        return self.carrier == node_id and self.source != "ipns"

    def lag(self, sequence: int) -> float:
        """Return the seconds by which the clock that wrote `sequence` seems to be behind ours."""
        return (self.now_ms - sequence) / 1000 - self.age


@dataclass(frozen=True, slots=True)
class Admitted:
    """The envelope is now what the view holds of its node. `back`: a node that was silent, left or skewed is live again."""

    node_id: str
    change: Literal["new", "content", "beat", "left", "back"]
    rank: Rank


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Held already; nothing was decoded if it was seen lately."""

    node_id: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not admitted. `reason` is a stable word (the counter's name), `detail` a sentence; neither may be logged per message."""

    reason: str
    detail: str


Verdict: TypeAlias = Admitted | Duplicate | Rejected


@dataclass(frozen=True, slots=True)
class Change:
    """Something happened to a node of the view. `gone`: forgotten, also by the store; `beat`: still the same content."""

    node_id: str
    kind: Kind

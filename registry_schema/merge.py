"""The order of envelopes and the merge of views: pure, commutative, associative, idempotent.

A view, reduced to what merging needs, maps each node id to the rank `(sequence, hash)` of what it holds. Taking the higher rank
per node is a join-semilattice (Shapiro et al., *Conflict-free Replicated Data Types*, 2011): any exchange order converges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

Rank: TypeAlias = tuple[int, bytes]
"""`(sequence, SHA-256 of the payload)`; compared in this order."""


def newer(candidate: Rank, held: Rank | None) -> bool:
    """Tell whether `candidate` replaces `held`."""
    return held is None or candidate > held


def equivocates(one: Rank, other: Rank) -> bool:
    """Tell whether a node signed two bodies under one sequence."""
    return one[0] == other[0] and one[1] != other[1]


def merge(one: Mapping[str, Rank], other: Mapping[str, Rank]) -> dict[str, Rank]:
    """Return the join of two views: per node id the higher rank."""
    joined = dict(one)
    for node_id, rank in other.items():
        if newer(rank, joined.get(node_id)):
            joined[node_id] = rank
    return joined

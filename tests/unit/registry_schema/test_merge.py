"""The join of views: commutative, associative, idempotent, and it never goes back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from registry_schema import Rank, equivocates, merge, newer

RANKS = st.tuples(st.integers(1, 5), st.binary(min_size=1, max_size=1))
VIEWS = st.dictionaries(st.sampled_from("abcdef"), RANKS)


@given(VIEWS, VIEWS)
def test_commutative(one: dict[str, Rank], other: dict[str, Rank]) -> None:
    assert merge(one, other) == merge(other, one)


@given(VIEWS, VIEWS, VIEWS)
def test_associative(one: dict[str, Rank], two: dict[str, Rank], three: dict[str, Rank]) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@given(VIEWS, VIEWS)
def test_idempotent(one: dict[str, Rank], other: dict[str, Rank]) -> None:
    joined = merge(one, other)
    assert merge(joined, joined) == joined
    assert merge(joined, one) == merge(joined, other) == joined


@given(VIEWS, VIEWS)
def test_nothing_is_lost_and_nothing_goes_back(one: dict[str, Rank], other: dict[str, Rank]) -> None:
    before = (dict(one), dict(other))
    joined = merge(one, other)
    assert set(joined) == set(one) | set(other)
    for view in (one, other):
        assert all(joined[node_id] >= rank for node_id, rank in view.items())
    assert (one, other) == before


@given(RANKS, RANKS)
def test_newer_is_a_strict_total_order(one: Rank, other: Rank) -> None:
    assert newer(one, None)
    assert not newer(one, one)
    assert (one == other) or (newer(one, other) != newer(other, one))


@given(RANKS, RANKS)
def test_equivocation_is_one_sequence_with_two_bodies(one: Rank, other: Rank) -> None:
    assert equivocates(one, other) == (one[0] == other[0] and one != other)

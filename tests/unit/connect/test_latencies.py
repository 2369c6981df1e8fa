"""The histogram of answers: small errors, a fixed size, and what is new outweighs what is old."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.latencies import BUCKETS, GROWTH, LEAST, MEMORY, Latencies


def measured(*seconds: float) -> Latencies:
    latencies = Latencies()
    for each in seconds:
        latencies.add(each)
    return latencies


def test_nothing_measured_is_no_quantile() -> None:
    assert Latencies().quantile(0.5) is None
    assert len(Latencies()) == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 0.95, 1.0])
def test_quantiles_are_off_by_a_small_share(share: float) -> None:
    rng = random.Random(7)
    seconds = sorted(rng.lognormvariate(-3, 1.5) for _ in range(MEMORY))
    exact = seconds[max(round(share * len(seconds)) - 1, 0)]
    assert measured(*seconds).quantile(share) == pytest.approx(exact, rel=GROWTH - 1)


@given(st.lists(st.floats(0, 1e9, allow_nan=False), max_size=3 * MEMORY // 2))
@settings(max_examples=40, deadline=None)
def test_it_stays_small_and_comes_back_from_its_counts(seconds: list[float]) -> None:
    latencies = measured(*seconds)
    assert len(latencies) <= MEMORY
    assert len(latencies.counts()) <= BUCKETS
    again = Latencies(latencies.counts())
    assert again.counts() == latencies.counts()
    assert again.quantile(0.95) == latencies.quantile(0.95)


def test_a_provider_that_turned_slow_is_known_by_its_new_ways() -> None:
    latencies = measured(*[0.01] * MEMORY, *[1.0] * MEMORY)
    assert latencies.quantile(0.5) == pytest.approx(1.0, rel=GROWTH - 1)


@pytest.mark.parametrize(
    "counts", [[(-1, 1)], [(BUCKETS, 1)], [(0, 0)], [(0, MEMORY + 1)], [(3, 1), (3, 1)], [(0, MEMORY), (1, 1)]]
)
def test_counts_that_it_never_gives_are_refused(counts: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError):
        Latencies(counts)


def test_what_is_out_of_range_counts_at_the_edge() -> None:
    assert measured(0.0, LEAST / 2).counts() == [(0, 2)]
    assert measured(1e9).counts() == [(BUCKETS - 1, 1)]

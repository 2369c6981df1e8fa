from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.measure import TAU, PeakEwma, observed


def test_a_peak_counts_at_once_and_fades_slowly() -> None:
    calm = PeakEwma(0.010, 0.0)
    peak = calm.observe(1.0, 1.0)
    assert peak.cost == 1.0
    after = peak.observe(0.010, 1.0 + TAU)
    assert after.cost == pytest.approx(1.0 * math.exp(-1) + 0.010 * (1 - math.exp(-1)))


def test_first_answer_is_the_first_measure() -> None:
    assert observed(None, 0.2, 5.0) == PeakEwma(0.2, 5.0, 1, since=5.0)


def test_old_news_fades_towards_what_is_assumed_of_strangers() -> None:
    slow = PeakEwma(10.0, 0.0)
    assert slow.estimate(0.0, 0.05) == 10.0
    assert slow.estimate(20 * TAU, 0.05) == pytest.approx(0.05, abs=1e-6)


@given(st.lists(st.tuples(st.floats(0.0001, 100), st.floats(0, 1000)), min_size=1, max_size=20))
@settings(max_examples=100)
def test_stays_within_what_was_seen_and_never_goes_back_in_time(answers: list[tuple[float, float]]) -> None:
    measure = None
    for seconds, at in answers:
        measure = observed(measure, seconds, at)
    assert measure is not None
    seen = [seconds for seconds, _ in answers]
    assert min(seen) - 1e-9 <= measure.cost <= max(seen) + 1e-9
    assert measure.stamp == max([answers[0][1], *(at for _, at in answers)])
    assert measure.samples == len(answers)

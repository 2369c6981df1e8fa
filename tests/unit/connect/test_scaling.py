"""The size of a pool: tables of what follows from which load, and that no constant load makes it flap."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.scaling import CALM, GROW_ABOVE, GROW_PAUSE, LARGEST, SHRINK_BELOW, Scale, scaled

LOOK = 0.5
"""Seconds between two looks, as a node makes them."""


@pytest.mark.parametrize(
    ("scale", "in_flight", "ready", "at", "size"),
    [
        (Scale(), 0, 1, 0.0, 1),
        (Scale(), GROW_ABOVE, 1, 0.0, 1),
        (Scale(), GROW_ABOVE + 1, 1, 0.0, 2),
        (Scale(), 1000, 1, 0.0, 2),
        (Scale(), 1000, 0, 0.0, 1),
        (Scale(2, 10.0), 1000, 2, 10.0 + GROW_PAUSE / 2, 2),
        (Scale(2, 10.0), 1000, 2, 10.0 + GROW_PAUSE, 4),
        (Scale(2, 10.0), 2 * GROW_ABOVE + 1, 2, 20.0, 3),
        (Scale(2, 10.0), 1000, 1, 60.0, 2),
        (Scale(LARGEST, 10.0), 1000, LARGEST, 60.0, LARGEST),
        (Scale(LARGEST - 1, 10.0), 1000, LARGEST - 1, 60.0, LARGEST),
        (Scale(3, 10.0, 20.0), 0, 3, 20.0 + CALM / 2, 3),
        (Scale(3, 10.0, 20.0), 0, 3, 20.0 + CALM, 2),
        (Scale(3, 10.0, 20.0), 2 * SHRINK_BELOW, 3, 20.0 + CALM, 3),
        (Scale(3, 10.0, 20.0), 2 * SHRINK_BELOW - 1, 3, 20.0 + CALM, 2),
        (Scale(1, 10.0, 20.0), 0, 1, 1e6, 1),
    ],
    ids=[
        "nothing to do",
        "as many as one takes",
        "one more than one takes",
        "at most twice as many at once",
        "not before the first is ready",
        "not right after a change",
        "twice as many after the pause",
        "as many as the load asks for",
        "not while one that was asked for is missing",
        "never more than the largest",
        "up to the largest",
        "low load, not for long yet",
        "low load for long enough",
        "the load would fill those who remain by half",
        "one less than that",
        "one remains",
    ],
)
def test_what_follows_from_which_load(scale: Scale, in_flight: int, ready: int, at: float, size: int) -> None:
    assert scaled(scale, in_flight, ready, at).size == size


def test_a_short_burst_starts_the_calm_anew() -> None:
    scale = scaled(Scale(3, 0.0), 0, 3, 100.0)
    assert scale.calm_since == 100.0
    assert scaled(scale, 2 * SHRINK_BELOW, 3, 110.0).calm_since is None


def sizes(scale: Scale, in_flight: int, seconds: float) -> list[int]:
    """Return the sizes over time under a constant load, with every provider ready at once."""
    seen, at = [scale.size], 1000.0
    while at < 1000.0 + seconds:
        scale = scaled(scale, in_flight, scale.size, at)
        seen.append(scale.size)
        at += LOOK
    return seen


@given(st.integers(0, 200), st.integers(1, LARGEST))
@settings(max_examples=60, deadline=None)
def test_a_constant_load_never_makes_it_flap(in_flight: int, start: int) -> None:
    seen = sizes(Scale(start), in_flight, CALM * (LARGEST + 1))
    assert seen in (sorted(seen), sorted(seen, reverse=True))
    assert len(set(seen[-round(CALM * 1.5 / LOOK) :])) == 1, "it has settled"
    assert 1 <= seen[-1] <= LARGEST


def test_it_follows_a_load_up_and_down() -> None:
    up = sizes(Scale(), 32, 60)
    assert up[-1] == 8
    assert up[round(3 * GROW_PAUSE / LOOK) + 1] == 8
    assert sizes(Scale(8), 0, CALM * 9)[-1] == 1

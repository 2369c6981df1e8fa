"""The breaker's transitions, as a table: events with their times, and the state they must lead to."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.breaker import (
    ATTEMPT_BOUND,
    CLOSED,
    FIRST_COOLDOWN,
    MAX_COOLDOWN,
    PROBATION,
    PROBATION_SUCCESSES,
    STEADY,
    THRESHOLD,
    Breaker,
)

Event = tuple[str, float]


def play(events: list[Event], breaker: Breaker = CLOSED) -> Breaker:
    for event, at in events:
        match event:
            case "ok":
                breaker = breaker.succeed(at)
            case "fail":
                breaker = breaker.fail(at, "no answer")
            case "trip":
                breaker = breaker.trip(at, "gone")
            case "excuse":
                breaker = breaker.excuse()
            case "try":
                breaker = breaker.attempt(at)
    return breaker


@pytest.mark.parametrize(
    ("events", "at", "state", "permits"),
    [
        ([], 0, "closed", True),
        ([("fail", 0)], 0, "closed", True),
        ([("fail", 0), ("fail", 1)], 1, "closed", True),
        ([("fail", 0), ("fail", 1), ("ok", 2), ("fail", 3), ("fail", 4)], 4, "closed", True),
        ([("fail", 0), ("fail", 0), ("fail", 0)], 0.5, "open", False),
        ([("fail", 0), ("fail", 0), ("fail", 0)], 1.0, "half-open", True),
        ([("trip", 0)], 0.5, "open", False),
        ([("trip", 0), ("trip", 0.9)], 1.0, "half-open", True),
        ([("trip", 0), ("fail", 0.9)], 1.0, "half-open", True),
        ([("trip", 0), ("try", 1)], 1.1, "half-open", False),
        ([("trip", 0), ("try", 1)], 1 + ATTEMPT_BOUND, "half-open", True),
        ([("trip", 0), ("try", 1), ("ok", 1.2)], 1.2, "closed", True),
        ([("trip", 0), ("try", 1), ("fail", 1.2)], 2.2, "open", False),
        ([("trip", 0), ("try", 1), ("fail", 1.2)], 3.2, "half-open", True),
        ([("try", 0)], 0, "closed", True),
        ([("trip", 0), ("try", 1), ("ok", 1.2), ("fail", 2)], 3.9, "open", False),
        ([("trip", 0), ("try", 1), ("ok", 1.2), ("fail", 2)], 4, "half-open", True),
        ([("trip", 0), ("try", 1), ("ok", 1.2), ("ok", 2), ("ok", 2), ("fail", 3)], 3, "closed", True),
        ([("trip", 0), ("try", 1), ("ok", 1.2), ("fail", 1.2 + PROBATION)], 1.2 + PROBATION, "closed", True),
        ([("trip", 0), ("try", 1), ("excuse", 1.1)], 1.1, "half-open", True),
        ([("trip", 0), ("ok", 1), ("ok", 1), ("ok", 1), ("trip", 9)], 10.9, "open", False),
        ([("trip", 0), ("ok", 1), ("trip", 1 + STEADY)], 2 + STEADY, "half-open", True),
    ],
)
def test_transitions(events: list[Event], at: float, state: str, permits: bool) -> None:
    breaker = play(events)
    assert (breaker.state(at), breaker.permits(at)) == (state, permits)


def test_cooldown_doubles_up_to_its_bound() -> None:
    breaker, at, seen = CLOSED.trip(0, "gone"), 0.0, []
    for _ in range(10):
        seen.append(breaker.cooldown)
        at += breaker.cooldown
        breaker = breaker.attempt(at).fail(at, "still gone")
    assert seen[:4] == [FIRST_COOLDOWN, 2, 4, 8]
    assert max(seen) == MAX_COOLDOWN


@given(st.lists(st.tuples(st.sampled_from(["ok", "fail", "trip", "try"]), st.floats(0, 5)), max_size=40))
@settings(max_examples=100)
def test_never_closed_for_ever_and_one_failure_never_opens(steps: list[tuple[str, float]]) -> None:
    breaker, at, in_a_row = CLOSED, 0.0, 0
    for event, pause in steps:
        at += pause
        before = breaker
        breaker = play([(event, at)], breaker)
        in_a_row = in_a_row + 1 if event == "fail" else 0 if event == "ok" else in_a_row
        if event == "fail" and before.state(at) == "closed" and in_a_row < THRESHOLD:
            assert breaker.state(at) == ("open" if before.on_probation(at) else "closed")
        assert breaker.permits(at + MAX_COOLDOWN + ATTEMPT_BOUND)


def test_what_just_came_back_must_answer_several_times() -> None:
    breaker, left = CLOSED.trip(0, "gone").attempt(1.0), []
    for _ in range(PROBATION_SUCCESSES):
        breaker = breaker.succeed(1.5)
        left.append(breaker.on_probation(1.5))
    assert left == [True] * (PROBATION_SUCCESSES - 1) + [False]


@given(st.lists(st.floats(0.0, 5.0), min_size=1, max_size=60), st.sampled_from([1, PROBATION_SUCCESSES]))
@settings(max_examples=60)
def test_who_comes_and_goes_is_taken_back_ever_more_seldom(pauses: list[float], answers: int) -> None:
    """THREATS 22: it dies whenever it is trusted; in an hour it is taken back as often as the doubling allows, not more."""
    breaker, at, returns = CLOSED.trip(0.0, "gone"), 0.0, 0
    while at < 3600:
        at += breaker.cooldown
        breaker = breaker.attempt(at)
        for _ in range(answers):
            breaker = breaker.succeed(at)
        returns += 1
        at += pauses[returns % len(pauses)]
        breaker = breaker.trip(at, "gone again")
    assert returns <= 6 + 3600 / MAX_COOLDOWN

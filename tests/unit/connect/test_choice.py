from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.breaker import CLOSED
from dragon.connect.choice import (
    FIRST_SHARE,
    SLOW_START,
    AtRandom,
    Candidate,
    First,
    PowerOfTwo,
    Rotate,
    choose,
    cost,
    lacking,
    share,
    strategy_named,
)
from dragon.connect.measure import PeakEwma
from dragon.errors import UsageError

A = Candidate("A", "alpha", "ollama")
B = Candidate("B", "beta", "ollama")
C = Candidate("C", "gamma", "ollama")
OPEN = CLOSED.trip(0.0, "no answer")


@pytest.mark.parametrize(
    ("candidate", "because"),
    [
        (replace(A, health="critical"), "critical"),
        (replace(A, relayed=True), "relay"),
        (replace(A, breaker=OPEN), "breaker open for 1 s more: no answer"),
        (replace(A, labels={"model": "phi"}), "has no model=llama3.2"),
    ],
)
def test_each_refusal_says_why_and_the_other_is_taken(candidate: Candidate, because: str) -> None:
    good = replace(B, labels={"model": "llama3.2"})
    labels = candidate.labels or {"model": "llama3.2"}
    decision = choose([replace(candidate, labels=labels), good], First(), 0.4, where={"model": "llama3.2"})
    assert decision.provider == good
    assert [(each.candidate.node_id, because in each.because) for each in decision.others] == [("A", True)]


def test_nobody_left() -> None:
    decision = choose([replace(A, health="critical"), B], First(), 0.0, tried={"B": "test failed: HTTP 500"})
    assert decision.provider is None
    assert [each.because for each in decision.others] == ["says itself that the service is critical", "test failed: HTTP 500"]
    assert choose([], First(), 0.0).provider is None


def test_panic_uses_all_when_every_breaker_is_open() -> None:
    decision = choose([replace(A, breaker=OPEN), replace(B, breaker=OPEN)], First(), 0.1)
    assert decision.provider is not None
    assert "every breaker is open" in decision.because


def test_half_open_is_tried_again() -> None:
    assert choose([replace(A, breaker=OPEN)], First(), 2.0).provider is not None
    trying = replace(A, breaker=OPEN.attempt(2.0))
    assert choose([trying, B], First(), 2.1).provider == B


def test_unsigned_ranks_last_but_serves_when_alone() -> None:
    hearsay = replace(A, trust="ipns")
    assert choose([hearsay, B], First(), 0.0).provider == B
    assert choose([hearsay], First(), 0.0).provider == hearsay


def test_unsigned_serves_only_while_every_signed_breaker_is_open() -> None:
    """I4: and it has no part in the panic of those who sign."""
    hearsay = [replace(A, node_id=f"A{number}", trust="ipns", breaker=OPEN) for number in range(8)]
    down, half_dead = replace(B, breaker=OPEN), [replace(B, node_id=f"B{number}", breaker=OPEN) for number in range(2)]
    alone = choose([replace(A, trust="ipns"), down], First(), 0.1)
    assert (alone.provider, alone.because) == (replace(A, trust="ipns"), "first in id order; nobody who signs can serve")
    assert choose([*hearsay, C, *half_dead], First(), 0.1).provider == C  # counted in, they would make it a panic
    assert choose([hearsay[0], down], First(), 0.1).provider == down  # of those who failed, who signs comes first
    assert choose([replace(A, trust="ipns"), B], First(), 0.1, tried={"B": "HTTP 500"}).provider == replace(A, trust="ipns")


def test_whose_turn_it_is_does_not_depend_on_who_signs_nothing() -> None:
    rotate, hearsay = Rotate(), replace(B, trust="ipns")
    both = [A, hearsay, C]
    assert choose(both, rotate, 0.0).provider == A
    assert choose(both, rotate, 0.0, tried={"A": "away", "C": "away"}).provider == hearsay
    assert choose(both, rotate, 0.0).provider == C
    assert choose(both, rotate, 0.0, tried={"A": "away", "C": "away"}).provider == hearsay
    assert choose([replace(A, node_id="0"), *both], rotate, 0.0).provider == replace(A, node_id="0")


def test_measured_outranks_claimed() -> None:
    boaster = replace(A, load=0.0, measured=PeakEwma(2.0, 0.0))
    honest = replace(B, load=0.9, measured=PeakEwma(0.05, 0.0))
    for seed in range(20):
        assert choose([boaster, honest], PowerOfTwo(random.Random(seed)), 0.0).provider == honest


def test_claimed_load_decides_among_the_unmeasured() -> None:
    busy, free = replace(A, load=1.0), replace(B, load=0.0)
    assert choose([busy, free], PowerOfTwo(random.Random(1)), 0.0).provider == free


def test_in_flight_warning_and_weight_count() -> None:
    assert cost(replace(A, in_flight=3), 0.1, 0) == pytest.approx(0.4)
    assert cost(replace(A, health="warning"), 0.1, 0) == pytest.approx(0.2)
    assert cost(replace(A, weight=2.0), 0.1, 0) == pytest.approx(0.05)


def test_the_slow_one_of_three_gets_less_than_a_tenth() -> None:
    """THREATS 22 in small: 100 clients, each with measures of its own, requests that take as long as measured."""
    rng, speeds = random.Random(7), {"A": 0.1, "B": 0.1, "C": 1.0}
    taken: Counter[str] = Counter()
    for client in range(100):
        strategy = PowerOfTwo(random.Random(client))
        measures: dict[str, PeakEwma] = {}
        running: list[tuple[float, str]] = []
        for step in range(50):
            at = step * 0.1
            running = [(end, node) for end, node in running if end > at]
            flight = Counter(node for _, node in running)
            everyone = [
                replace(each, measured=measures.get(each.node_id), in_flight=flight[each.node_id]) for each in (A, B, C)
            ]
            provider = choose(everyone, strategy, at).provider
            assert provider is not None
            seconds = speeds[provider.node_id] * rng.uniform(0.8, 1.2)
            old = measures.get(provider.node_id)
            measures[provider.node_id] = old.observe(seconds, at) if old else PeakEwma(seconds, at)
            running.append((at + seconds, provider.node_id))
            taken[provider.node_id] += 1
    assert taken["C"] / sum(taken.values()) < 0.10


def test_rotate_takes_turns_also_when_somebody_leaves() -> None:
    rotate = Rotate()
    names = [decision.provider.node_id for _ in range(4) if (decision := choose([C, A, B], rotate, 0.0)).provider]
    assert names == ["A", "B", "C", "A"]
    after = choose([A, C], rotate, 0.0).provider
    assert after == C


def test_random_reaches_all_and_first_is_first() -> None:
    strategy = AtRandom(random.Random(3))
    assert {strategy.pick([A, B, C], 0.0)[0].node_id for _ in range(50)} == {"A", "B", "C"}
    assert choose([C, B, A], First(), 0.0).provider == A


def test_names_of_strategies() -> None:
    for name in ("p2c", "rotate", "random", "first"):
        assert strategy_named(name, random.Random()).name == name
    with pytest.raises(UsageError, match="best"):
        strategy_named("best", random.Random())


@pytest.mark.parametrize(
    ("labels", "where", "missing"),
    [
        ({}, {}, None),
        ({"model": "llama3.2"}, {"model": "llama3.2"}, None),
        ({"model": "phi", "model.2": "llama3.2:latest"}, {"model": "llama3.2"}, None),
        ({"model": "phi"}, {"model": "llama3.2"}, "model=llama3.2"),
        ({"gpu": "yes"}, {"gpu": "yes", "model": "x"}, "model=x"),
        ({"model": "llama3.2-vision"}, {"model": "llama3.2"}, "model=llama3.2"),
    ],
)
def test_labels(labels: dict[str, str], where: dict[str, str], missing: str | None) -> None:
    assert lacking(labels, where) == missing


candidates = st.builds(
    Candidate,
    node_id=st.text("ABCDEFGH", min_size=1, max_size=3),
    alias=st.just("x"),
    slug=st.just("ollama"),
    health=st.sampled_from(["passing", "warning", "critical", "unknown"]),
    load=st.floats(0, 1),
    relayed=st.booleans(),
    trust=st.sampled_from(["signed", "ipns"]),
    in_flight=st.integers(0, 9),
    measured=st.none() | st.builds(PeakEwma, st.floats(0, 100), st.floats(0, 100)),
    breaker=st.sampled_from([CLOSED, OPEN, OPEN.attempt(5.0)]),
)


@given(
    st.lists(candidates, max_size=8, unique_by=lambda each: each.node_id),
    st.sampled_from(["p2c", "rotate", "random", "first"]),
    st.floats(0, 200),
)
@settings(max_examples=150)
def test_everybody_is_accounted_for_and_nobody_unfit_is_taken(everyone: list[Candidate], name: str, at: float) -> None:
    decision = choose(everyone, strategy_named(name, random.Random(0)), at)
    named = [each.candidate.node_id for each in decision.others] + ([decision.provider.node_id] if decision.provider else [])
    assert sorted(named) == sorted(each.node_id for each in everyone)
    assert all(each.because for each in decision.others)
    if decision.provider:
        assert decision.provider.health != "critical"
        assert not decision.provider.relayed
    else:
        assert all(each.health == "critical" or each.relayed for each in everyone)


# -- slow start ----------------------------------------------------------------------------------------------------------

BACK = OPEN.attempt(1.0).succeed(1.0)


@pytest.mark.parametrize(
    ("candidate", "at", "part"),
    [
        (A, 0.0, FIRST_SHARE),
        (replace(A, measured=PeakEwma(0.1, 0.0)), 0.0, 1.0),
        (replace(A, measured=PeakEwma(0.1, 0.0, since=0.0)), 0.0, FIRST_SHARE),
        (replace(A, measured=PeakEwma(0.1, 0.0, since=0.0)), SLOW_START / 2, 0.5),
        (replace(A, measured=PeakEwma(0.1, 0.0, since=0.0)), SLOW_START * 9, 1.0),
        (replace(A, measured=PeakEwma(0.1, 0.0), breaker=BACK), 1.0, FIRST_SHARE),
        (replace(A, measured=PeakEwma(0.1, 0.0), breaker=BACK), 1.0 + SLOW_START / 2, 0.5),
        (replace(A, measured=PeakEwma(0.1, 0.0), breaker=OPEN), 2.0, FIRST_SHARE),
    ],
    ids=["never measured", "old", "just measured", "half-way", "long ago", "just back", "back for a while", "half-open"],
)
def test_a_newcomers_share_grows(candidate: Candidate, at: float, part: float) -> None:
    assert share(candidate, at) == pytest.approx(part)


def test_a_newcomer_sits_most_draws_out_and_that_is_said() -> None:
    old, new = replace(A, measured=PeakEwma(1.0, 0.0), in_flight=9), replace(B)
    strategy, taken, reasons = PowerOfTwo(random.Random(5)), Counter[str](), set[str]()
    for _ in range(1000):
        decision = choose([old, new], strategy, 0.0)
        assert decision.provider is not None
        taken[decision.provider.node_id] += 1
        reasons.add(decision.because)
        if decision.provider.node_id == "A":
            assert decision.others[0].because == "could serve, was not picked; never measured: 10% of the draws"
    assert 60 < taken["B"] < 150, "it is the cheaper one, and yet has a tenth"
    assert "p2c: the only one in this draw; 1 in slow start sat this draw out" in reasons


def test_where_all_are_new_nobody_is() -> None:
    strategy = PowerOfTwo(random.Random(5))
    taken = Counter(choose([A, B, C], strategy, 0.0).provider.node_id for _ in range(600))  # type: ignore[union-attr]
    assert min(taken.values()) > 150, "equals are drawn evenly, whatever their ids"


# -- hysteresis ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "in_flight", "taken", "because"),
    [
        (0.10, 0, "B", "p2c: cost"),
        (0.06, 0, "B", "stays: cost 100.0, and alpha (…A) with 60.0 is no clear gain"),
        (0.05, 0, "B", "stays"),
        (0.04, 0, "A", "left beta (…B), which costs 100.0"),
        (0.10, 1, "B", "stays"),
        (0.10, 2, "A", "left beta"),
    ],
)
def test_a_standing_choice_is_left_for_a_clear_gain_only(theirs: float, in_flight: int, taken: str, because: str) -> None:
    standing = replace(B, measured=PeakEwma(0.1, 0.0), in_flight=in_flight)
    other = replace(A, measured=PeakEwma(theirs, 0.0))
    decisions = [choose([standing, other], PowerOfTwo(random.Random(n)), 0.0, incumbent="B") for n in range(8)]
    assert {each.provider.node_id for each in decisions if each.provider} == {taken}
    assert any(because in each.because for each in decisions)


def test_a_standing_choice_that_cannot_serve_is_no_reason() -> None:
    for standing in (replace(B, breaker=OPEN), replace(B, health="critical")):
        assert choose([A, standing], PowerOfTwo(random.Random(1)), 0.1, incumbent="B").provider == A
    assert choose([A, B], PowerOfTwo(random.Random(1)), 0.1, incumbent="B", tried={"B": "no"}).provider == A
    assert choose([A, B], First(), 0.1, incumbent="B").provider == A, "the other strategies mean what they say"


# -- the floor -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "opened", "panic"),
    [(1, 1, True), (2, 1, False), (3, 2, False), (4, 3, False), (4, 4, True), (5, 4, True), (8, 6, False), (8, 7, True)],
)
def test_breakers_never_take_all_but_a_few_away(count: int, opened: int, panic: bool) -> None:
    everyone = [replace(A, node_id=f"N{n}", breaker=OPEN if n < opened else CLOSED) for n in range(count)]
    taken = [choose(everyone, AtRandom(random.Random(n)), 0.1).provider for n in range(99)]
    seen = {each.node_id for each in taken if each}
    assert len(seen) == (count if panic else count - opened)
    decision = choose(everyone, PowerOfTwo(random.Random(1)), 0.1)
    assert ("panic" in decision.because or "every breaker is open" in decision.because) == panic


def test_in_panic_who_failed_most_comes_last() -> None:
    few, many = replace(A, breaker=OPEN), replace(B, breaker=replace(OPEN, failures=40))
    assert choose([few, many], PowerOfTwo(random.Random(1)), 0.1).provider == few


def test_after_all_closed_ones_were_tried_the_open_ones_are() -> None:
    decision = choose([A, replace(B, breaker=OPEN)], First(), 0.1, tried={"A": "HTTP 500"})
    assert decision.provider == replace(B, breaker=OPEN)
    assert "nobody else is left" in decision.because
    assert [each.because for each in decision.others] == ["HTTP 500"]


def test_our_own_trouble_is_told() -> None:
    because = choose([A], First(), 0.0, ailing="our own Kubo did not answer").because
    assert because == "first in id order; our own Kubo did not answer: no failure is held against anybody"

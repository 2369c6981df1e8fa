from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.breaker import CLOSED
from dragon.connect.choice import AtRandom, Candidate, First, PowerOfTwo, Rotate, choose, cost, lacking, strategy_named
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

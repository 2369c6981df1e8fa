"""The small pure rules of the exchange and the publisher: budgets, back-off, and when we must think that we are mute."""

from __future__ import annotations

import random

import pytest

from dragon.registry.backoff import Backoff
from dragon.registry.budget import Budget
from dragon.registry.mute import ALARM_AFTER, ASK_EVERY, GRACE, MuteWatch


def test_a_budget_allows_one_overdraft_and_refills() -> None:
    budget = Budget(size=100, rate=10)
    assert budget.spend("a", 250, at=0.0)
    assert not budget.spend("a", 1, at=14.9)
    assert budget.spend("a", 1, at=15.1)
    assert budget.left("a", at=1000.0) == 100


def test_one_spender_costs_another_nothing() -> None:
    budget = Budget(size=10, rate=1)
    budget.spend("a", 1000, at=0.0)
    assert budget.left("b", at=0.0) == 10


def test_time_that_goes_back_mints_nothing() -> None:
    budget = Budget(size=10, rate=1)
    budget.spend("a", 10, at=50.0)
    assert budget.left("a", at=40.0) == 0


def test_the_number_of_spenders_is_bounded() -> None:
    budget = Budget(size=10, rate=1, max_keys=100)
    for number in range(10_000):
        budget.spend(str(number), 1, at=0.0)
    assert len(budget) == 100
    assert budget.left("9999", at=0.0) == 9


def test_backoff_doubles_to_its_bound_and_begins_anew() -> None:
    backoff = Backoff(0.1, 1.0, random.Random(1))
    waits = [backoff.wait() for _ in range(8)]
    for wait, full in zip(waits, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0, 1.0], strict=True):
        assert full / 2 <= wait <= full
    backoff.reset()
    assert backoff.wait() <= 0.1


@pytest.fixture
def watch() -> MuteWatch:
    return MuteWatch()


def beat(watch: MuteWatch, number: int) -> float:
    """Send beat `number` of a node that beats every 30 s; return the time of the next one."""
    watch.sent(number * 30_000, number * 30.0)
    return (number + 1) * 30.0


def test_every_fifth_beat_asks(watch: MuteWatch) -> None:
    asked = []
    for number in range(1, 16):
        beat(watch, number)
        asked.append(watch.due())
    assert [number for number, due in enumerate(asked, 1) if due] == [ASK_EVERY, 2 * ASK_EVERY, 3 * ASK_EVERY]


def test_nothing_sent_is_nothing_to_ask(watch: MuteWatch) -> None:
    assert not watch.due()


def test_one_lagging_answer_is_a_suspicion_two_are_an_alarm(watch: MuteWatch) -> None:
    at, alarms = 0.0, []
    for number in range(1, 6):
        at = beat(watch, number)
    assert not watch.judge(30_000, "pubsub", at)
    alarms.append(watch.mute)
    at = beat(watch, 6)
    assert watch.due(), "a suspicion is followed up with the next beat, not the fifth after it"
    assert not watch.judge(30_000, "pubsub", at)
    alarms.append(watch.mute)
    assert alarms == [False, True]
    assert ALARM_AFTER == 2


def test_a_good_answer_ends_suspicion_and_alarm(watch: MuteWatch) -> None:
    at, alarms = 0.0, []
    for number in range(1, 4):
        at = beat(watch, number)
        watch.judge(0, "", at)
    alarms.append(watch.mute)
    assert watch.judge(90_000, "exchange", at), "it does not lag"
    alarms.append(watch.mute)
    assert watch.judge(90_000, "pubsub", at)
    alarms.append(watch.mute)
    assert alarms == [True, True, False], "what came by the exchange says nothing about pubsub"


def test_what_was_sent_just_now_is_not_missed_yet(watch: MuteWatch) -> None:
    watch.sent(1000, 10.0)
    watch.sent(2000, 20.0)
    watch.judge(1000, "pubsub", 20.0 + GRACE / 2)
    watch.judge(1000, "pubsub", 20.0 + GRACE / 2)
    assert not watch.mute
    watch.judge(1000, "pubsub", 20.0 + GRACE)
    watch.judge(1000, "pubsub", 20.0 + GRACE)
    assert watch.mute


def test_a_burst_keeps_memory_bounded(watch: MuteWatch) -> None:
    for number in range(1, 1000):
        watch.sent(number, 0.0)
    watch.judge(999, "pubsub", 100.0)
    assert not watch.mute

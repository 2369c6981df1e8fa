"""When to publish and when to ask: the pure schedules."""

from __future__ import annotations

import random

import pytest

from dragon.registry.antientropy import AntiEntropy, Ask
from dragon.registry.beat import EARLIEST, GATHER, LATEST, PAUSE, Beat

SAME = tuple(bytes([number]) * 8 for number in range(16))


def digest(*different: int, mark: int = 99) -> tuple[bytes, ...]:
    return tuple(bytes([mark]) * 8 if number in different else value for number, value in enumerate(SAME))


# -- beats ---------------------------------------------------------------------------------------------------------------


def test_the_first_publication_is_due_at_once() -> None:
    assert Beat(30, random.Random(1)).due_at <= 0


def test_beats_are_jittered_within_their_interval_and_three_fit_into_a_lease() -> None:
    beat, at = Beat(30, random.Random(1)), 0.0
    waits = []
    for _ in range(500):
        beat.published(at, live=10)
        waits.append(beat.due_at - at)
        at = beat.due_at
    assert 30 * EARLIEST <= min(waits) < max(waits) <= 30 * LATEST
    assert max(waits) - min(waits) > 4
    assert 3 * max(waits) < 90, "within a lease two beats may be lost"


@pytest.mark.parametrize(("live", "interval"), [(1, 30), (1000, 30), (4000, 60)])
def test_beats_stretch_with_the_swarm(live: int, interval: float) -> None:
    assert Beat(30, random.Random(1)).interval(live) == interval


def test_a_burst_of_changes_is_one_publication() -> None:
    beat = Beat(30, random.Random(1))
    beat.published(0.0, live=3)
    for at in (5.000, 5.001, 5.004):
        beat.changed(at)
        assert beat.due_at == pytest.approx(5.0 + GATHER)
    beat.published(5.006, live=3)
    assert beat.due_at > 20


def test_changes_without_end_are_published_ten_times_a_second() -> None:
    beat, publications = Beat(30, random.Random(1)), 0
    beat.published(0.0, live=3)
    for step in range(10_000):
        at = 1 + step / 1000
        beat.changed(at)
        if beat.due_at <= at:
            beat.published(at, live=3)
            publications += 1
    assert 9 / PAUSE < publications <= 10 / PAUSE + 1


# -- exchanges -----------------------------------------------------------------------------------------------------------


def anti_entropy(interval: float = 3.0) -> AntiEntropy:
    return AntiEntropy(interval, random.Random(1))


def test_only_what_differs_in_two_successive_beats_of_one_peer_is_asked_for() -> None:
    """DESIGN §5: news on its way is no difference."""
    pace = anti_entropy()
    pace.heard("a", digest(1, 2), SAME)
    pace.heard("b", digest(3), SAME)
    assert pace.next(0.0, {"a", "b"}) is None
    pace.heard("b", digest(4), SAME)
    assert not pace.wanted
    pace.heard("a", digest(2, 3), SAME)
    assert pace.wanted == ("a",)
    assert pace.next(0.0, {"a", "b"}) == Ask("a", (2,))


def test_a_bucket_that_differs_in_another_way_each_time_is_asked_for_only_after_five_beats() -> None:
    """Where contents change all the time everybody differs from everybody: beats repair that, exchanges would only add load."""
    pace = anti_entropy()
    for mark in range(90, 94):
        pace.heard("a", digest(2, mark=mark), SAME)
        assert not pace.wanted
    pace.heard("a", digest(2, mark=94), SAME)
    assert pace.next(0.0, {"a"}) == Ask("a", (2,))
    for mark in (90, 91):  # it is our side that changes
        pace.heard("b", digest(3), digest(3, mark=mark))
    assert "b" not in pace.wanted


def test_what_one_peer_taught_us_is_not_asked_of_the_others() -> None:
    pace = anti_entropy()
    for _ in range(2):
        for peer in "abc":
            pace.heard(peer, digest(1), SAME)
        pace.heard("d", digest(5), SAME)
    ask = pace.next(0.0, {"a", "b", "c"})
    assert ask is not None
    pace.finished(0.0, answered=True, learned=1, ours=digest(1))
    assert pace.wanted == ("d",)


def test_a_beat_that_agrees_clears_the_suspicion() -> None:
    pace = anti_entropy()
    for theirs in (digest(1), SAME, digest(1)):
        pace.heard("a", theirs, SAME)
        assert pace.wanted == ()


def test_a_peer_that_says_nothing_is_not_asked() -> None:
    pace = anti_entropy()
    for _ in range(3):
        pace.heard("a", (), SAME)
    assert pace.wanted == ()


def test_one_exchange_at_a_time_with_a_pause_after_it() -> None:
    pace = anti_entropy(3.0)
    for peer in "ab":
        for _ in range(2):
            pace.heard(peer, digest(1), SAME)
    first = pace.next(0.0, {"a", "b"})
    assert first is not None
    assert pace.running == first
    assert pace.next(100.0, {"a", "b"}) is None
    pace.finished(100.0, answered=True, learned=5, ours=SAME)
    assert pace.next(102.9, {"a", "b"}) is None
    second = pace.next(106.1, {"a", "b"})
    assert second is not None
    assert second.partner != first.partner
    assert pace.count == 2


def test_partners_are_random_and_only_those_that_can_be_reached() -> None:
    partners = set()
    for seed in range(40):
        pace = AntiEntropy(3.0, random.Random(seed))
        for peer in "abcd":
            for _ in range(2):
                pace.heard(peer, digest(1), SAME)
        ask = pace.next(0.0, {"a", "b", "c"})
        assert ask is not None
        partners.add(ask.partner)
    assert partners == {"a", "b", "c"}


def test_an_exchange_that_taught_nothing_is_not_repeated_until_something_changes() -> None:
    """A peer that knows less, or has another policy, differs for ever: that must not cost an exchange every minute."""
    pace, at = anti_entropy(), 0.0

    def asked(theirs: tuple[bytes, ...], ours: tuple[bytes, ...] = SAME) -> bool:
        nonlocal at
        for _ in range(2):
            at += 30
            pace.heard("a", theirs, ours)
        ask = pace.next(at, {"a"})
        if ask is not None:
            pace.finished(at, answered=True, learned=0, ours=ours)
        return ask is not None

    assert [asked(digest(1)) for _ in range(5)] == [True, False, False, False, False]
    assert asked(digest(1, mark=98))  # they changed
    assert not asked(digest(1, mark=98))
    assert asked(digest(1, mark=98), digest(2))  # we changed, in another bucket
    pace.forget("a")
    assert asked(digest(1, mark=98))


def test_a_partner_that_did_not_answer_is_asked_again() -> None:
    pace = anti_entropy()
    for round_ in range(3):
        for _ in range(2):
            pace.heard("a", digest(1), SAME)
        assert pace.next(round_ * 30.0, {"a"}) == Ask("a", (1,))
        pace.finished(round_ * 30.0, answered=False, learned=0, ours=SAME)


def test_finishing_what_was_not_begun_is_harmless() -> None:
    pace = anti_entropy()
    pace.finished(0.0, answered=True, learned=0, ours=SAME)
    assert pace.running is None

"""Pages lose nothing at their borders, whatever the relay's cap and however many events share a second."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import cycle
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation.frames import Frame, parse
from dragon.constellation.paging import LOWEST_CAP, Pages
from dragon.constellation.wanted import Wanted
from tests.unit.constellation.relays import Signed, matches

AUTHORS = tuple(f"{number:064x}" for number in range(4))
KINDS = (1, 7, 30023)


def event(number: int, at: int, author: int = 0, kind: int = 1) -> Signed:
    return {"id": f"{number:064x}", "created_at": at, "pubkey": AUTHORS[author], "kind": kind}


def frame(document: Signed) -> Frame:
    return parse(json.dumps(["EVENT", "d", document]))


class Relay:
    """Gives the newest `cap` at most, whatever is asked."""

    def __init__(self, events: Iterable[Signed], cap: int) -> None:
        self.events = sorted(events, key=lambda event: (-event["created_at"], event["id"]))
        self.cap = cap
        self.asked: list[dict[str, Any]] = []

    def ask(self, question: dict[str, Any]) -> list[Frame]:
        self.asked.append(question)
        found = [frame(event) for event in self.events if matches(event, question)]
        return found[: min(self.cap, question["limit"])]


def read(pages: Pages, relay: Relay, sizes: Iterable[int] = (500,)) -> list[str]:
    """Read all of it, in pages of `sizes` in turn."""
    found, turn = list[str](), cycle(sizes)
    while not pages.done:
        assert len(relay.asked) < 2000, "it does not end"
        found += [event.id for event in pages.answer(relay.ask(pages.question(next(turn))))]
    return found


everything = Wanted(KINDS, 0, 1000, AUTHORS)

histories = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3), st.sampled_from(KINDS)), max_size=250)


@given(histories, st.integers(LOWEST_CAP, 60), st.lists(st.integers(LOWEST_CAP, 500), min_size=1, max_size=5))
def test_everything_comes_or_the_lack_is_known(history: list[tuple[int, int, int]], cap: int, sizes: list[int]) -> None:
    events = [event(number, at, author, kind) for number, (at, author, kind) in enumerate(history)]
    pages = Pages(everything, 500)
    found = set(read(pages, Relay(events, cap), sizes))
    missing = [each for each in events if each["id"] not in found]
    if not pages.overfull:
        assert missing == []
    for each in missing:  # only where one author has a page of one kind in one second
        assert sum((other["created_at"], other["pubkey"], other["kind"]) ==
                   (each["created_at"], each["pubkey"], each["kind"]) for other in events) >= cap  # fmt: skip


@given(st.lists(st.integers(0, 900), unique=True, max_size=200), st.integers(LOWEST_CAP, 60))
def test_distinct_times_come_once_each(times: list[int], cap: int) -> None:
    found = read(Pages(everything, 500), Relay([event(at, at) for at in times], cap))
    assert sorted(found) == sorted(f"{at:064x}" for at in times)


def test_equal_times_across_a_border() -> None:
    events = [event(number, 500 - number // 30) for number in range(300)]
    pages = Pages(everything, 40)
    assert sorted(read(pages, Relay(events, 40))) == sorted(each["id"] for each in events)
    assert pages.overfull == 0


def test_a_second_with_more_than_a_page_is_read_in_parts() -> None:
    events = [event(number, 500, number % 4, KINDS[number % 3]) for number in range(200)] + [event(999, 100)]
    pages = Pages(everything, 50)
    assert set(read(pages, Relay(events, 50))) == {each["id"] for each in events}
    assert pages.overfull == 0


def test_what_cannot_be_had_is_told_and_the_rest_comes() -> None:
    pages = Pages(everything, 50)
    events = [event(number, 500) for number in range(200)] + [event(999, 100)]
    found = set(read(pages, Relay(events, 50)))
    assert len(found) == 51
    assert pages.overfull == 1


def test_what_was_covered_before_is_not_read_again() -> None:
    events = [event(number, number) for number in range(1000)]
    relay = Relay(events, 100)
    found = read(Pages(everything, 100, covered=(200, 800)), relay)
    assert {f"{number:064x}" for number in [*range(801, 1000), *range(200)]} <= set(found)
    assert len(found) < 600
    assert len(relay.asked) < 8


def test_a_relay_that_answers_beyond_the_question_does_not_lead_us_astray() -> None:
    pages = Pages(Wanted((1,), 100, 200, AUTHORS), 500)
    first = [frame(event(1, 5000)), frame(event(2, 3)), frame(event(3, 150))]
    assert [each.id for each in pages.answer(first)] == [f"{number:064x}" for number in (1, 2, 3)]
    assert pages.question()["until"] == 150
    assert pages.answer(first) == first[:2]
    assert pages.done

"""What is not worth storing, by NIP-01 and NIP-09, in whatever order it comes."""

from __future__ import annotations

from itertools import permutations

import pytest

from dragon.constellation import sieve as module
from dragon.constellation.event import Event, checked
from dragon.constellation.sieve import Sieve
from tests.unit.constellation.relays import ANNE, BERT, NOW, Author


def event(author: Author, content: str = "", **more: object) -> Event:
    return checked(author.event(content, **more))  # type: ignore[arg-type]


NOTE = event(ANNE, "note")
ARTICLE = event(ANNE, "article", kind=30023, tags=[["d", "slug"]])
PROFILE = event(ANNE, "{}", kind=0)


@pytest.mark.parametrize(
    ("deletion", "target", "verdict"),
    [
        (event(ANNE, kind=5, tags=[["e", NOTE.id]]), NOTE, "deleted"),
        (event(ANNE, kind=5, tags=[["e", "0" * 64], ["e", NOTE.id]]), NOTE, "deleted"),
        (event(BERT, kind=5, tags=[["e", NOTE.id]]), NOTE, ""),
        (event(ANNE, kind=5, tags=[["p", NOTE.id]]), NOTE, ""),
        (event(ANNE, kind=5, tags=[["e"]]), NOTE, ""),
        (event(ANNE, kind=5, at=NOW + 1, tags=[["a", ARTICLE.address]]), ARTICLE, "deleted"),
        (event(ANNE, kind=5, at=NOW - 1, tags=[["a", ARTICLE.address]]), ARTICLE, ""),
        (event(BERT, kind=5, at=NOW + 1, tags=[["a", ARTICLE.address]]), ARTICLE, ""),
        (event(ANNE, kind=5, tags=[["a", "30023"]]), ARTICLE, ""),
        (event(ANNE, kind=5, at=NOW + 1, tags=[["a", f"0:{ANNE.pubkey}:"]]), PROFILE, "deleted"),
    ],
)
def test_deletions(deletion: Event, target: Event, verdict: str) -> None:
    sieve = Sieve()
    sieve.note([target, deletion])
    assert sieve.verdict(target) == verdict
    assert sieve.verdict(deletion) == ""


def test_to_delete_a_deletion_has_no_effect() -> None:
    first = event(ANNE, kind=5, tags=[["e", NOTE.id]])
    sieve = Sieve()
    sieve.note([first, event(ANNE, kind=5, tags=[["e", first.id]])])
    assert sieve.verdict(first) == ""
    assert sieve.verdict(NOTE) == "deleted"


def test_the_newest_counts_and_of_one_second_the_lowest_id() -> None:
    old, *same = (event(ANNE, f"{number}", kind=0, at=NOW + (number > 0)) for number in range(4))
    winner = min(same, key=lambda each: each.id)
    for order in permutations([old, *same]):
        sieve = Sieve()
        sieve.note(order)
        assert {each.id for each in order if not sieve.verdict(each)} == {winner.id}


@pytest.mark.parametrize(
    ("one", "other", "replaces"),
    [
        (event(ANNE, "1", kind=3), event(ANNE, "2", kind=3, at=NOW + 1), True),
        (event(ANNE, "1", kind=10_002), event(ANNE, "2", kind=10_002, at=NOW + 1), True),
        (event(ANNE, "1", kind=0), event(BERT, "2", kind=0, at=NOW + 1), False),
        (event(ANNE, "1", kind=1), event(ANNE, "2", kind=1, at=NOW + 1), False),
        (event(ANNE, "1", kind=30_023, tags=[["d", "a"]]), event(ANNE, "2", kind=30_023, at=NOW + 1, tags=[["d", "a"]]), True),
        (event(ANNE, "1", kind=30_023, tags=[["d", "a"]]), event(ANNE, "2", kind=30_023, at=NOW + 1, tags=[["d", "b"]]), False),
        (event(ANNE, "1", kind=30_023), event(ANNE, "2", kind=30_023, at=NOW + 1, tags=[["d", ""]]), True),
    ],
)
def test_what_replaces_what(one: Event, other: Event, replaces: bool) -> None:
    sieve = Sieve()
    sieve.note([other, one])
    assert sieve.verdict(one) == ("superseded" if replaces else "")
    assert sieve.verdict(other) == ""


def test_it_forgets_the_oldest_and_stays_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "DELETIONS_REMEMBERED", 10)
    notes = [event(ANNE, f"{number}") for number in range(30)]
    sieve = Sieve()
    sieve.note([event(ANNE, kind=5, tags=[["e", note.id]]) for note in notes])
    assert [sieve.verdict(note) for note in notes] == [""] * 20 + ["deleted"] * 10

"""When the silence of a provider that answered before is looked into: by what went through, never by a wish."""

from __future__ import annotations

import socket
from dataclasses import dataclass

import pytest

from dragon.connect.conversation import Conversation
from dragon.connect.finder import Found
from dragon.connect.patience import FIRST, LONGEST
from dragon.connect.reach import Reach
from dragon.connect.routes import LocalRoute
from dragon.probe import CatalogueEntry, Survey


@dataclass
class Counts:
    """A relay as far as it is asked here."""

    sent: int = 0
    received: int = 0
    ended: str | None = None

    def start(self) -> None: ...

    def abort(self, why: str) -> None: ...


@pytest.mark.parametrize(
    ("looks", "tests"),
    [
        ([(0.0, 0, 0), (100.0, 0, 0)], []),
        ([(0.0, 5, 0), (1.0, 5, 0), (1.5, 5, 0), (2.0, 5, 0)], [1.5]),
        ([(0.0, 5, 0), (1.0, 5, 9), (100.0, 5, 9)], []),
        ([(0.0, 5, 9), (1.5, 5, 9)], [1.5]),
        ([(0.0, 5, 0), (1.0, 6, 0), (2.0, 6, 0), (2.5, 6, 0)], [2.5]),
        ([(0.0, 5, 0), (1.5, 5, 0), (4.0, 5, 0), (4.5, 5, 0), (10.0, 5, 0), (10.5, 5, 0)], [1.5, 4.5, 10.5]),
    ],
    ids=["said nothing", "waits", "answered", "perhaps answered", "speaks on", "later and later"],
)
def test_who_waits_since_it_last_spoke(looks: list[tuple[float, int, int]], tests: list[float]) -> None:
    talk, counts = conversation()
    found = []
    for at, counts.sent, counts.received in looks:
        if talk.is_overdue(at):
            found.append(at)
    talk.far.close()
    assert found == tests


def test_who_answered_somebody_meanwhile_is_not_asked() -> None:
    talk, counts = conversation()
    counts.sent = 5
    assert not talk.is_overdue(0.0)
    talk.found.reach.proven_at = 1.0
    assert not talk.is_overdue(FIRST)
    assert talk.is_overdue(FIRST * 3)
    talk.far.close()


def test_the_pauses_end_at_the_longest() -> None:
    talk, counts = conversation()
    counts.sent, at = 5, 0.0
    for _ in range(20):
        talk.is_overdue(at)
        at = talk.due
    assert talk.rest == LONGEST
    talk.far.close()


def conversation() -> tuple[Conversation, Counts]:
    entry, counts = CatalogueEntry(slug="ollama", port=1, label="x"), Counts()
    found = Found("a", "a", "ollama", entry, LocalRoute(Survey), Reach("a", "ollama", "p2p"), "")
    return Conversation(found, socket.socket(), relay=counts), counts

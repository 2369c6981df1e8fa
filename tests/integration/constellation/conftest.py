"""What the sync's tests share: a constellation's people, and one run of the engine against real relays."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dragon.clock import SystemClock
from dragon.constellation.job import Job, Peer
from dragon.constellation.kinds import DEFAULT_KINDS
from dragon.constellation.outcome import Outcome
from dragon.constellation.progress import Progress
from dragon.constellation.relay import Patience
from dragon.constellation.run import synchronise
from tests.testbed.events import Author, Event, authors

HASTY = Patience(connect=5.0, document=3.0, negentropy=1.0, progress=4.0, notice=1.0)
"""For relays that will not answer: four seconds show it as well as thirty, and no honest one is silent for so long here."""

WINDOW = 30 * 86_400


def peer(url: str, alias: str = "peer") -> Peer:
    async def reach() -> str:
        return url

    return Peer(f"id of {alias}", alias, reach)


def job(local: str | None, peers: Sequence[str], people: Sequence[Author], **fields: Any) -> Job:
    """Return a job over the last thirty days."""
    now = int(time.time())
    chosen: dict[str, Any] = {
        "peers": tuple(peer(url, f"peer{number}") for number, url in enumerate(peers)),
        "authors": tuple(person.pubkey for person in people),
        "kinds": DEFAULT_KINDS,
        "since": now - WINDOW,
        "until": now + 60,
        "local": local,
        "timeout": 60.0,
    }
    return Job(**{**chosen, **fields})


async def synced(
    local: str | None,
    *peers: str,
    people: Sequence[Author],
    progress: Callable[[Progress], None] = lambda _: None,
    patience: Patience | None = None,
    **fields: Any,
) -> Outcome:
    """Run the sync once for the relay at `local`."""
    return await synchronise(job(local, peers, people, **fields), SystemClock(), progress, patience)


class People:
    """Five authors with a life: profiles and articles that were replaced, notes that were deleted, follows, an event at every
    hour. `parts(3)` deals the life out to three relays, so that none has all of it; `truth` is what all must hold in the end.
    """

    def __init__(self) -> None:
        self.all = authors("member", 5)
        self.now = int(time.time())
        self.start = self.now - 20 * 86_400
        self.truth: set[str] = set()
        self.replaced: list[Event] = []
        self.deleted: list[Event] = []
        self.last: list[Event] = []
        self._events: list[Event] = []
        for number, person in enumerate(self.all):
            self._live(number, person)

    def _live(self, number: int, person: Author) -> None:
        def at(hour: int) -> int:
            return self.start + hour * 3600 + number

        notes = [person.note(f"note {hour}", created_at=at(hour)) for hour in range(60)]
        profiles = [person.profile(f"name {turn}", created_at=at(100 + turn)) for turn in range(3)]
        follows = [person.follows(self.all[:count], created_at=at(100 + count)) for count in (1, 3, 5)]
        article = [
            person.event(30023, f"draft {turn}", created_at=at(200 + turn), tags=[("d", "about"), ("title", "About")])
            for turn in range(3)
        ]
        other = person.event(30023, "another", created_at=at(210), tags=[("d", "other")])
        reaction = person.event(7, "+", created_at=at(220), tags=[("e", notes[0]["id"]), ("p", person.pubkey)])
        deletions = [
            person.deletion(notes[3], notes[7], created_at=at(300)),
            person.deletion(notes[11], created_at=at(301)),
        ]
        gone = [notes[3], notes[7], notes[11]]
        self.replaced += [*profiles[:2], *follows[:2], *article[:2]]
        self.deleted += gone
        self.last += deletions
        kept = [*notes, profiles[2], follows[2], article[2], other, reaction, *deletions]
        self.truth |= {event["id"] for event in kept} - {event["id"] for event in gone}
        self._events += [*notes, *profiles, *follows, *article, other, reaction]

    def parts(self, count: int) -> list[list[Event]]:
        """Deal out: what is later replaced or deleted lies somewhere else than what replaces or deletes it."""
        dealt: list[list[Event]] = [[] for _ in range(count)]
        for number, event in enumerate(self._events):
            dealt[number % count].append(event)
        for number, event in enumerate(self.last):
            dealt[number % count].append(event)
        return dealt


@pytest.fixture(scope="session")
def people() -> People:
    return People()


@pytest.fixture
def station(tmp_path: Path) -> Path:
    """The folder in which a strfry lies."""
    folder = tmp_path / "strfry"
    folder.mkdir()
    return folder

"""Peers without NIP-77, read in pages: nothing is lost where pages meet, whatever the cap, however equal the times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.integration.constellation.conftest import People, synced
from tests.testbed.events import Event
from tests.testbed.fixtures_relays import HostileFactory, RelayFactory


def crowd(people: People) -> list[Event]:
    """1,300 notes in one second, 600 in the next but one, and some at every border between."""
    second = people.now - 86_400
    return [
        *(people.all[number % 5].note(f"crowd {number}", created_at=second) for number in range(1300)),
        *(people.all[number % 5].note(f"queue {number}", created_at=second + 2) for number in range(600)),
        *(people.all[number % 5].note(f"trickle {number}", created_at=second - number // 3) for number in range(700)),
    ]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return crowd(People())


async def test_a_second_with_more_events_than_a_page(
    relay: RelayFactory, hostile: HostileFactory, people: People, events: list[Event]
) -> None:
    here, there = relay("sdk"), hostile("honest", events)
    outcome = await synced(here.url, there.url, people=people.all)
    assert (outcome.state, outcome.peers[0].method, outcome.peers[0].overfull) == ("ok", "req", 0)
    assert await asyncio.to_thread(here.ids) == {event["id"] for event in events}


REAL: dict[str, Callable[[RelayFactory], object]] = {
    "khatru, 375 a page, until counted in": lambda relay: relay("khatru", negentropy=False),
    "nostr-relay, 500 a page, until left out": lambda relay: relay("plain"),
    "nostr-sdk, 500 a page, NIP-77": lambda relay: relay("sdk"),
}


@pytest.mark.parametrize("make", REAL.values(), ids=REAL.keys())
async def test_real_relays_whose_pages_end_within_a_second(
    relay: RelayFactory, people: People, make: Callable[[RelayFactory], object]
) -> None:
    """Three events in each second, so that every page ends between equals."""
    trickle = [people.all[number % 5].note(f"{number}", created_at=people.now - 9000 + number // 3) for number in range(1700)]
    here, there = relay("sdk"), make(relay)
    await asyncio.to_thread(there.load, trickle)  # type: ignore[attr-defined]
    outcome = await synced(here.url, there.url, people=people.all)  # type: ignore[attr-defined]
    assert outcome.state == "ok", outcome.peers[0].error
    assert len(await asyncio.to_thread(here.ids)) == len(trickle)

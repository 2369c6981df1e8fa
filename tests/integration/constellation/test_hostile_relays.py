"""Relays that lie, stall or refuse for ever (THREATS 26): nothing bad is stored, the run ends, honest peers lose nothing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from tests.integration.constellation.conftest import HASTY, People, synced
from tests.testbed.events import Author, many
from tests.testbed.fixtures_relays import HostileFactory, RelayFactory
from tests.testbed.hostile_relay import MODES

EVENTS = 120

BOUND = 45.0
"""Seconds for a run with a hostile peer whose patience is four seconds: connections and pauses are counted, not endless."""


@dataclass(frozen=True, slots=True)
class Expected:
    """How the hostile peer is seen: its state, and the reason of its rejected events."""

    state: str
    reason: str = ""
    harmless: bool = False
    """It also gives genuine events that were asked for; these are stored, whoever brings them."""


TABLE = {
    "honest": Expected("ok", harmless=True),
    "forged-id": Expected("failed", "bad id"),
    "forged-signature": Expected("failed", "bad signature"),
    "altered": Expected("failed", "bad id"),
    "one-bad": Expected("ok", "bad signature", harmless=True),
    "oversize": Expected("ok", "oversize", harmless=True),
    "unrequested": Expected("failed", "unrequested", harmless=True),
    "far-future": Expected("failed", "future"),
    "endless": Expected("failed", harmless=True),
    "endless-new": Expected("failed"),
    "stall": Expected("failed", harmless=True),
    "silent": Expected("failed"),
    "refuse": Expected("failed"),
    "auth": Expected("failed"),
    "garbage": Expected("failed"),
    "neg-garbage": Expected("failed"),
    "neg-lies": Expected("ok"),
    "neg-endless": Expected("failed"),
    "neg-hasty": Expected("ok"),
    "notices": Expected("failed"),
}


def test_every_way_to_misbehave_has_its_row() -> None:
    assert TABLE.keys() == MODES.keys()


@pytest.mark.parametrize("mode", TABLE)
async def test_what_a_hostile_relay_achieves(relay: RelayFactory, hostile: HostileFactory, people: People, mode: str) -> None:
    """It holds genuine events that nobody else has; beside it an honest peer is read to its end."""
    expected = TABLE[mode]
    since, until = people.start, people.now
    theirs = many(EVENTS, people.all, since=since, until=until, first=0)
    good = many(EVENTS, people.all, since=since, until=until, first=1000)
    enemy = hostile(mode, theirs, author=people.all[0])
    here, friend = relay("sdk"), relay("sdk")
    await asyncio.to_thread(friend.publish, good)
    await asyncio.to_thread(here.publish, good[:1])  # else nothing would be compared

    outcome = await synced(here.url, enemy.url, friend.url, people=people.all, patience=HASTY, timeout=BOUND)

    seen, honest = outcome.peers
    assert seen.state == expected.state, (seen.error, seen.document())
    assert outcome.state == ("ok" if expected.state == "ok" else "partial")  # not its time was up
    assert honest.state == "ok", honest.error
    if expected.reason:
        assert seen.rejected[expected.reason] > 0
    held = await asyncio.to_thread(here.ids)
    assert {event["id"] for event in good} <= held
    assert held <= {event["id"] for event in good} | ({event["id"] for event in theirs} if expected.harmless else set()) | (
        held if mode == "endless-new" else set()  # genuine events of a person we keep, however many
    )
    if mode == "one-bad":
        assert len(held) == 2 * EVENTS - 1
    if mode == "honest":
        assert len(held) == 2 * EVENTS
    if mode == "stall":
        assert held > {event["id"] for event in good}  # what came before it stalled is kept


async def test_an_endless_relay_costs_no_more_than_was_asked_for(
    relay: RelayFactory, hostile: HostileFactory, people: People
) -> None:
    enemy, here = hostile("endless-new", author=people.all[0]), relay("sdk")
    outcome = await synced(here.url, enemy.url, people=people.all, patience=HASTY, timeout=BOUND)
    assert outcome.state == "failed"
    assert outcome.peers[0].received < 20_000
    assert len(await asyncio.to_thread(here.ids)) <= outcome.peers[0].received


async def test_ids_that_a_liar_claims_are_had_from_an_honest_peer(
    relay: RelayFactory, hostile: HostileFactory, people: People
) -> None:
    """The liar names, first, what it cannot give; the same events come from who has them."""
    notes = many(64, people.all, since=people.start, until=people.now)
    here, friend, liar = relay("sdk"), relay("sdk"), hostile("neg-lies", [])
    liar.lies = [note["id"] for note in notes]
    await asyncio.to_thread(friend.publish, notes)
    await asyncio.to_thread(here.publish, [people.all[0].note("mine", created_at=people.now - 5)])
    outcome = await synced(here.url, liar.url, friend.url, people=people.all, patience=HASTY, peers_at_once=1, timeout=BOUND)
    assert outcome.peers[1].state == "ok"
    assert {note["id"] for note in notes} <= await asyncio.to_thread(here.ids)


async def test_a_careless_relay_hands_on_what_it_was_given(relay: RelayFactory, people: People) -> None:
    """A real relay that checks nothing: forged events in it stay there, and genuine ones come."""
    good = many(60, people.all, since=people.start, until=people.now)
    forged = [{**event, "sig": "00" * 64} for event in many(3, people.all, since=people.start, until=people.now, first=500)]
    careless, here = relay("plain", gullible=True), relay("khatru")
    await asyncio.to_thread(careless.publish, [*good, *forged])
    outcome = await synced(here.url, careless.url, people=people.all, patience=HASTY)
    assert (outcome.state, outcome.rejected["bad signature"]) == ("ok", 3)
    assert await asyncio.to_thread(here.ids) == {event["id"] for event in good}


async def test_nobody_deletes_what_another_one_wrote(relay: RelayFactory, hostile: HostileFactory, people: People) -> None:
    mine = people.all[0].note("mine", created_at=people.now - 5000)
    foreign = people.all[1].deletion(mine, created_at=people.now - 4000)
    here, there = relay("sdk"), hostile("honest", [mine, foreign])
    await synced(here.url, there.url, people=people.all)
    assert mine["id"] in await asyncio.to_thread(here.ids)


async def test_strangers_events_are_not_even_asked_for(relay: RelayFactory, people: People) -> None:
    here, there = relay("sdk"), relay("sdk")
    await asyncio.to_thread(there.publish, many(20, [Author("stranger")], since=people.start, until=people.now))
    outcome = await synced(here.url, there.url, people=people.all)
    assert (outcome.state, outcome.received, await asyncio.to_thread(here.ids)) == ("ok", 0, set())

"""After runs on every node in turn all relays hold the same: relays of three makes, deletions and replacements."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from tests.integration.constellation.conftest import HASTY, WINDOW, People, synced
from tests.testbed.events import Author, many
from tests.testbed.fixtures_relays import RelayFactory, WiretapFactory
from tests.testbed.relays import Kind
from tests.testbed.strfry_tool import calls, install

TRIPLES: list[tuple[Kind, Kind, Kind]] = [
    ("sdk", "sdk", "sdk"),
    ("khatru", "khatru", "khatru"),
    ("sdk", "khatru", "plain"),
]


@pytest.mark.parametrize("kinds", TRIPLES, ids="-".join)
async def test_relays_that_all_read_one_another_hold_the_same_in_one_round(
    relay: RelayFactory, people: People, kinds: tuple[Kind, Kind, Kind]
) -> None:
    relays = [relay(kind) for kind in kinds]
    for each, part in zip(relays, people.parts(3), strict=True):
        await asyncio.to_thread(each.publish, part)
    for _ in range(2):  # the last one of a round has all; the first needs the second round for what the others had then
        for here in relays:
            others = [each.url for each in relays if each is not here]
            outcome = await synced(here.url, *others, people=people.all, patience=HASTY)
            assert outcome.state == "ok", (outcome.error, [peer.error for peer in outcome.peers])
            assert not outcome.rejected.keys() - {"deleted", "superseded"}
    held = [await asyncio.to_thread(each.ids) for each in relays]
    assert [ids - people.truth for ids in held] == [set(), set(), set()]
    assert [people.truth - ids for ids in held] == [set(), set(), set()]


async def test_a_chain_needs_two_rounds(relay: RelayFactory, people: People) -> None:
    """A–B–C: the ends never meet, and what each of them has comes to the other through the middle."""
    a, b, c = relay("sdk"), relay("khatru"), relay("sdk")
    for each, part in zip((a, b, c), people.parts(3), strict=True):
        await asyncio.to_thread(each.publish, part)
    for _ in range(2):
        for here, neighbours in ((a, (b,)), (b, (a, c)), (c, (b,))):
            assert (await synced(here.url, *(each.url for each in neighbours), people=people.all)).state == "ok"
    for each in (a, b, c):
        assert await asyncio.to_thread(each.ids) == people.truth


async def test_a_second_run_brings_nothing_and_costs_little(relay: RelayFactory, people: People) -> None:
    a, b = relay("khatru"), relay("khatru")
    await asyncio.to_thread(b.publish, people.parts(1)[0])
    first = await synced(a.url, b.url, people=people.all)
    assert first.stored > 0
    assert (first.peers[0].method, first.peers[0].missing) == ("req", None)  # a relay that holds nothing compares nothing
    again = await synced(a.url, b.url, people=people.all)
    assert (again.state, again.stored, again.received) == ("ok", 0, 0)
    assert again.peers[0].method == "nip77"
    assert again.peers[0].bytes_in < first.peers[0].bytes_in / 20


async def test_dry_run_and_verify_store_nothing(relay: RelayFactory, people: People) -> None:
    a, b = relay("sdk"), relay("sdk")
    notes = many(40, people.all, since=people.start, until=people.now)
    await asyncio.to_thread(b.publish, notes[:30])
    await asyncio.to_thread(a.publish, notes[20:])
    dry = await synced(a.url, b.url, people=people.all, dry_run=True)
    assert (dry.state, dry.stored, dry.peers[0].missing, dry.peers[0].lacking) == ("ok", 0, 20, None)
    compared = await synced(a.url, b.url, people=people.all, verify=True)
    assert (compared.state, compared.stored, compared.peers[0].missing, compared.peers[0].lacking) == ("ok", 0, 20, 10)
    assert len(await asyncio.to_thread(a.ids)) == 20


async def test_both_directions_in_one_run(relay: RelayFactory, people: People) -> None:
    a, b = relay("sdk"), relay("khatru")
    notes = many(60, people.all, since=people.start, until=people.now)
    await asyncio.to_thread(a.publish, notes[:40])
    await asyncio.to_thread(b.publish, notes[20:])
    outcome = await synced(a.url, b.url, people=people.all, both=True)
    assert (outcome.stored, outcome.peers[0].sent) == (20, 20)
    assert await asyncio.to_thread(a.ids) == await asyncio.to_thread(b.ids) == {note["id"] for note in notes}


async def test_an_event_crosses_the_wire_once_however_many_peers_have_it(
    relay: RelayFactory, wiretap: WiretapFactory, people: People
) -> None:
    notes = many(2000, people.all, since=people.start, until=people.now)
    here, peers = relay("sdk"), [relay("sdk"), relay("sdk"), relay("sdk")]
    for each in peers:
        await asyncio.to_thread(each.publish, notes)
    await asyncio.to_thread(here.publish, notes[:10])
    taps = [wiretap(each.port) for each in peers]
    outcome = await synced(here.url, *(tap.url for tap in taps), people=people.all)
    assert (outcome.state, outcome.stored) == ("ok", 1990)
    served = sum((tap.served for tap in taps), taps[0].served.__class__())
    assert set(served.values()) == {1}
    assert len(served) == 1990
    assert all(not tap.published for tap in taps)


async def test_old_profiles_come_from_whoever_has_them(relay: RelayFactory) -> None:
    """A profile is older than the window, and only the peer without NIP-77 has it."""
    known, unknown = Author("known"), Author("unknown")
    profile = known.profile("known", created_at=int(time.time()) - 3 * WINDOW)
    here, modern, old = relay("sdk"), relay("sdk"), relay("plain")
    await asyncio.to_thread(old.publish, [profile])
    outcome = await synced(here.url, modern.url, old.url, people=[known, unknown], patience=HASTY)
    assert (outcome.state, outcome.profiles_found, outcome.profiles_missing) == ("ok", 1, 1)
    assert await asyncio.to_thread(here.ids) == {profile["id"]}


async def test_on_a_station_events_go_through_the_import_and_never_through_the_websocket(
    relay: RelayFactory, wiretap: WiretapFactory, people: People, station: Path
) -> None:
    here, there = relay("khatru"), relay("sdk")
    await asyncio.to_thread(there.publish, people.parts(1)[0])
    own, tool = wiretap(here.port), install(station, here)
    outcome = await synced(own.url, there.url, people=people.all, tool=tool)
    assert (outcome.state, outcome.stored) == ("ok", len(people.truth))
    assert await asyncio.to_thread(here.ids) == people.truth
    assert not own.published
    assert {tuple(call["words"]) for call in calls(tool)} == {("import", "--no-verify")}

"""Relays killed, restarted or frozen in the middle of a run, and ways that break: what came is kept, the rest comes later."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

from tests.integration.constellation.conftest import HASTY, People, synced
from tests.testbed.events import many
from tests.testbed.fixtures_relays import RelayFactory, WiretapFactory
from tests.testbed.relays import Kind, Relay

EVENTS = 4900
"""Enough that a run is still going when the first thousand have come; more would be signed in other processes."""

SOON = 1000

BOUND = 60.0


class Once:
    """A progress callback that does something, in a thread, when `SOON` events have come."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act, self.thread = act, threading.Thread(target=act, daemon=True)
        self.started = False

    def __call__(self, progress: object) -> None:
        if not self.started and getattr(progress, "received", 0) >= SOON:
            self.started = True
            self.thread.start()


async def loaded(relay: RelayFactory, people: People, kind: Kind) -> tuple[Relay, set[str]]:
    there = relay(kind)
    notes = many(EVENTS, people.all, since=people.start, until=people.now)
    await asyncio.to_thread(there.load, notes)
    return there, {note["id"] for note in notes}


@pytest.mark.parametrize("kind", ["sdk", "khatru"])
async def test_a_peer_killed_in_the_middle_costs_the_rest_only(relay: RelayFactory, people: People, kind: Kind) -> None:
    (there, ids), here = await loaded(relay, people, kind), relay("sdk")
    await asyncio.to_thread(here.publish, [people.all[0].note("mine", created_at=people.now)])
    killing = Once(there.kill)
    outcome = await synced(here.url, there.url, people=people.all, progress=killing, patience=HASTY, timeout=BOUND)
    assert killing.started
    assert (outcome.state, outcome.peers[0].state) == ("failed", "failed")
    assert outcome.peers[0].error
    held = await asyncio.to_thread(here.ids)
    assert len(held & ids) == outcome.stored > 0

    await asyncio.to_thread(there.start)
    again = await synced(here.url, there.url, people=people.all, timeout=BOUND)
    assert (again.state, again.stored) == ("ok", len(ids) - outcome.stored)
    assert ids <= await asyncio.to_thread(here.ids)


async def test_a_peer_killed_and_restarted_meanwhile_is_read_on_in_the_same_run(relay: RelayFactory, people: People) -> None:
    (there, ids), here = await loaded(relay, people, "khatru"), relay("sdk")

    def restart() -> None:
        there.kill()
        there.start()

    restarting = Once(restart)
    outcome = await synced(here.url, there.url, people=people.all, progress=restarting, patience=HASTY, timeout=BOUND)
    assert restarting.started
    assert outcome.state == "ok", outcome.peers[0].error
    assert await asyncio.to_thread(here.ids) == ids
    assert outcome.peers[0].received < 1.5 * len(ids)  # it went on where it was, not from the beginning


async def test_a_way_that_breaks_is_taken_again(relay: RelayFactory, wiretap: WiretapFactory, people: People) -> None:
    (there, ids), here = await loaded(relay, people, "sdk"), relay("sdk")
    await asyncio.to_thread(here.publish, [people.all[0].note("mine", created_at=people.now)])
    tap = wiretap(there.port)
    cutting = Once(tap.cut)
    outcome = await synced(here.url, tap.url, people=people.all, progress=cutting, patience=HASTY, timeout=BOUND)
    assert cutting.started
    assert outcome.state == "ok", outcome.peers[0].error
    assert ids <= await asyncio.to_thread(here.ids)
    assert max(tap.served.values()) <= 2


async def test_our_own_relay_killed_ends_the_run_in_order(relay: RelayFactory, people: People) -> None:
    (there, ids), here = await loaded(relay, people, "khatru"), relay("sdk")
    killing = Once(here.kill)
    outcome = await synced(here.url, there.url, people=people.all, progress=killing, patience=HASTY, timeout=BOUND)
    assert (outcome.state, bool(outcome.error)) == ("failed", True)
    await asyncio.to_thread(here.start)
    assert (await synced(here.url, there.url, people=people.all, timeout=BOUND)).state == "ok"
    assert await asyncio.to_thread(here.ids) == ids


async def test_a_frozen_peer_is_given_up_and_the_others_are_read(relay: RelayFactory, people: People) -> None:
    (there, ids), frozen, here = await loaded(relay, people, "sdk"), relay("sdk"), relay("sdk")
    frozen.freeze()
    outcome = await synced(here.url, frozen.url, there.url, people=people.all, patience=HASTY, timeout=BOUND)
    assert [peer.state for peer in outcome.peers] == ["failed", "ok"]
    assert outcome.state == "partial"
    assert await asyncio.to_thread(here.ids) == ids
    frozen.thaw()


async def test_the_time_is_up(relay: RelayFactory, people: People) -> None:
    """A peer that is slow for ever: the run ends at its time, what came is kept, the next run goes on."""
    (there, ids), here = await loaded(relay, people, "sdk"), relay("sdk")
    freezing = Once(there.freeze)
    outcome = await synced(here.url, there.url, people=people.all, progress=freezing, timeout=8.0)
    assert outcome.state == "timeout"
    assert outcome.peers[0].state == "cut"
    assert len(await asyncio.to_thread(here.ids)) == outcome.stored > 0
    there.thaw()
    assert (await synced(here.url, there.url, people=people.all, timeout=BOUND)).state == "ok"
    assert await asyncio.to_thread(here.ids) == ids

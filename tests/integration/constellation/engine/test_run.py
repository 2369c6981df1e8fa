"""Whole runs against real relays: what we lacked is here afterwards, whoever has it, and the outcome says what happened."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragon.clock import SystemClock
from dragon.constellation import comparing
from dragon.constellation.job import Peer
from dragon.constellation.progress import Progress
from dragon.constellation.run import synchronise
from dragon.errors import NoProvider
from tests.unit.constellation.relays import (
    ANNE,
    BERT,
    HURRY,
    NOW,
    Author,
    Bad,
    Clock,
    bad_relay,
    held,
    ids,
    job,
    local_relay,
    proxy,
    serving,
)

NOTES = [author.event(f"note {number}", at=NOW - 50 * number) for number in range(300) for author in (ANNE, BERT)]


async def test_what_we_lack_is_fetched_by_nip77() -> None:
    async with local_relay(NOTES[:550]) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local), SystemClock())
        assert await held(local) == ids(NOTES)
    (one,) = outcome.peers
    assert (outcome.state, one.state, one.method) == ("ok", "ok", "nip77")
    assert (one.missing, one.received, one.new, outcome.stored, one.duplicate) == (50, 50, 50, 50, 0)
    assert outcome.by_kind == {1: 50}
    assert one.bytes_in < 100_000


async def test_nothing_new_is_a_success() -> None:
    """The originals took it for a failure and asked ten times (D24)."""
    async with local_relay(NOTES[:100]) as local, local_relay(NOTES[:100]) as peer:
        outcome = await synchronise(job(peer, local=local), Clock())
    assert (outcome.state, outcome.peers[0].state, outcome.received) == ("ok", "ok", 0)


async def test_a_dead_relay_is_a_failure_after_two_tries() -> None:
    """The originals took it for a success, after nine (D24)."""
    clock = Clock()
    async with local_relay(NOTES[:10]) as local:
        outcome = await synchronise(job("ws://127.0.0.1:1", local=local), clock)
    assert (outcome.state, outcome.peers[0].state) == ("failed", "failed")
    assert "cannot be reached" in outcome.peers[0].error
    assert len(clock.slept) == 1


async def test_an_empty_relay_is_filled_in_pages() -> None:
    async with local_relay() as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local), SystemClock())
        assert await held(local) == ids(NOTES)
    assert (outcome.state, outcome.peers[0].method, outcome.stored) == ("ok", "req", len(NOTES))


async def test_a_peer_without_nip77_is_read_in_pages() -> None:
    async with local_relay(NOTES[:300]) as local, bad_relay(serving(NOTES, cap=70)) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
        assert await held(local) == ids(NOTES)
    (one,) = outcome.peers
    assert (one.state, one.method, one.new, one.duplicate) == ("ok", "req", len(NOTES) - 300, 300)


async def test_a_peer_that_is_silent_about_nip77_is_read_in_pages_too() -> None:
    async with local_relay(NOTES[:10]) as local, bad_relay(serving(NOTES[:20]), document={}) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
        assert await held(local) == ids(NOTES[:20])
    assert (outcome.state, outcome.peers[0].method) == ("ok", "req")


@pytest.mark.parametrize(("document", "method"), [({"supported_nips": [1, 77]}, "nip77"), ({}, "req")])
async def test_who_says_that_it_speaks_nip77_may_take_its_time(document: dict[str, Any], method: str) -> None:
    """A large relay on a small machine reads its set for seconds; it shall not be downloaded whole for that."""
    good = serving(NOTES[:20])

    async def slow(bad: Bad, message: list[Any]) -> None:
        if message[0] == "NEG-OPEN":
            await asyncio.sleep(0.6)
            await bad.say("NEG-MSG", message[1], "61")
        await good(bad, message)

    patience = replace(HURRY, negentropy=0.3, progress=10.0)
    async with local_relay(NOTES[:20]) as local, bad_relay(slow, document=document) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=patience)
    assert (outcome.state, outcome.peers[0].method) == ("ok", method)


async def test_each_event_is_asked_for_once() -> None:
    parts = [NOTES[:400], NOTES[100:500], NOTES[200:]]
    async with (
        local_relay(NOTES[::50]) as local,
        local_relay(parts[0]) as one,
        local_relay(parts[1]) as two,
        local_relay(parts[2]) as three,
    ):
        outcome = await synchronise(job(one, two, three, local=local), Clock())
        assert await held(local) == ids(NOTES)
    assert outcome.state == "ok"
    assert outcome.received == outcome.stored == len(NOTES) - len(NOTES[::50])


@pytest.mark.parametrize("at_once", [1, 2])
async def test_what_one_peer_named_and_did_not_give_comes_from_another(at_once: int) -> None:
    async with local_relay(NOTES[:500]) as local, local_relay(NOTES) as good, local_relay(NOTES) as source:
        async with proxy(source, drop="EVENT") as bad:
            outcome = await synchronise(job(bad, good, local=local, peers_at_once=at_once), Clock())
        assert await held(local) == ids(NOTES)
    assert outcome.peers[1].new == 100
    if at_once == 1:
        assert outcome.peers[0].undelivered == 100


async def test_both_directions() -> None:
    async with local_relay(NOTES[:400]) as local, local_relay(NOTES[300:]) as peer:
        outcome = await synchronise(job(peer, local=local, both=True), Clock())
        assert await held(local) == await held(peer) == ids(NOTES)
    (one,) = outcome.peers
    assert (one.missing, one.lacking, one.new, one.sent) == (200, 300, 200, 300)


async def test_an_event_over_which_the_connection_breaks_costs_only_itself() -> None:
    """Longer than any message that we read, or more than its relay can bear to send."""
    poison = ANNE.event("poison", at=NOW - 5000)
    async with local_relay(NOTES[:300]) as local, local_relay([*NOTES, poison]) as source:
        async with proxy(source, hang_up_at="poison") as peer:
            outcome = await synchronise(job(peer, local=local), Clock())
        assert await held(local) == ids(NOTES)
    assert (outcome.state, outcome.peers[0].state, outcome.peers[0].undelivered) == ("ok", "ok", 1)


@pytest.mark.parametrize(("mode", "lacking"), [("verify", 300), ("dry_run", None)])
async def test_only_looking_changes_nothing(mode: str, lacking: int | None) -> None:
    async with local_relay(NOTES[:400]) as local, local_relay(NOTES[300:]) as peer:
        outcome = await synchronise(job(peer, local=local, **{mode: True}), Clock())
        assert await held(local) == ids(NOTES[:400])
    (one,) = outcome.peers
    assert (outcome.state, one.missing, one.lacking, one.received) == ("ok", 200, lacking, 0)


async def test_verify_of_a_peer_without_nip77() -> None:
    async with local_relay(NOTES[:400]) as local, bad_relay(serving(NOTES)) as peer:
        outcome = await synchronise(job(peer, local=local, verify=True), Clock(), patience=HURRY)
        assert await held(local) == ids(NOTES[:400])
    assert outcome.peers[0].missing == len(NOTES) - 400


async def test_what_was_deleted_here_does_not_come_back() -> None:
    note, other = ANNE.event("regretted"), ANNE.event("kept")
    deletion = ANNE.event(kind=5, tags=[["e", note["id"]]], at=NOW + 1)
    async with local_relay([note, deletion, BERT.event("x")]) as local, local_relay([note, other]) as peer:
        outcome = await synchronise(job(peer, local=local), Clock())
        assert note["id"] not in await held(local)
        assert other["id"] in await held(local)
    assert outcome.peers[0].rejected == {"deleted": 1}
    assert outcome.deletions == 1


async def test_a_deletion_takes_nothing_else_with_it() -> None:
    """Two deletions in one answer made the originals lose the whole batch (D25)."""
    gone = [ANNE.event(f"gone {number}") for number in range(3)]
    deletions = [ANNE.event(kind=5, tags=[["e", event["id"]]], at=NOW + 1) for event in gone]
    async with local_relay([BERT.event("x")]) as local, bad_relay(serving(NOTES[:50] + gone + deletions)) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
        assert await held(local) >= ids(NOTES[:50]) | ids(deletions)
        assert not await held(local) & ids(gone)
    assert outcome.peers[0].rejected == {"deleted": 3}


async def test_keys_of_any_digits_are_synced() -> None:
    """Public keys that begin with eight decimal digits, or hold a year, were thrown away (D23)."""
    odd = next(
        author for number in range(1, 500) if (author := Author(number)).pubkey[:8].isdecimal() or "2024" in author.pubkey
    )
    note = odd.event("here I am")
    async with local_relay() as local, local_relay([note]) as peer:
        await synchronise(job(peer, local=local, authors=(odd.pubkey,)), Clock())
        assert await held(local, authors=[odd]) == {note["id"]}


async def test_profiles_come_however_old_they_are_from_all_peers() -> None:
    old = [ANNE.event("{}", kind=0, at=NOW - 10**7), BERT.event("{}", kind=0, at=NOW - 10**8)]
    async with local_relay(NOTES[:1]) as local, local_relay(old[:1]) as one, local_relay(old[1:]) as two:
        outcome = await synchronise(job(one, two, local=local, profiles=True), Clock())
        assert await held(local) == ids(old + NOTES[:1])
    assert (outcome.profiles_found, outcome.profiles_missing) == (2, 1)


async def test_when_time_is_up_what_came_is_kept() -> None:
    clock = Clock()
    good = serving(NOTES, cap=50)
    pages = 0

    async def stalling(bad: Bad, message: list[Any]) -> None:
        nonlocal pages
        if message[0] == "REQ":
            pages += 1
            if pages > 5:
                clock.stopped.set()
                return
        await good(bad, message)

    async with local_relay(NOTES[:1]) as local, bad_relay(stalling) as peer:
        outcome = await synchronise(job(peer, local=local), clock)
        assert outcome.stored > 100
        assert len(await held(local)) == outcome.stored + 1
    assert (outcome.state, outcome.peers[0].state) == ("timeout", "cut")


async def test_to_be_cancelled_is_to_stop_in_order() -> None:
    started = asyncio.Event()

    async def stalling(bad: Bad, message: list[Any]) -> None:
        started.set()

    async with local_relay(NOTES[:1]) as local, bad_relay(stalling) as peer:
        task = asyncio.create_task(synchronise(job(peer, local=local), Clock()))
        await started.wait()
        task.cancel()
        outcome = await task
    assert (outcome.state, outcome.peers[0].state) == ("cancelled", "cut")


async def test_to_be_cancelled_while_the_last_events_are_stored_loses_none_of_them() -> None:
    """They were received, and the marks say so: whoever drops them would not ask for them again."""
    offered, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(bad: Bad, message: list[Any]) -> None:
        if message[0] == "EVENT":
            offered.set()
            await may_answer.wait()
            await bad.say("OK", message[1]["id"], True, "")
        elif message[0] == "REQ":
            await bad.say("EOSE", message[1])

    patience = replace(HURRY, progress=30.0, stop=30.0)
    async with bad_relay(slow) as local, bad_relay(serving(NOTES[:20])) as peer:
        task = asyncio.create_task(synchronise(job(peer, local=local), Clock(), patience=patience))
        await offered.wait()
        task.cancel()
        await asyncio.sleep(0)
        may_answer.set()
        outcome = await task
    assert (outcome.state, outcome.received, outcome.stored) == ("cancelled", 20, 20)


async def test_a_peer_that_cannot_be_opened_fails_alone() -> None:
    async def nowhere() -> str:
        raise NoProvider("nobody offers strfry there", "try again")

    async with local_relay(NOTES[:1]) as local, local_relay(NOTES[:9]) as good:
        both = replace(job(good, local=local), peers=(*job(good).peers, Peer("x", "x", nowhere)))
        outcome = await synchronise(both, Clock())
        assert await held(local) == ids(NOTES[:9])
    assert outcome.state == "partial"
    assert outcome.peers[1].error == "nobody offers strfry there"


async def test_our_own_relay_being_dead_is_said() -> None:
    async with local_relay(NOTES[:1]) as peer:
        outcome = await synchronise(job(peer, local="ws://127.0.0.1:1"), Clock())
    assert outcome.state == "failed"
    assert "our own relay cannot be reached" in outcome.error


async def test_without_peers_or_authors_there_is_nothing_to_do() -> None:
    assert (await synchronise(job(local="ws://127.0.0.1:1"), Clock())).state == "nothing"
    assert (await synchronise(job("ws://127.0.0.1:1", local="ws://127.0.0.1:1", authors=()), Clock())).state == "nothing"


async def test_a_chain_needs_two_rounds() -> None:
    async with local_relay(NOTES[:200]) as a, local_relay(NOTES[200:400]) as b, local_relay(NOTES[400:]) as c:
        for _ in range(2):
            await synchronise(job(b, local=a), Clock())
            await synchronise(job(a, c, local=b), Clock())
            await synchronise(job(b, local=c), Clock())
        assert await held(a) == await held(b) == await held(c) == ids(NOTES)


async def test_progress_is_told() -> None:
    told: list[Progress] = []
    async with local_relay(NOTES[:500]) as local, local_relay(NOTES) as peer:
        await synchronise(job(peer, local=local), Clock(), told.append)
    assert told[-1].phase == "done"
    assert (told[-1].wanted, told[-1].received, told[-1].stored) == (100, 100, 100)


@pytest.mark.parametrize(("drop", "kept"), [(True, 1), (False, 2)])
async def test_greetings_to_visitors_are_left_out_where_asked(drop: bool, kept: int) -> None:
    greeting = ANNE.event("Hello NOSTR visitor. Welcome!")
    talk = ANNE.event("a note about it", tags=[["subject", "Hello NOSTR visitor."]])
    async with local_relay() as local, local_relay([greeting, talk]) as peer:
        outcome = await synchronise(job(peer, local=local, drop_visitors=drop), Clock())
        assert len(await held(local)) == kept
    assert outcome.rejected.get("visitor", 0) == 2 - kept


async def test_a_tool_stores_and_the_relay_is_only_asked(tmp_path: Path) -> None:
    """On a station events go through `strfry import`, past the write policy of the relay's WebSocket."""
    tool = tmp_path / "strfry"
    said = "Processed $lines lines. $lines added, 0 rejected, 0 dups"
    tool.write_text(f'#!/bin/sh\nlines=$(tee -a held | wc -l)\necho "{said}" >&2\n')
    tool.chmod(0o755)
    async with local_relay(NOTES[:590]) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local, tool=tool), Clock())
        assert await held(local) == ids(NOTES[:590])
    assert (outcome.stored, outcome.peers[0].received) == (10, 10)
    assert {json.loads(line)["id"] for line in (tmp_path / "held").read_text().splitlines()} == ids(NOTES[590:])


async def test_a_batch_of_authors_is_asked_for_in_parts() -> None:
    """More authors than one filter holds."""
    many = tuple(sorted([*(Author(number).pubkey for number in range(1000, 1900)), ANNE.pubkey, BERT.pubkey]))
    async with local_relay(NOTES[:590]) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local, authors=many), Clock())
        assert await held(local) == ids(NOTES)
    assert outcome.received == 10


async def test_a_window_with_too_many_differences_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "MAX_PENDING", 40)
    async with local_relay(NOTES[::2]) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local), Clock())
        assert await held(local) == ids(NOTES)
    assert (outcome.state, outcome.received, outcome.duplicate) == ("ok", 300, 0)
    assert outcome.peers[0].round_trips > 6


async def test_the_outcome_is_a_document() -> None:
    async with local_relay(NOTES[:590]) as local, local_relay(NOTES) as peer:
        outcome = await synchronise(job(peer, local=local), Clock())
    document = json.loads(json.dumps(outcome.document()))
    assert (document["state"], document["stored"], document["peers_ok"], document["by_kind"]) == ("ok", 10, 1, {"1": 10})
    (one,) = document["peers"]
    assert (one["id"], one["state"], one["new"], one["missing"]) == ("peer-0", "ok", 10, 10)

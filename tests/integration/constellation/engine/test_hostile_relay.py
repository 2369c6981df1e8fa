"""A relay that lies, floods, stalls or refuses for ever costs itself its place and nothing else (threat model, row 26)."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from dragon.constellation.asking import EXCESS
from dragon.constellation.event import MAX_EVENT_SIZE
from dragon.constellation.intake import TOLERATED_BAD
from dragon.constellation.relay import Patience
from dragon.constellation.run import synchronise
from tests.unit.constellation.relays import (
    ANNE,
    BERT,
    HURRY,
    NOW,
    Author,
    Bad,
    Behaviour,
    Clock,
    Signed,
    bad_relay,
    held,
    ids,
    job,
    local_relay,
    serving,
)

GOOD = [ANNE.event(f"good {number}", at=NOW - number) for number in range(200)]
STRANGER = Author(999)


def forged(number: int = 0) -> Signed:
    return {**BERT.event(f"forged {number}", at=NOW - number), "sig": GOOD[0]["sig"]}


def renamed(number: int = 0) -> Signed:
    return {**BERT.event(f"renamed {number}", at=NOW - number), "id": f"{number:064x}"}


BAD: list[tuple[Signed | Any, str]] = [
    (forged(), "bad signature"),
    (renamed(), "bad id"),
    ({**BERT.event("changed"), "content": "changed afterwards"}, "bad id"),
    ({**BERT.event("whose"), "pubkey": ANNE.pubkey}, "bad id"),
    ({**BERT.event("x"), "tags": [["e", 5]]}, "malformed"),
    ({**BERT.event("x"), "created_at": float(NOW)}, "malformed"),
    ({**BERT.event("x"), "kind": True}, "malformed"),
    ({**BERT.event("x"), "pubkey": "f" * 64}, "bad id"),
    ({"id": "0" * 64}, "malformed"),
    (STRANGER.event("who is that"), "unrequested"),
    (BERT.event("another kind", kind=4), "unrequested"),
    (BERT.event("too old", at=NOW - 10**6), "unrequested"),
    (BERT.event("beyond the window", at=NOW + 500), "unrequested"),
    (BERT.event("tomorrow", at=NOW + 86_400), "future"),
    (BERT.event("x" * MAX_EVENT_SIZE), "oversize"),
    (BERT.event("x" * 10 * MAX_EVENT_SIZE), "oversize"),
]


def slipping_in(events: list[Any]) -> Behaviour:
    """Behave well, but add these to the first answer to every filter of kinds."""
    good = serving(GOOD)

    async def behave(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ" and 1 in message[2]["kinds"] and message[2]["until"] == NOW + 10:
            await bad.give(message[1], events)
        await good(bad, message)

    return behave


@pytest.mark.parametrize(("event", "reason"), BAD, ids=[f"{number}-{reason}" for number, (_, reason) in enumerate(BAD)])
async def test_one_bad_event_is_counted_and_condemns_nobody(event: Any, reason: str) -> None:
    async with local_relay() as local, bad_relay(slipping_in([event])) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
        assert await held(local) == ids(GOOD)
        assert await held(local, authors=[STRANGER]) == set()
    assert outcome.peers[0].rejected == {reason: 1}
    assert (outcome.state, outcome.peers[0].state, outcome.stored) == ("ok", "ok", len(GOOD))


@pytest.mark.parametrize("make", [forged, renamed])
async def test_many_bad_events_end_it(make: Any) -> None:
    bad_events = [make(number) for number in range(TOLERATED_BAD + 1)]
    async with local_relay() as local, bad_relay(slipping_in(bad_events)) as peer, bad_relay(serving(GOOD)) as honest:
        clock = Clock()
        outcome = await synchronise(job(peer, honest, local=local), clock, patience=HURRY)
        assert await held(local) == ids(GOOD)
    assert outcome.peers[0].state == "failed"
    assert "bad events" in outcome.peers[0].error
    assert (outcome.state, outcome.peers[1].state) == ("partial", "ok")
    assert clock.slept == []  # it is not tried again


async def test_a_small_share_of_bad_events_is_borne() -> None:
    many = [ANNE.event(f"{number}", at=NOW - number) for number in range(450)]
    few = [forged(number) for number in range(TOLERATED_BAD + 1)]

    async def behave(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ":
            if message[2]["kinds"] != [5]:
                await bad.give(message[1], many + few)
            await bad.say("EOSE", message[1])

    async with local_relay() as local, bad_relay(behave) as peer:
        outcome = await synchronise(job(peer, local=local), Clock(), patience=HURRY)
        assert await held(local) == ids(many)
    assert outcome.peers[0].state == "ok"


async def stalls(bad: Bad, message: list[Any]) -> None:
    """Says nothing."""


async def stalls_halfway(bad: Bad, message: list[Any]) -> None:
    if message[0] == "REQ":
        await bad.give(message[1], GOOD[:3])


async def chatters(bad: Bad, message: list[Any]) -> None:
    """Talks much without answering; fewer words than are a flood."""
    for _ in range(EXCESS):
        await bad.say("NOTICE", "please hold the line")


async def challenges(bad: Bad, message: list[Any]) -> None:
    await bad.say("AUTH", "who are you")
    await bad.say("CLOSED", message[1], "auth-required: we only serve friends")


async def refuses(bad: Bad, message: list[Any]) -> None:
    await bad.say("CLOSED", message[1], "error: not today")


async def floods(bad: Bad, message: list[Any]) -> None:
    """Answers another question than ours, for ever."""
    text = json.dumps(["EVENT", "other", GOOD[0]])
    for _ in range(5000):
        await bad.socket.send_str(text)


async def hangs_up(bad: Bad, message: list[Any]) -> None:
    await bad.socket.close()


async def shouts(bad: Bad, message: list[Any]) -> None:
    await bad.socket.send_str('["NOTICE","' + "x" * 5_000_000 + '"]')


async def mumbles(bad: Bad, message: list[Any]) -> None:
    for noise in ("", "[]", "{}", "[[[[", '["EVENT"]', '["EVENT","d1"]', '["EVENT",{"d1":1}]', "null", "[" * 50_000):
        await bad.socket.send_str(noise)
    await bad.socket.send_bytes(b"\0")


@pytest.mark.parametrize(
    ("behave", "error"),
    [
        (stalls, "stalls"),
        (stalls_halfway, "stalls"),
        (chatters, "please hold the line"),
        (challenges, "auth-required"),
        (refuses, "not today"),
        (floods, "more than it was asked for"),
        (hangs_up, "closed the connection"),
        (shouts, "closed the connection|connection lost"),
        (mumbles, "something else than text"),
    ],
)
async def test_who_does_not_answer_is_given_up(behave: Behaviour, error: str) -> None:
    async with local_relay(GOOD[:1]) as local, bad_relay(behave) as peer, bad_relay(serving(GOOD[:20])) as honest:
        clock = Clock()
        outcome = await synchronise(job(peer, honest, local=local), clock, patience=HURRY)
        assert await held(local) == ids(GOOD[:20])
    assert (outcome.state, outcome.peers[0].state, outcome.peers[1].state) == ("partial", "failed", "ok")
    assert re.search(error, outcome.peers[0].error)
    assert len(clock.slept) <= 3


def negentropy(answer: str) -> Behaviour:
    async def behave(bad: Bad, message: list[Any]) -> None:
        if message[0] in ("NEG-OPEN", "NEG-MSG"):
            await bad.say("NEG-MSG", message[1], answer)
        elif message[0] == "REQ":
            await bad.say("EOSE", message[1])

    return behave


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ("zz", "something else than hex"),
        ("", "empty"),
        ("62", "another version"),
        ("61000003", "unknown mode"),
        ("61" + "00000200" * 2, "out of order"),
        ("6187690002ffff", "too early"),
        ("61000001" + "ff" * 16, "without saying anything"),
    ],
)
async def test_nonsense_in_nip77_is_the_peers_failure(answer: str, error: str) -> None:
    async with local_relay(GOOD[:1]) as local, bad_relay(negentropy(answer), document={}) as peer:
        outcome = await synchronise(job(peer, local=local, kinds=(1,)), Clock(), patience=HURRY)
    assert (outcome.state, outcome.peers[0].state) == ("failed", "failed")
    assert error in outcome.peers[0].error


async def test_who_names_what_does_not_exist_is_given_up() -> None:
    """Lists of made-up ids, and never an event."""
    rounds = 0

    async def behave(bad: Bad, message: list[Any]) -> None:
        nonlocal rounds
        if message[0] in ("NEG-OPEN", "NEG-MSG"):
            rounds += 1
            names = "".join(f"{rounds:032x}{number:032x}" for number in range(3000))
            await bad.say("NEG-MSG", message[1], "61" + "0000" + "02" + "9738" + names)
        elif message[0] == "REQ":
            await bad.say("EOSE", message[1])

    async with local_relay(GOOD[:1]) as local, bad_relay(behave, document={}) as peer:
        outcome = await synchronise(job(peer, local=local, kinds=(1,)), Clock(), patience=HURRY)
    assert outcome.peers[0].state == "failed"
    assert "did not give" in outcome.peers[0].error


async def test_who_gives_another_event_than_was_asked_for_by_name() -> None:
    named, given = BERT.event("named"), BERT.event("given")

    async def behave(bad: Bad, message: list[Any]) -> None:
        if message[0] == "NEG-OPEN":
            await bad.say("NEG-MSG", message[1], "61" + "0000" + "02" + "01" + named["id"])
        elif message[0] == "REQ":
            await bad.give(message[1], [given])
            await bad.say("EOSE", message[1])

    async with local_relay(GOOD[:1]) as local, bad_relay(behave, document={}) as peer:
        outcome = await synchronise(job(peer, local=local, kinds=(1,)), Clock(), patience=HURRY)
        assert await held(local) == ids(GOOD[:1])
    assert outcome.peers[0].rejected == {"unrequested": 1}


async def test_a_flood_meets_back_pressure() -> None:
    """While the store is slow, a relay that could send for ever is not read: what is held stays a few pages."""
    given = 0
    enough = asyncio.Event()

    async def behave(bad: Bad, message: list[Any]) -> None:
        nonlocal given
        if message[0] == "REQ":
            page = [ANNE.event(f"{given + number}", at=NOW - given - number, kind=1) for number in range(100)]
            given += len(page)
            await bad.give(message[1], page)
            await bad.say("EOSE", message[1])

    async def swallowing(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ":
            await bad.say("EOSE", message[1])
        enough.set()  # takes events, and never says OK

    async with bad_relay(swallowing) as local, bad_relay(behave) as peer:
        task = asyncio.create_task(synchronise(job(peer, local=local, kinds=(1,)), Clock(), patience=Patience(stop=0.2)))
        await enough.wait()
        seen = -1
        while given != seen:  # until it stands still for a while
            seen = given
            assert seen < 8000
            for _ in range(200):
                await asyncio.sleep(0.005)
        task.cancel()
        await task

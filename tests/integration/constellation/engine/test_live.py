"""Live subscriptions: what a peer's relay hears is in ours, whoever comes, goes, dies or lies meanwhile."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from dragon.clock import SystemClock
from dragon.constellation.job import Job, Peer
from dragon.constellation.live import follow
from dragon.constellation.outcome import Outcome
from tests.unit.constellation.relays import (
    ANNE,
    BERT,
    HURRY,
    Bad,
    Signed,
    bad_relay,
    held,
    job,
    local_relay,
    peer,
    publish,
)


class Following:
    """A `follow` under way, and what it reports."""

    def __init__(self) -> None:
        self.lists: asyncio.Queue[tuple[Peer, ...] | None] = asyncio.Queue()
        self.outcome: Outcome | None = None
        self.changed = asyncio.Event()

    async def peers(self) -> AsyncIterator[tuple[Peer, ...]]:
        while (listed := await self.lists.get()) is not None:
            yield listed

    def report(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.changed.set()

    async def until(self, condition: Callable[[Outcome], bool]) -> None:
        while self.outcome is None or not condition(self.outcome):
            self.changed.clear()
            await self.changed.wait()


@asynccontextmanager
async def following(task: Job, *peers: Peer) -> AsyncIterator[tuple[Following, asyncio.Task[Outcome]]]:
    here = Following()
    here.lists.put_nowait(peers)
    running = asyncio.create_task(follow(task, here.peers(), SystemClock(), here.report, HURRY))
    try:
        yield here, running
    finally:
        running.cancel()
        await running


def now(author: Any, content: str) -> Signed:
    event: Signed = author.event(content, at=SystemClock().now_ms() // 1000)
    return event


async def test_an_event_comes_over_and_stopping_is_in_order() -> None:
    async with local_relay() as local, local_relay() as there:
        async with following(job(local=local), peer(there, "there")) as (here, running):
            await here.until(lambda outcome: bool(outcome.peers) and outcome.peers[0].state == "ok")
            note = now(ANNE, "news")
            await publish(there, [note])
            await here.until(lambda outcome: outcome.stored == 1)
            running.cancel()
            outcome = await running
        assert await held(local) == {note["id"]}
    assert (outcome.state, outcome.stored, outcome.peers[0].new) == ("cancelled", 1, 1)


async def test_peers_come_and_go() -> None:
    async with local_relay() as local, local_relay() as one, local_relay() as two:
        async with following(job(local=local), peer(one, "one")) as (here, _):
            here.lists.put_nowait((peer(two, "two"),))
            await here.until(lambda outcome: any(each.alias == "two" and each.state == "ok" for each in outcome.peers))
            first, second = now(ANNE, "to one"), now(BERT, "to two")
            await publish(one, [first])
            await publish(two, [second])
            await here.until(lambda outcome: outcome.stored == 1)
        assert await held(local) == {second["id"]}


async def test_one_event_of_two_peers_is_stored_once() -> None:
    async with (
        local_relay() as local,
        local_relay() as one,
        local_relay() as two,
        following(job(local=local), peer(one, "one"), peer(two, "two")) as (here, _),
    ):
        await here.until(lambda outcome: [each.state for each in outcome.peers] == ["ok", "ok"])
        note = now(ANNE, "everywhere")
        await publish(one, [note])
        await here.until(lambda outcome: outcome.stored == 1)
        await publish(two, [note])
        await here.until(lambda outcome: sum(each.duplicate for each in outcome.peers) == 1)
        assert here.outcome is not None
        assert here.outcome.stored == 1


async def test_a_lost_peer_is_connected_to_again_and_what_it_heard_meanwhile_comes() -> None:
    connections = 0
    note = now(ANNE, "said while nobody listened")

    async def behave(bad: Bad, message: list[Any]) -> None:
        nonlocal connections
        if message[0] == "REQ":
            connections += 1
            if connections == 1:
                await bad.socket.close()
            elif message[2]["since"] <= note["created_at"]:
                await bad.give(message[1], [note])

    async with local_relay() as local, bad_relay(behave) as there:
        async with following(job(local=local), peer(there, "there")) as (here, _):
            await here.until(lambda outcome: outcome.stored == 1)
        assert await held(local) == {note["id"]}
    assert connections == 2


async def test_a_liar_is_dropped_and_the_others_are_not() -> None:
    async def behave(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ":
            await bad.give(message[1], [{**now(ANNE, f"{number}"), "content": "changed"} for number in range(30)])

    async with local_relay() as local, bad_relay(behave) as liar, local_relay() as honest:
        async with following(job(local=local), peer(liar, "liar"), peer(honest, "honest")) as (here, _):
            await here.until(lambda outcome: any(each.alias == "liar" and each.state == "failed" for each in outcome.peers))
            await here.until(lambda outcome: any(each.alias == "honest" and each.state == "ok" for each in outcome.peers))
            note = now(BERT, "true")
            await publish(honest, [note])
            await here.until(lambda outcome: outcome.stored == 1)
        assert await held(local) == {note["id"]}


async def test_a_dead_store_ends_it_with_a_reason() -> None:
    async with local_relay() as there:
        note = now(ANNE, "lost")
        async with following(job(local="ws://127.0.0.1:1"), peer(there, "there")) as (here, running):
            await here.until(lambda outcome: bool(outcome.peers) and outcome.peers[0].state == "ok")
            await publish(there, [note])
            outcome = await running
    assert outcome.state == "failed"
    assert "the local relay ws://127.0.0.1:1 cannot be reached" in outcome.error


async def test_it_ends_when_the_list_ends() -> None:
    async with local_relay() as local, following(job(local=local)) as (here, running):
        here.lists.put_nowait(None)
        assert (await running).state == "ok"


async def test_many_authors_are_followed_in_messages_that_relays_take() -> None:
    """strfry takes 131,072 bytes and 20 subscriptions unless it says less."""
    people, asked, complete = tuple(f"{number:064x}" for number in range(1, 20_001)), list[list[Any]](), asyncio.Event()

    async def behave(_bad: Bad, message: list[Any]) -> None:
        asked.append(message)
        if message[2]["authors"][-1] == people[-1]:
            complete.set()

    async with (
        bad_relay(behave) as there,
        local_relay() as local,
        following(job(local=local, authors=people), peer(there, "there")),
    ):
        await complete.wait()
    assert [author for message in asked for author in message[2]["authors"]] == list(people)
    assert len(asked) <= 20
    assert max(len(json.dumps(message)) for message in asked) < 131_072


async def test_a_relay_that_allows_too_few_subscriptions_says_so() -> None:
    people = tuple(f"{number:064x}" for number in range(1, 20_001))

    async def behave(_bad: Bad, message: list[Any]) -> None:
        raise AssertionError(f"asked all the same: {message[0]}")

    async with (
        bad_relay(behave, {"limitation": {"max_subscriptions": 2}}) as there,
        local_relay() as local,
        following(job(local=local, authors=people), peer(there, "there")) as (here, _),
    ):
        await here.until(lambda outcome: any(each.state == "failed" for each in outcome.peers))
    assert here.outcome is not None
    assert "too few subscriptions (2) to follow 20000 authors" in here.outcome.peers[0].error

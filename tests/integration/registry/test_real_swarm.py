"""Registries on real Kubo daemons: what pubsub, tunnels and IPNS really do with what we say."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dragon.errors import KuboBusy
from registry_schema import parse
from registry_schema.codec import Value
from tests.integration.registry.support import start, station, strangers
from tests.testbed.kubo import KuboDaemon, until


async def test_what_one_says_all_merge(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    stations = await start(stack, kubos, tmp_path, swarm)
    stations[0].offer("ollama", labels={"model": "llama3.2"})
    await until(lambda: all(each.sees(stations[0].id, "ollama") for each in stations))
    found = stations[1].view.providers("ollama", where={"model": "llama3.2"}, at=stations[1].clock.monotonic())
    assert [provider.node_id for provider in found] == [stations[0].id]


async def test_eight_writers_at_once_leave_their_last_state_everywhere(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    stations = await start(stack, kubos, tmp_path, swarm)
    states = dict.fromkeys(range(8), 0)

    def say() -> None:
        stations[0].offer(*(f"w{number}-{step}" for number, step in states.items()))

    async def writer(number: int) -> None:
        for step in range(1, 6):
            states[number] = step
            say()
            await asyncio.sleep(0.01 * (number % 3))

    await asyncio.gather(*(writer(number) for number in range(8)))
    await until(lambda: all(each.sees(stations[0].id, *(f"w{number}-5" for number in range(8))) for each in stations))


async def test_a_clean_stop_is_seen_by_the_others(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    stations = await start(stack, kubos, tmp_path, swarm)
    await stations[2].registry.leave()
    await until(lambda: all(each.state(stations[2].id) == "left" for each in stations[:2]))


async def test_a_restart_continues_above_what_was_said(kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str) -> None:
    async with station(kubos[0], tmp_path / "a", swarm=swarm) as one:
        async with station(kubos[1], tmp_path / "b", swarm=swarm) as other:
            await until(lambda: one.sees(other.id) and other.sees(one.id))
            said = other.registry.status()["published"]["sequence"]
        async with station(kubos[1], tmp_path / "b", swarm=swarm) as other:
            assert other.state(one.id) in (None, "silent", "live")
            other.offer("comfyui")
            await until(lambda: one.sees(other.id, "comfyui") and other.sees(one.id))
            assert other.registry.status()["published"]["sequence"] > said
            assert other.registry.counters["restored"] == 1


async def test_a_second_dragon_on_one_kubo_is_refused(kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str) -> None:
    async with station(kubos[0], tmp_path / "a", swarm=swarm) as first:
        await until(lambda: first.sees(first.id))
        with pytest.raises(KuboBusy):
            async with station(kubos[0], tmp_path / "b", swarm=swarm) as second:
                await second.registry_ended.wait()
        first.offer("ollama")
        await until(lambda: first.sees(first.id, "ollama"))


async def test_a_daemon_that_is_killed_and_comes_back_is_healed_from(
    kubo_factory: Callable[..., KuboDaemon], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    daemons = (kubo_factory(), kubo_factory())
    daemons[0].connect(daemons[1])
    one = await stack.enter_async_context(station(daemons[0], tmp_path / "a", swarm=swarm))
    other = await stack.enter_async_context(station(daemons[1], tmp_path / "b", swarm=swarm, join=[daemons[0].address]))
    await until(lambda: one.sees(other.id) and other.sees(one.id))
    await asyncio.to_thread(daemons[0].kill)
    await until(lambda: not one.registry.status()["subscribed"])
    other.offer("orpheus")
    one.offer("ollama")
    await until(lambda: one.registry.status()["published"]["problem"])
    await asyncio.to_thread(daemons[0].start)
    await until(lambda: other.sees(one.id, "ollama") and one.sees(other.id, "orpheus"))
    await until(lambda: one.registry.status()["published"]["problem"] == "")  # Kubo's own answer may come after the message


async def test_a_newcomer_learns_a_thousand_nodes_from_its_first_peers(
    kubo_factory: Callable[..., KuboDaemon], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    daemons = [kubo_factory() for _ in range(3)]
    daemons[0].connect(daemons[1])
    old = await start(stack, daemons[:2], tmp_path, swarm)
    for each in old:
        await each.hold(strangers(1000, swarm, each.clock.now_ms()))
    new = await stack.enter_async_context(station(daemons[2], tmp_path / "new", swarm=swarm))
    await until(lambda: new.sees(new.id))
    await asyncio.to_thread(daemons[2].connect, daemons[0])
    await asyncio.to_thread(daemons[2].connect, daemons[1])
    await until(lambda: len(new.view.members(new.clock.monotonic())) == 1003)
    await until(lambda: new.registry.status()["exchanges"]["greeted"])
    await until(lambda: all(each.registry.exchange.served["asked"] for each in old))  # the first exchange goes to two peers
    assert len(new.view.providers("ollama", at=new.clock.monotonic())) == 1000


async def test_what_pubsub_lost_comes_by_exchange(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    """THREATS 18: two of three know something that the third never heard; a plain reconcile brings it over the real tunnel."""
    stations = await start(stack, kubos, tmp_path, swarm)
    lost = strangers(5, swarm, stations[0].clock.now_ms())
    await stations[0].hold(lost[:3])
    await stations[1].hold(lost[3:])
    outcome = await stations[1].registry.exchange.reconcile(stations[0].id)
    assert outcome.admitted == 3
    assert outcome.pushed >= 2
    for each in stations[:2]:
        assert len(each.view.providers("ollama", at=each.clock.monotonic())) == 5


async def test_questions_of_later_rooms_are_answered(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    stations = await start(stack, kubos, tmp_path, swarm)

    async def authors(caller: str, body: Value) -> Value:
        return {"caller": caller, "asked": body}

    stations[0].registry.exchange.answer("authors", authors)
    answer = await stations[1].registry.exchange.ask(stations[0].id, "authors", {"since": 3})
    assert answer == {"caller": stations[1].id, "asked": {"since": 3}}

    async def hold_the_same() -> bool:  # unless one of them says something new between the question and the answer
        held = await stations[1].registry.exchange.sequence(stations[0].id)
        fetched = await stations[1].registry.exchange.fetch(stations[0].id, stations[2].id)
        ours, theirs = stations[1].registry.status()["published"]["sequence"], stations[0].view.envelope(stations[2].id)
        return (held.sequence, fetched) == (ours, theirs)

    await until(hold_the_same)


async def test_the_ipns_copy_is_found_by_another_daemon(
    kubos: tuple[KuboDaemon, ...], tmp_path: Path, swarm: str, stack: AsyncExitStack
) -> None:
    one = await stack.enter_async_context(station(kubos[0], tmp_path / "a", swarm=swarm, ipns=True))
    one.offer("ollama")
    await until(lambda: one.registry.status()["ipns"].get("published"))
    async with station(kubos[1], tmp_path / "b", swarm=f"{swarm}-elsewhere") as other:
        path = await other.kubo.name_resolve(one.id, nocache=True)
        copy = await other.kubo.cat(f"{path}/dragon.manifest", limit=65536)
    publication = one.registry.publication
    assert publication is not None
    assert parse(copy).content_hash == publication.content_hash  # a beat in between has another number

"""The one publisher: what it does when disk, daemon or contract say no, and that what it says is always above what it said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dragon.errors import KuboRefused, StoreError
from dragon.kubo.fake import FakeNetwork
from registry_schema import make_offer, parse
from registry_schema.limits import MAX_LABELS, MAX_OFFERS
from tests.unit.registry_io.support import ManualClock, Member, MemoryStore, Shared


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_a_manifest_that_does_not_fit_goes_without_the_labels_of_its_offers(
    tmp_path: Path, stack: AsyncExitStack
) -> None:
    member = Member(FakeNetwork(), tmp_path, seed=1)
    time = Shared([member.clock])
    await stack.enter_async_context(member.running())
    labels = {f"model.{number}": "m" * 60 for number in range(MAX_LABELS)}
    slugs = sorted(f"s{number}" for number in range(MAX_OFFERS))
    member.offers = tuple(make_offer(slug, member.id, 1234, labels=labels) for slug in slugs)
    await time.until(lambda: member.sees(member, *slugs))
    assert member.registry.status()["published"]["labels-dropped"] == 1


async def test_a_full_disk_keeps_us_silent_and_is_retried(tmp_path: Path, stack: AsyncExitStack) -> None:
    """A sequence that cannot be stored is not used; what changed meanwhile is in the first publication that works."""

    class Full(MemoryStore):
        full = True

        async def reserve_sequence(self, now_ms: int) -> int:
            if self.full:
                raise StoreError("the disk is full")
            return await super().reserve_sequence(now_ms)

        async def last_sequence(self) -> int | None:
            if self.full:
                raise StoreError("the disk is full")
            return await super().last_sequence()

    store = Full()
    member = Member(FakeNetwork(), tmp_path, seed=1, store=store)
    time = Shared([member.clock])
    await stack.enter_async_context(member.running())
    await time.until(lambda: member.registry.status()["published"]["problem"])
    assert "publish" not in member.kubo.calls
    assert "sign" not in member.kubo.calls
    member.offer("ollama")
    store.full = False
    await time.until(lambda: member.sees(member, "ollama"))
    assert member.registry.status()["published"]["problem"] == ""


async def test_a_refused_publication_is_repeated_with_the_newest_state(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    member, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = Shared([member.clock, other.clock])
    await stack.enter_async_context(member.running())
    await stack.enter_async_context(other.running())
    await time.until(lambda: other.sees(member))
    publish, failures = member.kubo.publish, 3

    async def refusing(topic: str, data: bytes) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise KuboRefused("validation ignored")
        await publish(topic, data)

    member.kubo.publish = refusing  # type: ignore[method-assign]
    member.offer("ollama")
    await time.run(0.02, step=0.01)
    member.offer("comfyui")
    await time.until(lambda: other.sees(member, "comfyui"))
    assert member.registry.status()["published"]["publish-failures"] >= 3


async def test_what_it_says_rises_whatever_the_clock_does(tmp_path: Path, stack: AsyncExitStack) -> None:
    """THREATS 1 and 16: the wall clock steps back by an hour between two changes."""
    network = FakeNetwork()
    member, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = Shared([member.clock, other.clock])
    await stack.enter_async_context(member.running())
    await stack.enter_async_context(other.running())
    await time.until(lambda: other.sees(member))
    said = member.registry.status()["published"]["sequence"]
    member.clock.skew_ms -= 3_600_000
    member.offer("ollama")
    await time.until(lambda: other.sees(member, "ollama"))
    assert member.registry.status()["published"]["sequence"] == said + 1
    assert member.sees(member, "ollama"), "its own word is not from the future to itself"


async def test_an_echo_of_a_higher_sequence_of_our_own_is_overtaken(tmp_path: Path, stack: AsyncExitStack) -> None:
    """A home from a backup: others hold a later word of ours; it comes back by an exchange and we continue above it."""
    network = FakeNetwork()
    one, other = (Member(network, tmp_path, seed=seed) for seed in range(2))
    time = Shared([one.clock, other.clock])
    async with other.running():
        async with one.running():
            one.offer("ollama")
            await time.until(lambda: other.sees(one, "ollama"))
            later = one.registry.status()["published"]["sequence"]
        old = MemoryStore(last=later - 100_000)
        back = Member(network, tmp_path, seed=0, kubo=one.kubo, clock=ManualClock(skew_ms=-60_000), store=old)
        back.clock.now = one.clock.now
        time = Shared([back.clock, other.clock])
        async with back.running():
            back.offer("comfyui")
            await time.until(lambda: other.sees(back, "comfyui") and back.sees(back, "comfyui"))
            assert back.registry.status()["published"]["sequence"] > later


async def test_status_is_json_and_every_envelope_of_ours_is_canonical(tmp_path: Path, stack: AsyncExitStack) -> None:
    member = Member(FakeNetwork(), tmp_path, seed=1)
    time = Shared([member.clock])
    await stack.enter_async_context(member.running())
    json.dumps(member.registry.status())
    await time.until(lambda: member.sees(member))
    json.dumps(member.registry.status())
    data = member.view.envelope(member.id)
    assert data is not None
    assert parse(data).verify().ttl == 90


async def test_refresh_asks_now_and_returns(tmp_path: Path, stack: AsyncExitStack) -> None:
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(3)]
    time = Shared(member.clock for member in members)
    for member in members:
        await stack.enter_async_context(member.running())
    await time.until(lambda: all(one.sees(other) for one in members for other in members))
    before = members[0].registry.counters["answered"]
    refreshing = asyncio.create_task(members[0].registry.refresh())
    await time.until(refreshing.done)
    await refreshing
    assert members[0].registry.counters["answered"] >= before + 2


async def test_leaving_without_having_spoken_is_silent(tmp_path: Path) -> None:
    member = Member(FakeNetwork(), tmp_path, seed=1)
    await member.registry.leave()
    assert member.kubo.calls == []

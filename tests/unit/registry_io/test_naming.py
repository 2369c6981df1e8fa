"""One name and its pace: bursts, refreshes, refusals, and what is pinned."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest

from dragon.errors import KuboRefused
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.registry.naming import Files, Name, Pace
from tests.unit.registry_io.support import ManualClock, Shared

PACE = Pace(settle=1, apart=60, burst=2, refresh=3600, retry=30)


class World:
    """A name over a fake daemon; `content` is what it says."""

    def __init__(self) -> None:
        self.kubo = FakeKubo(FakeNetwork(), seed=1)
        self.clock = ManualClock()
        self.time = Shared([self.clock])
        self.content: dict[str, bytes] | None = {"a": b"0"}
        self.refusal = ""
        self.name = Name(
            self.kubo, self.clock, self.files, publishing=nullcontext, key="MySwarm_x", pace=PACE, allowed=self.allowed
        )

    async def files(self) -> Files | None:
        return self.content

    async def allowed(self) -> str:
        return self.refusal

    def say(self, text: str) -> None:
        self.content = {"a": text.encode()}
        self.name.changed()

    def says(self) -> bytes | None:
        path = self.kubo.names.get("k51-MySwarm_x")
        return self.kubo.directories[path.removeprefix("/ipfs/")]["a"] if path else None


@asynccontextmanager
async def running() -> AsyncIterator[World]:
    world = World()
    task = asyncio.create_task(world.name.run())
    try:
        yield world
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_burst_goes_out_at_once_and_the_rest_is_spread() -> None:
    async with running() as world:
        await world.time.run(100, step=1)
        assert world.says() is None, "nothing was said yet"
        world.say("1")
        await world.time.until(lambda: world.says() == b"1")
        world.say("2")
        await world.time.until(lambda: world.says() == b"2")
        world.say("3")
        await world.time.run(50, step=1)
        assert world.says() == b"2", "the burst is used up"
        await world.time.until(lambda: world.says() == b"3", step=1)
        assert len(world.kubo.directories) == 1, "what is said no more is not kept"


async def test_unchanged_it_is_refreshed_hourly() -> None:
    async with running() as world:
        world.say("1")
        await world.time.until(lambda: world.name.counters["published"] == 1)
        await world.time.run(3500, step=20)
        assert world.name.counters["published"] == 1
        await world.time.run(200, step=20)
        assert world.name.counters["published"] == 2
        assert world.says() == b"1"


async def test_while_another_program_writes_the_name_we_do_not() -> None:
    async with running() as world:
        world.refusal = "_12345.sh publishes it (pid 7)"
        world.say("1")
        await world.time.run(200, step=1)
        assert world.says() is None
        assert world.name.refused == world.refusal
        world.refusal = ""
        await world.time.until(lambda: world.says() == b"1", step=1)
        assert world.name.refused == ""


async def test_a_failure_is_said_once_and_tried_again_until_it_works(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk lasts for hours; each attempt names another temporary file of Kubo's."""
    async with running() as world:
        add, attempts = world.kubo.add_directory, 0

        async def full(files: Files) -> str:
            nonlocal attempts
            attempts += 1
            if attempts <= 5:
                raise KuboRefused(f"write temp-{attempts}: no space left on device")
            return await add(files)

        world.kubo.add_directory = full  # type: ignore[method-assign]
        world.say("1")
        await world.time.until(lambda: world.says() == b"1", step=1)
        assert world.name.problem == ""
        assert world.name.counters["publish-failures"] == 5
        assert sum("waits: write temp-1" in record.message for record in caplog.records) == 1
        assert sum("waits" in record.message for record in caplog.records) == 1


async def test_nothing_to_say_is_no_publication_and_no_failure() -> None:
    async with running() as world:
        world.content = None
        world.name.changed()
        await world.time.run(100, step=1)
        assert not world.name.counters["published"]
        assert not world.name.problem

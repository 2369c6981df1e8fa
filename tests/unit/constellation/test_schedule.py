"""The runs of a serving node: when they start, and that nothing of them outlives it. Children are real processes."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dragon.config.model import ConstellationSettings
from dragon.constellation.places import Places
from dragon.constellation.schedule import AGAIN, FIRST, JITTER, LOOK, PAUSES, Schedule
from dragon.constellation.stamps import stamp
from tests.testbed.node import wait_for
from tests.unit.kubo.clocks import HandClock

CHILD = """
import os, signal, sys, time
from pathlib import Path
folder = Path(os.environ["DRAGON_HOME"])
signal.signal(signal.SIGTERM, lambda *_: (folder.joinpath("ended").write_text("in order"), sys.exit(0)))
words = [*sys.argv[1:], os.environ.get("DRAGON_CONSTELLATION_DAYS", "")]
folder.joinpath("new").write_text(" ".join(words))
folder.joinpath("new").replace(folder / f"child-{os.getpid()}")
print("said")
sys.stdout.flush()
while "stay" in folder.joinpath("mood").read_text():
    time.sleep(0.01)
sys.exit("fail" in folder.joinpath("mood").read_text())
"""


class Worth:
    """A constellation that is worth a run, or not."""

    def __init__(self, worth: bool = True) -> None:
        self.worth = worth
        self.asked = 0

    async def is_worth_a_run(self) -> bool:
        self.asked += 1
        return self.worth


class Stage:
    def __init__(self, home: Path, worth: bool = True, **settings: Any) -> None:
        self.home, self.clock, self.constellation = home, HandClock(), Worth(worth)
        self.clock.at = 1_000_000.0
        self.places = Places(home)
        (home / "child.py").write_text(CHILD)
        self.mood("end")
        self.schedule = Schedule(
            ConstellationSettings(**settings),
            self.constellation,  # type: ignore[arg-type]
            self.places,
            self.clock,
            random.Random(1),
            {"constellation.days": "2"},
            (sys.executable, str(home / "child.py")),
        )

    def mood(self, word: str) -> None:
        (self.home / "mood").write_text(word)

    def children(self) -> list[int]:
        return [int(path.name.removeprefix("child-")) for path in self.home.glob("child-*")]

    def said(self, pid: int) -> str:
        return (self.home / f"child-{pid}").read_text().split(" --parent")[0]

    async def until(self, condition: Any) -> Any:
        return await asyncio.to_thread(wait_for, condition, 30.0)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass once somebody waits for it."""
        await self.until(lambda: self.clock.sleepers)
        await self.clock.turn(seconds)


@asynccontextmanager
async def going_on(stage: Stage) -> AsyncIterator[None]:
    task = asyncio.create_task(stage.schedule.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_the_first_run_comes_a_minute_after_the_start_with_the_nodes_flags(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    async with going_on(stage):
        await stage.pass_time(FIRST * (1 - JITTER) - 1)
        assert stage.constellation.asked == 0
        await stage.pass_time(FIRST * 2 * JITTER + 1)
        (pid,) = await stage.until(stage.children)
        assert stage.said(pid) == "--scheduled --json"
        assert (tmp_path / f"child-{pid}").read_text().endswith(f"--parent {os.getpid()} 2"), "with the node's own flags"
        await stage.until(lambda: not is_there(pid))
    assert stage.places.child_log.read_text() == "said\n"


async def test_the_next_one_comes_an_interval_after_whoever_ran_last(tmp_path: Path) -> None:
    stage = Stage(tmp_path, every=3600.0)
    stage.places.root.mkdir()
    await asyncio.to_thread(stamp, stage.places.stamps, stage.clock.at)
    async with going_on(stage):
        await stage.pass_time(FIRST * 1.2)
        await stage.pass_time(3600 * (1 - JITTER) - FIRST * 1.2 - 1)
        await stage.until(lambda: stage.clock.sleepers)
        assert not stage.children()
        await stage.pass_time(3600 * 2 * JITTER + 1)
        await stage.pass_time(LOOK)
        assert await stage.until(stage.children)


async def test_nothing_starts_while_there_is_nobody_to_sync_with(tmp_path: Path) -> None:
    stage = Stage(tmp_path, worth=False)
    async with going_on(stage):
        await stage.pass_time(FIRST * 1.2)
        for _ in range(5):
            await stage.pass_time(LOOK)
        await stage.until(lambda: stage.clock.sleepers)
        assert stage.constellation.asked >= 5
        assert not stage.children()
        stage.constellation.worth = True
        await stage.pass_time(LOOK)
        assert await stage.until(stage.children)


async def test_a_run_that_goes_on_is_ended_in_order_with_the_node(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.mood("stay")
    async with going_on(stage):
        await stage.pass_time(FIRST * 1.2)
        (pid,) = await stage.until(stage.children)
        assert is_there(pid)
    assert (tmp_path / "ended").read_text() == "in order"
    assert not is_there(pid), "and reaped: not even a zombie is left"


async def test_a_run_that_cannot_begin_is_told_and_tried_again_after_a_while(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path)
    stage.mood("fail")
    async with going_on(stage):
        await stage.pass_time(FIRST * 1.2)
        (pid,) = await stage.until(stage.children)
        await stage.until(lambda: f"pid {pid} has ended with 1" in caplog.text)
        await stage.pass_time(AGAIN - 1)
        await stage.until(lambda: stage.clock.sleepers)
        assert stage.children() == [pid], "it left no stamp: only the pause holds the next one back"
        await stage.pass_time(2)
        await stage.until(lambda: len(stage.children()) == 2)


async def test_a_follower_is_started_again_when_it_ends(tmp_path: Path) -> None:
    stage = Stage(tmp_path, follow=True)
    stage.places.root.mkdir()
    await asyncio.to_thread(stamp, stage.places.stamps, stage.clock.at)
    async with going_on(stage):
        await stage.pass_time(FIRST)
        await stage.until(lambda: len(stage.children()) == 1)
        for number in (1, 2, 3):
            await stage.until(lambda number=number: len(stage.children()) == number and stage.clock.sleepers == 2)
            await stage.clock.turn(PAUSES[-1])
    assert {stage.said(pid) for pid in stage.children()} == {"--follow --json"}


async def test_switched_off_it_does_nothing(tmp_path: Path) -> None:
    await Stage(tmp_path, enabled=False).schedule.run()


async def test_a_program_that_cannot_be_started_is_no_end_of_the_node(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(tmp_path)
    stage.schedule._command = ("/nowhere/dragon",)
    async with going_on(stage):
        await stage.pass_time(FIRST * 1.2)
        await stage.until(lambda: "does not start" in caplog.text)

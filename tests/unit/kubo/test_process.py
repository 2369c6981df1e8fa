"""A process that is started, and a start that is given up: nothing runs on that nobody knows of."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from dragon.kubo.process import MARK, DaemonProcess, left_over
from tests.testbed.node import wait_for

SLEEPER = ["sleep", "600"]


async def test_a_start_that_is_cancelled_halfway_leaves_no_process(tmp_path: Path) -> None:
    """A signal may reach a node between the process's start and its own learning of it (a Kubo was left behind so)."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))  # what is asked of it after the start comes after it
    log = tmp_path / "log"
    os.mkfifo(log)  # the start waits in it until somebody reads
    starting = asyncio.create_task(DaemonProcess.start(SLEEPER, {**os.environ, MARK: str(tmp_path)}, log))
    await asyncio.sleep(0)
    starting.cancel()
    await asyncio.sleep(0)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert await asyncio.to_thread(left_over, tmp_path) is None
    os.close(reader)


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        await DaemonProcess.start(["/nowhere/ipfs"], {}, tmp_path / "log")
    assert await asyncio.to_thread(left_over, tmp_path) is None


async def test_a_process_is_known_by_its_mark_until_it_is_stopped(tmp_path: Path) -> None:
    process = await DaemonProcess.start(SLEEPER, {**os.environ, MARK: str(tmp_path)}, tmp_path / "log")
    found = await asyncio.to_thread(wait_for, partial(left_over, tmp_path), 30.0)  # its environment shows a moment late
    assert (process.alive, found) == (True, process.pid)
    assert await process.stop(30.0)
    assert (process.alive, await asyncio.to_thread(left_over, tmp_path)) == (False, None)

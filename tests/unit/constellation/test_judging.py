"""The process that verifies: the same verdicts as here, in order, whoever waits or stops waiting, until it is ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dragon.constellation import judging as judging_module
from dragon.constellation.event import MAX_EVENT_SIZE, Event, checked
from dragon.constellation.judging import Judges, judges
from dragon.constellation.verifying import MAX_MESSAGE_SIZE, judge
from dragon.errors import LocalError
from tests.unit.constellation.relays import ANNE, Signed

NOTE = ANNE.event('quoted "text", ünïcode 🐉', tags=[["e", "0" * 64], ["d", "x"]])
ADDRESSED = ANNE.event("article", kind=30023, tags=[["d", "slug"]])
DELETION = ANNE.event("", kind=5, tags=[["e", NOTE["id"]], ["a", "30023:x:y"]])


def message(document: Any) -> str:
    return json.dumps(["EVENT", "d1", document])


def pid(judging: Judges) -> int:
    return judging._judges[0].process.pid


async def test_verdicts_are_those_of_here_in_order() -> None:
    texts = [
        message(NOTE),
        message({**NOTE, "content": "changed"}),
        message(ADDRESSED),
        "noise",
        message({**NOTE, "sig": "0" * 128}),
        message(DELETION),
        message(ANNE.event("x" * MAX_EVENT_SIZE)),
        message("x" * MAX_MESSAGE_SIZE),
        message({**NOTE, "content": "\ud800"}),
    ]
    async with judges() as judging:
        verdicts = await judging.judge(texts)
    assert verdicts == [judge(text) for text in texts]
    assert verdicts[0] == checked(NOTE)
    assert verdicts[1::2] == ["bad id", "malformed", checked(DELETION), "oversize"]
    assert isinstance(verdicts[2], Event)
    assert verdicts[2].address == f"30023:{ANNE.pubkey}:slug"


async def test_nothing_is_asked_in_vain() -> None:
    async with judges() as judging:
        assert await judging.judge([]) == []


async def test_it_starts_before_there_is_anything_to_verify() -> None:
    """Its 0.1 s pass while the relays are compared."""
    async with judges() as judging:
        assert pid(judging) > 0


def test_what_it_loads_is_little() -> None:
    """There may be two of them, within the 150 MB that a sync may take; an event loop alone is 11 MB."""
    shown = "import sys, dragon.constellation.verifying; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True).stdout.split()
    assert {"asyncio", "aiohttp", "pydantic", "typer"} & set(loaded) == set()


async def test_one_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))
    with pytest.raises(LocalError, match="can be started: No such file"):
        async with judges():
            pass


async def test_however_many_peers_ask_at_once_the_processes_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging_module, "MANY", 1)
    monkeypatch.setattr(judging_module, "PROCESSES", 2)
    async with judges() as judging:
        await judging.judge([message(NOTE)])
        answers = await asyncio.gather(*(judging.judge([message(NOTE)]) for _ in range(6)))
        assert answers == [[checked(NOTE)]] * 6
        assert len(judging._judges) == 2


async def test_answers_find_those_who_asked_also_when_one_gives_up() -> None:
    def batch(number: int) -> list[Signed]:
        return [ANNE.event(f"{number} {each}") for each in range(100)]

    batches = [batch(number) for number in range(6)]
    async with judges() as judging:
        asking = [asyncio.create_task(judging.judge([message(each) for each in some])) for some in batches]
        await asyncio.sleep(0)
        asking[0].cancel()
        asking[3].cancel()
        answers = await asyncio.gather(*asking, return_exceptions=True)
    for number, (answer, some) in enumerate(zip(answers, batches, strict=True)):
        if number in (0, 3):
            assert isinstance(answer, asyncio.CancelledError)
        else:
            assert answer == [checked(each) for each in some]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_who_stops_all_processes_at_once_does_not_stop_it_before_us(number: signal.Signals) -> None:
    async with judges() as judging:
        await judging.judge([message(NOTE)])
        os.kill(pid(judging), number)
        assert await judging.judge([message(NOTE)]) == [checked(NOTE)]


async def test_its_death_is_told() -> None:
    async with judges() as judging:
        await judging.judge([message(NOTE)])
        os.kill(pid(judging), signal.SIGKILL)
        with pytest.raises(LocalError, match="ended"):
            await judging.judge([message(NOTE)])


async def test_much_to_do_is_shared_and_comes_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging_module, "MANY", 10)
    monkeypatch.setattr(judging_module, "PROCESSES", 3)
    events = [ANNE.event(f"{number}") for number in range(101)]
    async with judges() as judging:
        for size in (1, 11, 100, 101, 2, 0):
            assert await judging.judge([message(each) for each in events[:size]]) == [checked(each) for each in events[:size]]
        assert len(judging._judges) == 3


async def test_none_is_left() -> None:
    async with judges() as judging:
        await judging.judge([message(NOTE)])
        number = pid(judging)
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)

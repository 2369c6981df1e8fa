"""What is stored is counted, what is refused is counted by reason, and one bad event costs only itself."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragon.clock import SystemClock
from dragon.constellation.event import Event, checked
from dragon.constellation.store import BACKOFF, RelaySink, Stored, ToolSink, refusal
from dragon.errors import LocalError
from tests.unit.constellation.relays import ANNE, HURRY, NOW, Bad, Behaviour, Clock, bad_relay, held, local_relay

NOTES = [checked(ANNE.event(f"note {number}", at=NOW - number)) for number in range(50)]


async def stored(url: str, events: list[Event], clock: Clock | None = None) -> Stored:
    sink = RelaySink(url, clock or Clock(), HURRY)
    try:
        return await sink.store(events)
    finally:
        await sink.close()


async def test_a_real_relay_takes_them_once() -> None:
    async with local_relay() as url:
        assert await stored(url, NOTES) == Stored(added=50)
        assert await stored(url, NOTES) == Stored(duplicate=50)
        assert await held(url) == {event.id for event in NOTES}


async def test_a_real_relay_that_hangs_up_after_6000_messages_gets_all_of_them() -> None:
    many = [checked(ANNE.event(f"{number}", at=NOW - number)) for number in range(13_000)]
    async with local_relay() as url:
        sink = RelaySink(url, SystemClock())
        done = await sink.store(many)
        await sink.close()
    assert done.added + done.duplicate == len(many)
    assert not done.refused


def answering(answer: Callable[[dict[str, Any]], tuple[bool, str] | None]) -> Behaviour:
    async def behave(bad: Bad, message: list[Any]) -> None:
        if (said := answer(message[1])) is None:
            await bad.socket.close()
        else:
            await bad.say("OK", message[1]["id"], *said)

    return behave


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("blocked: not you", "blocked"),
        ("invalid: bad signature", "invalid"),
        ("pow: 20 bits", "pow"),
        ("deleted: by its author", "deleted"),
        ("Rate-Limited: slow", "rate-limited"),
        ("who knows", "refused"),
        ("", "refused"),
    ],
)
def test_reasons(said: str, reason: str) -> None:
    assert refusal(said) == reason


async def test_refusals_are_counted_by_reason_and_the_rest_is_stored() -> None:
    words = {
        0: (False, "blocked: no"),
        1: (False, "invalid: no"),
        2: (False, "blocked: never"),
        3: (True, "duplicate: have it"),
    }

    def answer(event: dict[str, Any]) -> tuple[bool, str]:
        return words.get(int(event["content"].split()[1]), (True, ""))

    async with bad_relay(answering(answer)) as url:
        assert await stored(url, NOTES) == Stored(46, 1, Counter({"blocked": 2, "invalid": 1}))


async def test_a_limit_is_waited_for() -> None:
    """Ten events, then a pause."""
    clock, room = Clock(), {"left": 10, "slept": 0}

    def answer(event: dict[str, Any]) -> tuple[bool, str]:
        if len(clock.slept) > room["slept"]:
            room.update(left=10, slept=len(clock.slept))
        room["left"] -= 1
        return (True, "") if room["left"] >= 0 else (False, "rate-limited: slow down")

    async with bad_relay(answering(answer)) as url:
        done = await stored(url, NOTES, clock)
    assert done == Stored(added=50)
    assert clock.slept[0] == BACKOFF[0]


async def test_a_limit_that_stands_is_waited_for_once() -> None:
    clock = Clock()
    async with bad_relay(answering(lambda _: (False, "rate-limited: never"))) as url:
        sink = RelaySink(url, clock, HURRY)
        assert await sink.store(NOTES[:1]) == Stored(refused=Counter({"rate-limited": 1}))
        assert clock.slept == list(BACKOFF)
        assert await sink.store(NOTES[2:3]) == Stored(refused=Counter({"rate-limited": 1}))
        await sink.close()
    assert clock.slept == list(BACKOFF)


async def test_an_event_at_which_the_relay_hangs_up_is_left_out() -> None:
    async with bad_relay(answering(lambda event: None if event["content"] == "note 7" else (True, ""))) as url:
        done = await stored(url, NOTES)
    assert done.refused == {"no answer": 1}
    assert done.added + done.duplicate == 49


async def test_no_relay_at_all_is_our_trouble() -> None:
    clock = Clock()
    with pytest.raises(LocalError, match=r"ws://127\.0\.0\.1:1 cannot be reached") as error:
        await stored("ws://127.0.0.1:1", NOTES, clock)
    assert error.value.hint


STRFRY = """#!/bin/sh
# As `strfry import` behaves: reads lines, ends at one that is too long, tells on stderr what became of them.
[ "$*" = "import --no-verify" ] || exit 9
[ -f strfry.conf ] || { echo "no configuration here" >&2; exit 8; }
echo run >> runs
added=0 dups=0 rejected=0 lines=0
while IFS= read -r line; do
    lines=$((lines + 1))
    case "$line" in
        *note\\ 7\\"*) [ -f fragile ] && { echo "strfry error: Line larger than configured maxEventSize" >&2; exit 1; } ;;
        *note\\ 8\\"*) rejected=$((rejected + 1)); continue ;;
    esac
    if grep -qxF "$line" held 2>/dev/null; then
        dups=$((dups + 1))
    else
        added=$((added + 1))
        printf '%s\\n' "$line" >> held
    fi
done
[ -f slow ] && { touch started; while [ ! -f go ]; do sleep 0.05; done; }
say="2026-11-27 12:00:00.000 (   0.010s) [main thread     ]INFO|"
echo "$say Committed 5. Processed 5 lines. 5 added, 0 rejected, 0 dups" >&2
echo "$say Done. Processed $lines lines. $added added, $rejected rejected, $dups dups" >&2
"""


@pytest.fixture
def strfry(tmp_path: Path) -> Path:
    program = tmp_path / "strfry"
    program.write_text(STRFRY)
    program.chmod(0o755)
    (tmp_path / "strfry.conf").touch()
    return program


async def test_the_import_runs_in_its_folder_and_its_counts_are_read(strfry: Path) -> None:
    sink = ToolSink(strfry)
    assert await sink.store(NOTES) == Stored(49, 0, Counter({"rejected": 1}))
    assert await sink.store(NOTES[:5]) == Stored(duplicate=5)
    lines = (strfry.parent / "held").read_text().splitlines()
    assert {json.loads(line)["id"] for line in lines} == {event.id for event in NOTES if b"note 8" not in event.data}


async def test_a_line_at_which_the_import_ends_costs_only_itself(strfry: Path) -> None:
    (strfry.parent / "fragile").touch()
    done = await ToolSink(strfry).store(NOTES)
    assert done.refused == {"rejected": 1, "import failed": 1}
    assert done.added + done.duplicate == 48
    assert len((strfry.parent / "held").read_text().splitlines()) == 48


async def test_a_program_that_always_fails_is_our_trouble(strfry: Path) -> None:
    (strfry.parent / "strfry.conf").unlink()
    with pytest.raises(LocalError, match="no configuration here"):
        await ToolSink(strfry).store(NOTES * 200)


async def test_what_is_no_program_is_our_trouble(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="cannot be run"):
        await ToolSink(tmp_path / "strfry").store(NOTES)


async def test_an_import_under_way_is_finished_when_we_are_stopped_and_no_child_is_left(strfry: Path) -> None:
    before = children()
    (strfry.parent / "slow").touch()
    storing = asyncio.create_task(ToolSink(strfry).store(NOTES[:5]))
    while not (strfry.parent / "started").exists():  # noqa: ASYNC110 - another process tells
        await asyncio.sleep(0.01)
    assert children() > before
    storing.cancel()
    await asyncio.sleep(0)
    (strfry.parent / "go").touch()
    with pytest.raises(asyncio.CancelledError):
        await storing
    assert len((strfry.parent / "held").read_text().splitlines()) == 5
    assert children() <= before


def children() -> set[int]:
    """Return the pids of this process's children, of all its threads; one that nobody waited for is among them."""
    return {int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}

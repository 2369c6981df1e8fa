"""A run that was cut goes on where it stopped, and a mark never hides what was not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragon.constellation.resuming import KEPT, Marks
from dragon.constellation.run import synchronise
from dragon.constellation.wanted import Wanted
from tests.unit.constellation.relays import ANNE, BERT, HURRY, NOW, Bad, Clock, bad_relay, held, ids, job, local_relay, serving

WANTED = Wanted((1,), 0, 1000, (ANNE.pubkey,))
OTHER = Wanted((1,), 0, 1000, (BERT.pubkey,))


def test_a_mark_counts_for_its_peer_and_filter_and_for_a_while() -> None:
    marks = Marks()
    marks.note("peer", WANTED, down_to=400, top=900, now=5000)
    assert marks.covered("peer", WANTED, 5000 + KEPT) == (400, 900)
    assert marks.covered("peer", Wanted((1,), 500, 2000, (ANNE.pubkey,)), 5000) == (400, 900)
    assert marks.covered("peer", OTHER, 5000) is None
    assert marks.covered("other", WANTED, 5000) is None
    assert marks.covered("peer", WANTED, 5001 + KEPT) is None
    assert marks.covered("peer", WANTED, 4999) is None


@pytest.mark.parametrize(
    ("down_to", "top", "covered"),
    [
        (300, 900, (300, 900)),
        (300, 5000, (300, 1000)),  # nothing beyond the window was asked for
        (950, 1000, (400, 900)),  # the newer part is not through: the older one stays
        (901, 1000, (400, 900)),
        (400, 1000, (400, 1000)),  # they have met
    ],
)
def test_spans_that_meet_become_one(down_to: int, top: int, covered: tuple[int, int]) -> None:
    marks = Marks()
    marks.note("peer", WANTED, down_to=400, top=900, now=5000)
    marks.note("peer", WANTED, down_to=down_to, top=top, now=5000)
    assert marks.covered("peer", WANTED, 5000) == covered


def test_marks_are_kept_and_gone_when_there_are_none(tmp_path: Path) -> None:
    path, marks = tmp_path / "resume.json", Marks()
    marks.note("peer", WANTED, 400, 900, 5000)
    marks.save(path)
    loaded = Marks.load(path)
    assert loaded == marks
    loaded.forget("peer")
    loaded.save(path)
    assert not path.exists()
    assert Marks.load(path) == Marks.load(None) == Marks()


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b'{"version": 2, "marks": []}', b'{"version": 1}', b'{"version": 1, "marks": [["k", 1, 2]]}',
     b'{"version": 1, "marks": [["k", "1", 2, 3]]}', b"\xff", b"[" * 100_000],
)  # fmt: skip
def test_a_foreign_file_is_set_aside(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "resume.json"
    path.write_bytes(data)
    assert Marks.load(path) == Marks()
    assert not path.exists()
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [data]


async def test_the_next_run_reads_only_what_is_left(tmp_path: Path) -> None:
    notes = [ANNE.event(f"{number}", at=NOW - 10 * number) for number in range(600)]
    resume = tmp_path / "resume.json"
    clock, asked = Clock(), list[dict[str, Any]]()
    good = serving(notes, cap=50)

    async def stalling(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ":
            asked.append(message[2])
            if len(asked) == 9:
                clock.stopped.set()
            if len(asked) >= 9:
                return
        await good(bad, message)

    counted = list[int]()

    async def counting(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ" and message[2]["kinds"] != [5]:
            counted.append(message[2]["until"])
        await serving([*notes, late], cap=50)(bad, message)

    late = BERT.event("meanwhile", at=NOW + 15)
    async with local_relay([BERT.event("x")]) as local:
        async with bad_relay(stalling) as peer:
            first = await synchronise(job(peer, local=local, resume=resume), clock, patience=HURRY)
        assert first.state == "timeout"
        assert first.stored >= 300
        assert resume.exists()
        async with bad_relay(counting) as peer:
            second = await synchronise(job(peer, local=local, resume=resume, until=NOW + 20), Clock(NOW + 20), patience=HURRY)
        assert await held(local) >= ids(notes) | {late["id"]}
    assert second.state == "ok"
    assert second.received <= len(notes) - first.stored + 60
    assert len(counted) < 9
    assert not resume.exists()

"""What was measured survives a restart, ages by the wall clock, and never keeps a node from starting."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.reach import MOVING_MEMORY, Reach, Reaches
from dragon.connect.records import FADED_AFTER, FORGET_AFTER, KEPT, KEY, SAVE_EVERY, Records, decode, encode
from dragon.home import Home
from dragon.store import Store

NOW_MS = 1_700_000_000_000


class HandClock:
    """A clock moved by hand."""

    def __init__(self, at: float = 1000.0, now_ms: int = NOW_MS) -> None:
        self.at, self.wall = at, now_ms

    def monotonic(self) -> float:
        return self.at

    def now_ms(self) -> int:
        return self.wall

    async def sleep(self, seconds: float) -> None:
        self.at += seconds
        self.wall += round(seconds * 1000)


class Shelf:
    """A store of small values that counts writes."""

    def __init__(self, value: bytes | None = None) -> None:
        self.value, self.writes = value, 0

    def set(self, key: str, value: bytes | None) -> None:
        assert key == KEY
        self.value, self.writes = value, self.writes + 1

    async def get(self, key: str) -> bytes | None:
        return self.value


def used(reaches: Reaches, node: str = "alpha", at: float = 1000.0) -> Reach:
    reach = reaches.of(node, "ollama", "p2p")
    reach.attempt(at)
    reach.succeed(0.02, at)
    reach.attempt(at)
    reach.fail(at, "no answer")
    reach.move(1000, 9000, 2.0, at)
    return reach


def test_figures_come_back_with_their_age_and_without_any_claim_of_health() -> None:
    reaches = Reaches()
    reach = used(reaches)
    reach.in_flight = 3
    for _ in range(3):
        reach.fail(1000.0, "dead")
    data = encode(reaches, 1010.0, NOW_MS)
    (again,) = decode(data, 5.0, NOW_MS + 20_000)
    assert (again.node_id, again.slug, again.route) == ("alpha", "ollama", "p2p")
    assert (again.attempts, again.failures, again.last_failure) == (2, 4, "dead")
    assert (again.sent, again.received, again.bytes_per_second) == (1000, 9000, 5000.0)
    assert again.latencies.counts() == reach.latencies.counts()
    assert again.measured is not None
    assert again.measured.cost == 0.02
    assert again.measured.stamp == pytest.approx(5.0 - 30.0)
    assert again.used_at == pytest.approx(5.0 - 30.0)
    assert again.in_flight == 0
    assert again.breaker.state(5.0) == "closed"
    assert again.proven_at == float("-inf")


@pytest.mark.parametrize(
    ("age", "kept", "latency"),
    [(0, True, True), (-3600, True, True), (FADED_AFTER + 1, True, False), (FORGET_AFTER + 1, False, False)],
    ids=["at once", "the clock was set back", "a latency that has faded", "a provider of long ago"],
)
def test_what_is_restored_ages_out(age: float, kept: bool, latency: bool) -> None:
    reaches = Reaches()
    used(reaches)
    found = decode(encode(reaches, 1000.0, NOW_MS), 1000.0, NOW_MS + round(age * 1000))
    assert bool(found) is kept
    if kept:
        assert found[0].used_at <= 1000.0
        assert (found[0].measured is not None) is latency
        assert found[0].attempts == 2


def test_only_the_last_used_are_kept() -> None:
    reaches = Reaches()
    for number in range(KEPT + 50):
        used(reaches, f"node-{number}", 1000.0 + number)
    data = encode(reaches, 2000.0, NOW_MS)
    assert {each.node_id for each in decode(data, 0.0, NOW_MS)} == {f"node-{number}" for number in range(50, KEPT + 50)}
    assert len(data) < 512 * KEPT


def _spoilt(**fields: Any) -> bytes:
    reaches = Reaches()
    used(reaches)
    document = json.loads(encode(reaches, 1000.0, NOW_MS))
    document["reaches"][0] |= fields
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"version": 99, "reaches": []}',
        b'{"version": 1, "reaches": 7}',
        b'{"version": 1, "reaches": [1]}',
        _spoilt(attempts="many"),
        _spoilt(attempts=-1),
        _spoilt(attempts=True),
        _spoilt(moved=float("nan")),
        _spoilt(used_ms=1e300),
        _spoilt(node=None),
        _spoilt(latencies=[[999, 1]]),
        _spoilt(latencies=[[1]]),
        _spoilt(measured={"cost": 1}),
    ],
)
async def test_a_damaged_value_is_left_and_the_node_starts(data: bytes) -> None:
    with pytest.raises(ValueError):
        decode(data, 0.0, NOW_MS)
    reaches = Reaches()
    await Records(reaches, Shelf(data), HandClock()).load()
    assert list(reaches) == []


@given(st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with suppress(ValueError):
        assert decode(data, 0.0, NOW_MS) == []


async def test_written_when_something_changed_and_not_more_often_than_said() -> None:
    clock, shelf, reaches = HandClock(), Shelf(), Reaches()
    records = Records(reaches, shelf, clock)
    reach = used(reaches, at=clock.at)
    records.save_if_due()
    assert shelf.writes == 0
    await clock.sleep(SAVE_EVERY)
    records.save_if_due()
    assert shelf.writes == 1
    await clock.sleep(SAVE_EVERY)
    records.save_if_due()
    assert shelf.writes == 1
    reach.attempt(clock.at)
    records.save()
    assert shelf.writes == 2


async def test_what_is_measured_while_loading_outranks_what_is_loaded() -> None:
    reaches = Reaches()
    used(reaches)
    shelf = Shelf(encode(reaches, 1000.0, NOW_MS))
    fresh = Reaches()
    fresh.of("alpha", "ollama", "p2p").attempt(1.0)
    await Records(fresh, shelf, HandClock()).load()
    (reach,) = fresh
    assert reach.attempts == 1


async def test_through_a_real_store_and_a_restart(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.prepare()
    reaches = Reaches()
    used(reaches, at=1000.0)
    async with Store.open(home) as store:
        Records(reaches, store, HandClock(999.0)).save()
    again = Reaches()
    async with Store.open(home) as store:
        await Records(again, store, HandClock(1.0, NOW_MS + 1000)).load()
    (reach,) = again
    assert (reach.attempts, reach.failures) == (2, 1)


def test_the_speed_told_is_one_of_late() -> None:
    reach = Reach("alpha", "ollama", "p2p")
    assert reach.bytes_per_second is None
    for _ in range(10):
        reach.move(0, 100, MOVING_MEMORY, 0.0)
    for _ in range(10):
        reach.move(0, 100_000, MOVING_MEMORY, 0.0)
    assert reach.bytes_per_second == pytest.approx(100_000 / MOVING_MEMORY, rel=0.01)
    assert reach.received == 1_001_000

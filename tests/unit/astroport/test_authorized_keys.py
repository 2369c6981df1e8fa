"""Our block of authorized_keys, and everything around it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.astroport.authorized_keys import BACKUPS, BEGIN, END, MAX_FILE, apply, plan, read
from dragon.astroport.key_keeping import EVERY, SETTLE, AuthorizedKeys
from dragon.astroport.station_keys import StationKey
from dragon.errors import DragonError, HomeError, LocalError
from tests.unit.astroport.nostr import NOW, UPLANET, author, report, ssh_key
from tests.unit.kubo.clocks import HandClock, eventually

OWL, RAVEN, SELF = "12D3KooWOwl", "12D3KooWRaven", "12D3KooWSelf"
THEIRS = b'# mine\ncommand="date" ssh-ed25519 AAAAx me\n\nssh-rsa AAAAB3 old uplanet:abc'


def key(node_id: str) -> StationKey:
    return StationKey(node_id, ssh_key(node_id).split()[1])


@given(rest=st.binary(max_size=200).filter(lambda data: b"dragon" not in data), first=st.integers(0, 3), then=st.integers(0, 3))
def test_only_the_block_ever_changes(rest: bytes, first: int, then: int) -> None:
    keys = [key(f"12D3KooW{number}") for number in range(3)]
    with_first = plan(rest, keys[:first]).after
    assert plan(with_first, keys[:first]).is_none
    with_then = plan(with_first, keys[:then]).after
    assert with_then.endswith(rest)
    assert with_then == plan(rest, keys[:then]).after
    assert plan(with_then, []).after == rest


def test_what_comes_and_goes_is_named() -> None:
    first = plan(THEIRS, [key(OWL)])
    assert (first.added, first.removed) == ((key(OWL).line,), ())
    assert first.after == BEGIN + key(OWL).line.encode() + b"\n" + END + THEIRS
    second = plan(first.after, [key(RAVEN)])
    assert (second.added, second.removed) == ((key(RAVEN).line,), (key(OWL).line,))


def test_a_key_that_is_there_already_is_not_repeated() -> None:
    mine = f"no-pty {ssh_key(OWL)}\n".encode()
    assert plan(mine, [key(OWL)]).is_none


def test_the_block_stays_where_its_owner_moved_it() -> None:
    moved = b"first\n" + BEGIN + b"x\n" + END + b"last\n"
    assert plan(moved, []).after == b"first\nlast\n"


@pytest.mark.parametrize(
    "data",
    [
        BEGIN,
        END,
        END + BEGIN,
        BEGIN + END + BEGIN + END,
        BEGIN.strip() + b"\r\n" + END,
        b"x" + BEGIN + END,
        BEGIN + END.strip(),
    ],
)
def test_damaged_marks_are_told_and_nothing_is_guessed(data: bytes) -> None:
    with pytest.raises(LocalError, match="damaged"):
        plan(data, [key(OWL)])


def test_the_file_keeps_its_mode_and_a_copy_is_kept_once_per_change(tmp_path: Path) -> None:
    file, backups = tmp_path / ".ssh" / "authorized_keys", tmp_path / "backups"
    assert apply(file, plan(read(file), [key(OWL)]), backups) is None
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.chmod(0o640)
    before = file.read_bytes()
    kept = apply(file, plan(before, [key(RAVEN)]), backups)
    assert kept is not None
    assert kept.read_bytes() == before
    assert file.stat().st_mode & 0o777 == 0o640
    assert apply(file, plan(read(file), [key(RAVEN)]), backups) is None
    assert len(list(backups.iterdir())) == 1
    for number in range(BACKUPS + 5):
        apply(file, plan(read(file), [key(f"12D3KooW{number}")]), backups)
    numbers = sorted(int(each.suffix[1:]) for each in backups.iterdir())
    assert (len(numbers), numbers[-1]) == (BACKUPS, BACKUPS + 6)


def test_places_that_are_not_written_to(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "authorized_keys"
    real.write_bytes(THEIRS)
    link.symlink_to(real)
    with pytest.raises(LocalError, match="no plain file"):
        read(link)
    link.unlink()
    link.mkdir()
    with pytest.raises(LocalError, match="no plain file"):
        read(link)
    link.rmdir()
    link.write_bytes(b"x" * (MAX_FILE + 1))
    with pytest.raises(LocalError, match="larger"):
        read(link)
    link.write_bytes(THEIRS)
    change = plan(read(link), [key(OWL)])
    link.write_bytes(THEIRS + b"\nnew")
    with pytest.raises(LocalError, match="changed by another program"):
        apply(link, change, tmp_path / "backups")
    assert link.read_bytes() == THEIRS + b"\nnew"
    (tmp_path / "no").write_bytes(b"")
    with pytest.raises(HomeError):
        apply(tmp_path / "no" / "authorized_keys", plan(None, [key(OWL)]), tmp_path / "backups")


class Station:
    """A keeper whose relay and view are set by the test."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / ".ssh" / "authorized_keys"
        self.file.parent.mkdir()
        self.file.write_bytes(THEIRS)
        self.clock = HandClock()
        self.clock.at = NOW
        self.nodes = {OWL: frozenset({author("owl").public_key.hex()})}
        self.relay: list[object] = []
        self.failure: DragonError | None = None
        self.asked: list[tuple[tuple[str, ...], int]] = []
        self.uplanet = UPLANET
        self.keeper = AuthorizedKeys(
            self.file, folder / "backups", self.clock, own_id=SELF,
            uplanet=lambda: self.uplanet, nodes=lambda: self.nodes, events=self._events,
        )  # fmt: skip

    async def _events(self, authors: object, since: int) -> list[object]:
        self.asked.append((tuple(authors), since))  # type: ignore[arg-type]
        if self.failure is not None:
            raise self.failure
        return self.relay


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
async def running(station: Station) -> AsyncIterator[Station]:
    task = asyncio.create_task(station.keeper.run())
    await asyncio.sleep(0)
    yield station
    task.cancel()
    await asyncio.wait({task})


async def test_dry_it_says_and_then_it_does(station: Station) -> None:
    station.relay = [report(OWL, author("owl")), report(OWL, author("mallory"))]
    look = await station.keeper.look()
    assert look.change.added == (key(OWL).line,)
    assert look.selection.refused == {"by an author who does not speak for that station": 1}
    assert station.file.read_bytes() == THEIRS
    await station.keeper.keep()
    assert station.file.read_bytes() == BEGIN + key(OWL).line.encode() + b"\n" + END + THEIRS
    assert station.asked == [((author("owl").public_key.hex(),), NOW - 9 * 86_400)] * 2


@pytest.mark.parametrize("trouble", ["relay", "uplanet"])
async def test_who_cannot_look_changes_nothing(station: Station, trouble: str) -> None:
    station.relay = [report(OWL, author("owl"))]
    await station.keeper.keep()
    stands = station.file.read_bytes()
    if trouble == "relay":
        station.failure = LocalError("the relay does not answer", "start it")
    else:
        station.uplanet = ""
    with pytest.raises(LocalError):
        await station.keeper.keep()
    assert station.file.read_bytes() == stands


async def test_a_station_that_went_loses_its_login(station: Station) -> None:
    station.relay = [report(OWL, author("owl"))]
    await station.keeper.keep()
    station.nodes = {}
    await station.keeper.keep()
    assert station.file.read_bytes() == THEIRS


async def test_running_it_waits_for_the_view_then_looks_hourly_and_says_trouble_once(
    running: Station, caplog: pytest.LogCaptureFixture
) -> None:
    running.relay = [report(OWL, author("owl"))]
    await running.clock.turn(SETTLE - 1)
    assert running.asked == []
    await running.clock.turn(1)

    async def idle() -> bool:
        return running.clock.sleepers > 0

    await eventually(idle)
    assert key(OWL).line.encode() in running.file.read_bytes()
    running.failure = LocalError("the relay does not answer", "start it")
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            await running.clock.turn(EVERY)
            await eventually(idle)
    assert len(running.asked) == 3
    assert [each.message for each in caplog.records if "may log in" not in each.message] == [
        "SSH keys of stations stay as they are: the relay does not answer"
    ]

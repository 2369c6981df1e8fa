"""One run at a time, ours or the scripts'. Other owners are real processes, some of which lock as the scripts do."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dragon.constellation.lock import RunGoesOn, locked, owner_of
from dragon.constellation.stamps import APART, last_run, stamp, wait_for
from dragon.errors import HomeError

FLOCK_AND_PID = """
import fcntl, os, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
file.write(f"{os.getpid()}\\n"); file.flush()
print("held", flush=True)
sys.stdin.read()
"""
PID_ALONE = """
import os, sys
open(sys.argv[1], "w").write(f"{os.getpid()}\\n")
print("held", flush=True)
sys.stdin.read()
"""
FLOCK_ALONE = FLOCK_AND_PID.replace('file.write(f"{os.getpid()}\\n"); file.flush()', "")


@contextmanager
def held_by(program: str, path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate("")


def a_dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "constellation-sync.lock"


@pytest.mark.parametrize("program", [FLOCK_AND_PID, PID_ALONE, FLOCK_ALONE], ids=["flock and pid", "pid", "flock"])
def test_whoever_holds_it_is_honoured_and_named(program: str, path: Path) -> None:
    with held_by(program, path) as other:
        before = path.read_text()
        with pytest.raises(RunGoesOn) as refused, locked([path]):
            pass
        assert refused.value.owner.pid == other.pid
        assert str(other.pid) in str(refused.value)
        assert refused.value.owner.age < 3600
        owner = owner_of(path)
        assert owner is not None
        assert owner.pid == other.pid
        assert path.read_text() == before, "D22: what somebody else wrote is neither cut off nor removed"


def test_ours_is_seen_by_both_ways_of_looking(path: Path) -> None:
    with locked([path]) as locks:
        assert locks.taken_over == []
        assert path.read_text() == f"{os.getpid()}\n"
        with path.open("rb") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with pytest.raises(RunGoesOn), locked([path]):
            pass
        assert path.read_text() == f"{os.getpid()}\n", "the refused one leaves it as it is"
    assert path.read_text() == ""
    assert owner_of(path) is None


def test_a_dead_owner_is_taken_over_and_told(path: Path) -> None:
    pid = a_dead_pid()
    path.write_text(f"{pid}\n")
    assert owner_of(path) is None
    with locked([path]) as locks:
        assert [owner.pid for owner in locks.taken_over] == [pid]


def test_a_number_that_was_given_to_another_process_is_a_dead_owner(path: Path) -> None:
    """A living process that started after the file was written never wrote it."""
    with held_by(FLOCK_AND_PID, path.with_name("elsewhere")) as other:
        path.write_text(f"{other.pid}\n")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        with locked([path]) as locks:
            assert [owner.pid for owner in locks.taken_over] == [other.pid]


@pytest.mark.parametrize("text", ["", "\n", "not a number", "-1", "0", "99999999999999999999", "12 34"])
def test_a_torn_file_holds_nobody_up(text: str, path: Path) -> None:
    path.write_text(text)
    with locked([path]) as locks:
        assert locks.taken_over == []


def test_the_second_lock_taken_by_another_gives_the_first_one_back(tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with held_by(FLOCK_AND_PID, theirs):
        with pytest.raises(RunGoesOn), locked([ours, theirs]):
            pass
        assert ours.read_text() == ""
        with locked([ours]):
            pass


def test_a_file_that_others_remove_or_empty_under_us_is_taken_again(path: Path) -> None:
    """The script's trap removes the file of whoever runs, and its opening empties it (D22)."""
    with locked([path]) as locks:
        path.write_text("")
        assert locks.renew() == []
        assert path.read_text() == f"{os.getpid()}\n"
        path.unlink()
        assert locks.renew() == [path]
        assert path.read_text() == f"{os.getpid()}\n"
        assert locks.renew() == []
        with pytest.raises(RunGoesOn), locked([path]):
            pass


def test_what_another_took_meanwhile_stays_theirs(path: Path) -> None:
    with locked([path]) as locks:
        path.unlink()
        with held_by(FLOCK_AND_PID, path) as other:
            assert locks.renew() == [path]
            assert path.read_text() == f"{other.pid}\n"
    assert path.read_text() == f"{other.pid}\n", "at our end too: it is not ours"


def test_a_disk_that_takes_no_byte_is_told_by_the_files_name(path: Path) -> None:
    """A limit of 0 bytes for each file does in one process what a full disk does to all."""
    program = """
import resource, sys
from pathlib import Path
from dragon.constellation.lock import locked
from dragon.errors import HomeError
resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
try:
    with locked([Path(sys.argv[1])]):
        pass
except HomeError as error:
    sys.exit(str(error))
"""
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert f"{path} cannot be written: File too large" in done.stderr
    assert owner_of(path) is None


def test_a_link_in_its_place_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(HomeError), locked([path]):
        pass
    assert victim.read_text() == "precious"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HomeError, match="cannot be written"), locked([tmp_path / "file" / "lock"]):
        pass


# -- stamps -----------------------------------------------------------------------------------------------------------


def test_the_latest_stamp_counts_whoever_wrote_it(tmp_path: Path) -> None:
    ours, theirs, none = tmp_path / "ours", tmp_path / "theirs", tmp_path / "none"
    ours.write_text("1000\n")
    theirs.write_text("  2000 ")
    assert last_run([ours, theirs, none], 5000) == 2000
    assert last_run([none], 5000) is None
    assert last_run([ours, theirs], 1500) == 1000, "one of the future is no stamp: a clock was wrong"


def test_a_stamp_with_other_words_tells_by_its_age(tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.write_text("2026-11-27")
    os.utime(odd, (3000, 3000))
    assert last_run([odd], 5000) == 3000


def test_stamps_are_written_where_there_are_folders_and_missing_ones_are_nobodys_fault(tmp_path: Path) -> None:
    stamp([tmp_path / "a", tmp_path / "none" / "b"], 1234.9)
    assert (tmp_path / "a").read_text() == "1234\n"
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("last", "now", "every", "wait"),
    [(None, 1000, 3600, 0), (1000, 1000, 3600, APART), (1000, 1000 + APART, 3600, 0), (1000, 1100, 300, 200)],
)
def test_what_is_left_to_wait(last: float | None, now: float, every: float, wait: float) -> None:
    assert wait_for(last, now, every) == wait

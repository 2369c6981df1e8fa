"""What the store keeps, and what happens to it when the disk or the process fails. Real SQLite files."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dragon.errors import StoreError
from dragon.home import Home
from dragon.store import Store, StoredNode, next_sequence
from dragon.store.database import APPLICATION_ID, SCHEMA_VERSION, Database
from dragon.store.slot import Slot

RANK = (1000, b"h" * 32)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def on_disk(store: Store, statement: str) -> None:
    """Run one statement on the store's own connection, in its own thread."""
    connection = store._database._connection
    store._thread.submit(lambda: connection.execute(statement).fetchall()).result()


def page_limit(store: Store, pages: int = 2**30) -> None:
    """Let the database grow to `pages` pages only: SQLite's own SQLITE_FULL."""
    on_disk(store, f"PRAGMA max_page_count = {pages}")


async def until(condition: Callable[[], bool]) -> None:
    """Return when `condition` holds; the test's own time limit is the bound."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.001)


async def test_marks_and_envelopes_survive_a_restart(home: Home) -> None:
    async with Store.open(home) as store:
        assert store.marks("s") == {}
        assert store.notice == ""
        store.put("s", "a", RANK, b"envelope a", 5)
        store.put("other", "a", (7, b"x"), b"elsewhere", 6)
        store.set("key", b"value")
        assert await store.get("key") == b"value"
    async with Store.open(home) as store:
        assert store.marks("s") == {"a": RANK}
        assert store.marks("other") == {"a": (7, b"x")}
        assert store.envelopes("s") == [("a", b"envelope a", 5)]
        assert store.envelopes("s") == []  # handed over: they are large
        assert await store.get("key") == b"value"
        assert await store.get("none") is None
    assert home.database.stat().st_mode & 0o777 == 0o600


async def test_a_mark_never_goes_back_whatever_order_writes_come_in(home: Home) -> None:
    """THREATS 1; I2. Within a batch, between batches, and by hash where the sequence is equal."""
    ranks = [(5, b"b"), (9, b"a"), (9, b"c"), (9, b"b"), (8, b"z"), (1, b"a")]
    async with Store.open(home) as store:
        for number, rank in enumerate(ranks):
            store.put("s", "batch", rank, repr(rank).encode(), number)
        for number, rank in enumerate(ranks):
            store.put("s", "single", rank, repr(rank).encode(), number)
            await store.flush()
    async with Store.open(home) as store:
        assert store.marks("s") == {"batch": (9, b"c"), "single": (9, b"c")}
        assert {data for _, data, _ in store.envelopes("s")} == {b"(9, b'c')"}


async def test_the_forgotten_are_gone_and_may_come_again(home: Home) -> None:
    async with Store.open(home) as store:
        store.put("s", "a", RANK, b"1", 1)
        await store.flush()
        store.forget("s", "a")
        store.forget("s", "never there")
        store.put("s", "b", RANK, b"1", 1)
        store.forget("s", "b")
        store.put("s", "b", (3, b""), b"again, lower", 2)
        store.set("key", b"x")
        store.set("key", None)
    async with Store.open(home) as store:
        assert store.marks("s") == {"b": (3, b"")}
        assert await store.get("key") is None


async def test_pruning_forgets_who_was_heard_long_ago(home: Home) -> None:
    async with Store.open(home) as store:
        for number in range(10):
            store.put("s", f"n{number}", RANK, b"", number)
        assert await store.prune(4) == 4
    async with Store.open(home) as store:
        assert set(store.marks("s")) == {f"n{number}" for number in range(4, 10)}


async def test_puts_are_committed_without_being_asked(home: Home) -> None:
    """In batches, within 50 ms of the loop's own time; here only that nobody has to flush."""
    async with Store.open(home) as store:
        store.put("s", "a", RANK, b"1", 1)
        await until(lambda: not store._nodes and not store._committing.locked())
        with sqlite3.connect(f"file:{home.database}?mode=ro", uri=True) as reader:
            assert reader.execute("SELECT node_id FROM nodes").fetchall() == [("a",)]
        reader.close()


# -- our own sequence ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "last", "expected"),
    [(100, None, 100), (100, 50, 100), (100, 99, 100), (100, 100, 101), (100, 500, 501), (0, 500, 501)],
)
def test_the_next_sequence_is_the_time_or_one_more(now: int, last: int | None, expected: int) -> None:
    assert next_sequence(now, last) == expected


async def test_own_sequences_rise_across_restarts_and_clocks_that_step_back(home: Home) -> None:
    """I2; THREATS 17: stored before it is returned."""
    handed = []
    for now in (1000, 1000, 500, 2000, 10):
        async with Store.open(home) as store:
            handed += [await store.reserve_sequence(now) for _ in range(3)]
            assert await store.last_sequence() == handed[-1]
    assert handed == sorted(set(handed))
    assert handed[:3] == [1000, 1001, 1002]


async def test_a_new_store_remembers_no_sequence(home: Home) -> None:
    """What tells a node that it lost its home, and has to ask before it speaks."""
    async with Store.open(home) as store:
        assert await store.last_sequence() is None
        store.put("s", "a", RANK, b"", 1)
        assert await store.last_sequence() is None
        await store.reserve_sequence(5)
        assert await store.last_sequence() == 5
    async with Store.open(home) as store:
        assert await store.last_sequence() == 5


WRITER = """
import asyncio, sys
from pathlib import Path
from dragon.home import Home
from dragon.store import Store

async def main():
    async with Store.open(Home(Path(sys.argv[1]))) as store:
        for number in range(1, 10**9):
            sequence = await store.reserve_sequence(0)
            store.put("s", f"node {number % 50}", (number, b"h" * 32), b"e" * 1500, number)
            if number % 10 == 0:
                await store.flush()
                print(sequence, number, flush=True)

asyncio.run(main())
"""


def test_kill_9_in_the_middle_of_writing_tears_nothing_and_loses_nothing_committed(home: Home) -> None:
    """THREATS 2: whatever was flushed is there, the file is whole, and no sequence is handed out twice. Ten real kills."""
    for round_ in range(10):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(home.root)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            for _ in range(3 + 7 * round_ % 20):
                said = process.stdout.readline()
        finally:
            os.kill(process.pid, signal.SIGKILL)
            rest, _ = process.communicate()
        sequence, number = map(int, (rest.splitlines() or [said])[-1].split())
        asyncio.run(nothing_is_lost(home, sequence, number))


async def nothing_is_lost(home: Home, sequence: int, number: int) -> None:
    async with Store.open(home) as store:
        assert store.notice == ""
        assert max(rank[0] for rank in store.marks("s").values()) >= number
        assert await store.reserve_sequence(0) > sequence


# -- files that are not what they should be ------------------------------------------------------------------------------


def foreign(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.execute("PRAGMA application_id = 77")
    connection.commit()
    connection.close()


def newer(path: Path) -> None:
    Database(path).close()
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.commit()
    connection.close()


def torn(path: Path) -> None:
    database = Database(path)
    rows = {("s", f"n{number}"): StoredNode("s", f"n{number}", 1, b"h", b"e" * 900, 1) for number in range(100)}
    database.write(rows, {})
    database.close()
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 8] = os.urandom(4096 * 6)
    path.write_bytes(data)


def cut_short(path: Path) -> None:
    torn(path)
    path.write_bytes(path.read_bytes()[:6000])


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda path: path.write_bytes(b"this is not a database" * 1000), "damaged"),
        (foreign, "another program"),
        (newer, "another version"),
        (torn, "damaged"),
        (cut_short, "damaged"),
    ],
)
async def test_a_torn_or_foreign_file_is_set_aside_with_a_message(
    home: Home, spoil: Callable[[Path], object], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """DESIGN §7.5: never a crash, never silently dropped."""
    await asyncio.to_thread(spoil, home.database)
    before = home.database.read_bytes()
    with caplog.at_level(logging.WARNING):
        async with Store.open(home) as store:
            assert why in store.notice
            assert store.marks("s") == {}
            store.put("s", "a", RANK, b"1", 1)
    (aside,) = [path for path in home.root.iterdir() if path.name.startswith("registry.sqlite.aside") and path.suffix != "-wal"]
    assert aside.read_bytes() == before
    assert aside.name in caplog.text
    async with Store.open(home) as store:
        assert store.notice == ""
        assert store.marks("s") == {"a": RANK}


async def test_an_empty_file_is_a_new_store(home: Home) -> None:
    home.database.touch()
    async with Store.open(home) as store:
        assert store.notice == ""
    with sqlite3.connect(home.database) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.close()


async def test_a_file_that_vanishes_while_we_run_is_made_anew_and_the_sequence_still_rises(home: Home) -> None:
    async with Store.open(home) as store:
        first = await store.reserve_sequence(1000)
        for path in home.root.glob("registry.sqlite*"):
            path.unlink()
        assert await store.reserve_sequence(10) == first + 1
        store.put("s", "a", RANK, b"1", 1)
    async with Store.open(home) as store:
        assert store.marks("s") == {"a": RANK}
        assert await store.last_sequence() == first + 1


async def test_a_file_damaged_while_we_run_is_set_aside_and_what_waits_is_kept(home: Home) -> None:
    async with Store.open(home) as store:
        for number in range(200):
            store.put("s", f"n{number}", RANK, b"e" * 900, 1)
        await store.flush()
        on_disk(store, "PRAGMA wal_checkpoint(TRUNCATE)")
        with home.database.open("r+b") as file:
            file.write(os.urandom(home.database.stat().st_size))
        on_disk(store, "PRAGMA shrink_memory")  # or SQLite goes on working with what it remembers of the file
        store.put("s", "late", RANK, b"1", 1)
        first = await store.reserve_sequence(1000)
        await store.flush()
        assert await store.reserve_sequence(0) == first + 1
    async with Store.open(home) as store:
        assert "late" in store.marks("s")


# -- a disk that refuses -------------------------------------------------------------------------------------------------


async def test_a_full_disk_loses_nothing_and_is_said_once(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    """Issue 3: one clear line that says what to do, nothing lost; stored as soon as there is room."""
    async with Store.open(home) as store:
        page_limit(store, 8)
        for number in range(100):
            store.put("s", f"n{number}", RANK, b"e" * 900, 1)
        for _ in range(3):
            with pytest.raises(StoreError, match="full") as raised:
                await store.flush()
            assert "free some space" in raised.value.hint
            assert "kept in memory" in raised.value.hint
        store.put("s", "n0", (2000, b"newer"), b"newer", 2)
        page_limit(store)
        await store.flush()
        assert store._nodes == {}
    async with Store.open(home) as store:
        marks = store.marks("s")
        assert len(marks) == 100
        assert marks["n0"] == (2000, b"newer")


class Impatient:
    """A clock whose sleeps end at once."""

    def monotonic(self) -> float:
        return 0.0

    def now_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


async def test_a_full_disk_is_tried_again_until_there_is_room_and_said_once(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store.open(home, clock=Impatient()) as store:
        page_limit(store, 8)
        with caplog.at_level(logging.INFO, logger="dragon.store"):
            for number in range(100):
                store.put("s", f"n{number}", RANK, b"e" * 900, 1)
            await until(lambda: store.problem != "")
            for _ in range(200):
                await asyncio.sleep(0)
            assert "full" in store.problem
            page_limit(store)
            await until(lambda: store.problem == "")
        assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    async with Store.open(home) as store:
        assert len(store.marks("s")) == 100


async def test_a_sequence_that_cannot_be_stored_is_not_handed_out(home: Home) -> None:
    """I2: stored before it is signed, or not signed."""
    async with Store.open(home) as store:
        first = await store.reserve_sequence(1000)
        on_disk(store, "PRAGMA query_only = 1")
        with pytest.raises(StoreError, match="cannot be written"):
            await store.reserve_sequence(2000)
        on_disk(store, "PRAGMA query_only = 0")
        assert await store.reserve_sequence(1000) == first + 1


async def test_what_stands_in_the_slot_of_a_full_disk_counts_after_a_crash(home: Home) -> None:
    """I2, also where the last sequences found no room in the database; a new database has nothing to do with it."""
    slot = Slot(home.database.with_suffix(".sequence"))
    async with Store.open(home) as store:
        assert await asyncio.to_thread(slot.read) is None
        first = await store.reserve_sequence(1000)
        size = slot._path.stat().st_size
        assert await asyncio.to_thread(slot.write, first + 500)
    assert slot._path.stat().st_size == size, "it never grows"
    async with Store.open(home) as store:
        assert await store.last_sequence() == first + 500
        assert await store.reserve_sequence(0) == first + 501
    for path in home.root.glob("registry.sqlite*"):
        path.unlink()
    async with Store.open(home) as store:
        assert await store.last_sequence() is None


@pytest.mark.parametrize("content", [b"", b"12\n", b"x" * 21, b"9" * 4096])
async def test_a_slot_that_is_torn_is_none(home: Home, content: bytes) -> None:
    slot = Slot(home.database.with_suffix(".sequence"))
    slot._path.write_bytes(content)
    assert await asyncio.to_thread(slot.read) is None
    async with Store.open(home) as store:
        assert await store.reserve_sequence(7) == 7
    assert await asyncio.to_thread(slot.write, 8)
    assert await asyncio.to_thread(slot.read) == 8


async def test_a_home_that_cannot_be_written_is_a_store_error_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as raised:
        async with Store.open(Home(tmp_path / "missing")):
            pass
    assert raised.value.hint

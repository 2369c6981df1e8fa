"""The database file: schema, opening (or setting aside), and the few statements. Blocking; used from one thread only.

WAL with synchronous=NORMAL: a committed batch survives the death of the process at any moment. A power cut may cost the last
commits, but never the file; why that is enough is written in docs/decisions/004-what-a-crash-may-forget.md.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, TypeAlias, TypeVar

from dragon.errors import StoreError
from dragon.home import set_aside
from dragon.store.sequence import next_sequence
from dragon.store.slot import Slot

log = logging.getLogger(__name__)

APPLICATION_ID = 0x44524147
"""`DRAG` in the file's header: tells ours from any other SQLite file."""

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE nodes (
    swarm TEXT NOT NULL, node_id TEXT NOT NULL, sequence INTEGER NOT NULL, hash BLOB NOT NULL,
    envelope BLOB NOT NULL, heard_ms INTEGER NOT NULL, PRIMARY KEY (swarm, node_id)
) STRICT;
CREATE TABLE own (id INTEGER PRIMARY KEY CHECK (id = 1), sequence INTEGER NOT NULL) STRICT;
CREATE TABLE small (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT;
"""

_PUT = """
INSERT INTO nodes (swarm, node_id, sequence, hash, envelope, heard_ms) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (swarm, node_id) DO UPDATE SET
    sequence = excluded.sequence, hash = excluded.hash, envelope = excluded.envelope, heard_ms = excluded.heard_ms
WHERE (excluded.sequence, excluded.hash) >= (nodes.sequence, nodes.hash)
"""
"""A mark never goes back, in whatever order batches arrive."""

_BUSY_SECONDS = 2.0
"""Nobody else writes here (the home is locked for one node); somebody may look at the file with `sqlite3`."""

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
"""A full disk; the second is how SQLite reports a full quota (EDQUOT)."""

_Result = TypeVar("_Result")

NodeKey: TypeAlias = tuple[str, str]
"""`(swarm, node id)`."""


class StoredNode(NamedTuple):
    """One row: the mark and the last envelope of a node. `heard_ms`: wall clock when it was first heard."""

    swarm: str
    node_id: str
    sequence: int
    hash: bytes
    envelope: bytes
    heard_ms: int


class _Unusable(Exception):
    """The file is not a store of ours."""


class Database:
    """An open database. Every method raises `StoreError` when the disk refuses, and starts anew where the file is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._slot = Slot(path.with_suffix(".sequence"))
        self.notice = ""
        """What was set aside and why, for people; empty when nothing was."""
        self._connection = self._open()
        self._file = self._identity()
        self._slot.make()

    def load(self) -> list[StoredNode]:
        """Return everything that is remembered of nodes, of all swarms."""
        query = "SELECT swarm, node_id, sequence, hash, envelope, heard_ms FROM nodes"
        return self._retried(lambda: [StoredNode(*row) for row in self._connection.execute(query)])

    def write(self, nodes: Mapping[NodeKey, StoredNode | None], small: Mapping[str, bytes | None]) -> None:
        """Commit one batch; None forgets."""
        self._retried(lambda: self._write(nodes, small))

    def prune(self, before_ms: int) -> int:
        """Forget the nodes last heard before `before_ms`; return how many."""

        def prune() -> int:
            with self._connection:
                return self._connection.execute("DELETE FROM nodes WHERE heard_ms < ?", (before_ms,)).rowcount

        return self._retried(prune)

    def last_sequence(self) -> int | None:
        """Return the highest sequence that was reserved, None in a new store."""

        return self._retried(self._last)

    def reserve_sequence(self, now_ms: int, least: int | None) -> int:
        """Return the next own sequence, above `least` too, on disk: committed, or in its slot where a commit finds no room."""

        def reserve() -> int:
            known = [number for number in (self._last(), least) if number is not None]
            sequence = next_sequence(now_ms, max(known, default=None))
            try:
                with self._connection:
                    self._connection.execute("INSERT OR REPLACE INTO own (id, sequence) VALUES (1, ?)", (sequence,))
            except sqlite3.OperationalError as error:
                if _code(error) not in _NO_ROOM or not self._slot.write(sequence):
                    raise
            return sequence

        return self._retried(reserve)

    def _last(self) -> int | None:
        row = self._connection.execute("SELECT sequence FROM own").fetchone()
        known = [number for number in (None if row is None else int(row[0]), self._slot.read()) if number is not None]
        return max(known, default=None)

    def get(self, key: str) -> bytes | None:
        def read() -> bytes | None:
            row = self._connection.execute("SELECT value FROM small WHERE key = ?", (key,)).fetchone()
            return None if row is None else bytes(row[0])

        return self._retried(read)

    def close(self) -> None:
        self._connection.close()

    def _write(self, nodes: Mapping[NodeKey, StoredNode | None], small: Mapping[str, bytes | None]) -> None:
        with self._connection:  # commits, or rolls back and raises
            self._connection.executemany(_PUT, [row for row in nodes.values() if row is not None])
            gone = [key for key, row in nodes.items() if row is None]
            self._connection.executemany("DELETE FROM nodes WHERE swarm = ? AND node_id = ?", gone)
            kept = [(key, value) for key, value in small.items() if value is not None]
            self._connection.executemany("INSERT OR REPLACE INTO small (key, value) VALUES (?, ?)", kept)
            self._connection.executemany("DELETE FROM small WHERE key = ?", [(key,) for key in small if small[key] is None])

    def _retried(self, work: Callable[[], _Result]) -> _Result:
        """Do `work`; once more on a new file where the old one turns out to be damaged or gone."""
        try:
            if self._identity() != self._file:
                self._start_anew("it was moved away while the node ran", aside=False)
            return work()
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise self._explained(error) from error
            self._start_anew(f"it is damaged: {error}", aside=True)
        try:
            return work()
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except _Unusable as unusable:
            self._put_aside(str(unusable))
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise self._explained(error) from error
            self._put_aside(f"it is damaged: {error}")
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error.strerror}", _hint()) from error
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        try:
            self._check(connection)  # before anything is changed: it may be somebody else's file
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check(self, connection: sqlite3.Connection) -> None:
        """Make the schema in a new file; raise `_Unusable` for a file that is not ours or not whole."""

        def ask(question: str) -> int | str:
            answer: int | str = connection.execute(question).fetchone()[0]
            return answer

        application, version = ask("PRAGMA application_id"), ask("PRAGMA user_version")
        if application in (0, APPLICATION_ID) and not ask("SELECT count(*) FROM sqlite_master"):
            header = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION};"
            connection.executescript(f"BEGIN; {_SCHEMA} {header} COMMIT;")
            self._slot.clear()  # it belongs to the database that is gone
            return
        if application != APPLICATION_ID:
            raise _Unusable("it is another program's database")
        if version != SCHEMA_VERSION:
            raise _Unusable(f"another version of Dragon wrote it (schema {version}, this one reads {SCHEMA_VERSION})")
        if (found := ask("PRAGMA quick_check(1)")) != "ok":
            raise _Unusable(f"it is damaged: {found}")

    def _start_anew(self, why: str, *, aside: bool) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()
        if aside:
            self._put_aside(why)
        else:
            log.warning("%s: %s; a new one is begun", self._path, why)
        self._connection = self._open()
        self._file = self._identity()

    def _put_aside(self, why: str) -> None:
        place = set_aside(self._path)
        for suffix in ("-wal", "-shm"):  # they belong to that file; a new one must not read them
            with suppress(FileNotFoundError):
                self._path.with_name(self._path.name + suffix).rename(place.with_name(place.name + suffix))
        self.notice = f"{self._path} could not be used ({why}): kept as {place.name}, the memory of the swarm starts anew"
        log.warning("%s", self.notice)

    def _identity(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return (status.st_dev, status.st_ino)

    def _explained(self, error: sqlite3.DatabaseError) -> StoreError:
        if _code(error) == sqlite3.SQLITE_FULL:
            return StoreError(f"the disk of {self._path} is full", _hint("free some space"))
        if _code(error) == sqlite3.SQLITE_BUSY:
            return StoreError(f"{self._path} is locked by another program", _hint("close what has it open"))
        return StoreError(f"{self._path} cannot be written: {error}", _hint())


def _hint(first: str = "make its folder writable") -> str:
    return f"{first}; what could not be stored is kept in memory and tried again"


def _code(error: sqlite3.DatabaseError) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code, without SQLite's extensions


def _is_damage(error: sqlite3.DatabaseError) -> bool:
    return _code(error) in _DAMAGE

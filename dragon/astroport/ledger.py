"""Files replaced with a way back: a copy first, then a line in the ledger, then the file itself, each on disk before the next.

A kill at any moment leaves a ledger from which the change can be finished or taken back. What somebody else wrote since is
never overwritten by a restore: it stays, and so does the copy.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from dragon.errors import HomeError, LocalError
from dragon.home import set_aside, write_atomically

MAX_LEDGER = 1 << 20
MAX_FILE = 4 << 20
"""Bytes of a file that is replaced: scripts, units and settings have kilobytes."""

Restored = Literal["restored", "removed", "untouched", "foreign"]
"""`untouched`: it was never replaced; `foreign`: somebody wrote it since, so it stays and the copy too."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One file as it was. `copy`: its name among the copies, "" where there was no file; `link`: where a symlink led."""

    path: str
    copy: str
    before: str
    written: str
    mode: int = 0
    uid: int = -1
    gid: int = -1
    mtime_ns: int = 0
    link: str = ""


class Ledger:
    """The ledger of one folder below DRAGON_HOME. Use within `held`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "manifest.json"
        self.options: dict[str, str] = {}
        """What the change was asked with, for the way back."""
        self._entries: dict[str, Entry] = {}
        self._folders: list[str] = []
        self.notice = ""
        self._load()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other commands from changing the same things meanwhile. Raises `LocalError` when one does."""
        with _explained(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LocalError("another takeover or release is under way", "wait until it has ended") from None
            self._load()
            yield
        finally:
            os.close(descriptor)
            for folder in (self.folder / "copies", self.folder, self.folder.parent):  # an empty ledger leaves nothing
                with suppress(OSError):
                    folder.rmdir()

    @property
    def exists(self) -> bool:
        """Whether a change was begun and not taken back."""
        return bool(self.options) or bool(self._entries)

    def begin(self, options: Mapping[str, str]) -> None:
        """Note what is about to be done."""
        self.options = dict(options)
        self._save()

    def replace(self, path: Path, data: bytes, mode: int) -> None:
        """Make `path` a file with this content and mode, keeping what was there. Raises `HomeError`, `LocalError`."""
        if holds(path, data, mode):
            return
        now = _look(path)
        known = self._entries.get(str(path))
        if known is None or (now is not None and _hash_of(path) != known.written):
            known = self._keep(path, now)
        self._entries[str(path)] = replace(known, written=_hash(data))
        self._make_folders(path.parent)
        self._save()
        write_atomically(path, data, mode)  # a link is replaced itself, not what it leads to
        self._own(path, known)

    def restore(self, path: Path) -> Restored:
        """Put back what was there. A second time, or for a path that was never replaced, nothing happens."""
        entry = self._entries.get(str(path))
        if entry is None:
            return "untouched"
        now = _hash_of(path)
        outcome: Restored = "untouched"
        if now == entry.written or (now == "" and entry.before):
            outcome = self._put_back(path, entry)
        elif now != entry.before:
            outcome = "foreign"
        if outcome != "foreign" and not entry.link and entry.before and _look(path) is not None:
            self._own(path, entry, times=True)
        if outcome != "foreign" and entry.copy:  # first the copy: what it holds stands in its place again
            with suppress(FileNotFoundError):
                (self.folder / "copies" / entry.copy).unlink()
        del self._entries[str(path)]
        self._save()
        return outcome

    def paths(self) -> list[Path]:
        """Return the files that are replaced, the latest last."""
        return [Path(path) for path in self._entries]

    def copy_of(self, path: Path) -> Path | None:
        """Return where the former content of `path` lies, None when there was none or it is not known."""
        entry = self._entries.get(str(path))
        copy = self.folder / "copies" / entry.copy if entry is not None and entry.copy else None
        return copy if copy is not None and copy.is_file() else None

    def end(self) -> None:
        """Forget the change, which has been taken back: folders that were made for it go where they are empty."""
        for folder in reversed(self._folders):
            with suppress(OSError):
                Path(folder).rmdir()
        self.options, self._entries, self._folders = {}, {}, []
        with _explained(self._file):
            self._file.unlink(missing_ok=True)

    def _keep(self, path: Path, now: os.stat_result | None) -> Entry:
        """Copy what is there. The ledger names the copy first, so that a kill in between leaves no copy that nobody knows."""
        if now is None:
            return Entry(str(path), "", "", "")
        facts: dict[str, Any] = {
            "mode": stat.S_IMODE(now.st_mode), "uid": now.st_uid, "gid": now.st_gid, "mtime_ns": now.st_mtime_ns,
        }  # fmt: skip
        if stat.S_ISLNK(now.st_mode):
            return Entry(str(path), "", _hash_of(path), "", link=str(path.readlink()), **facts)
        if not stat.S_ISREG(now.st_mode) or now.st_size > MAX_FILE:
            raise LocalError(f"{path} is no ordinary file", "look what it is, and move it away")
        with _explained(path):
            data = path.read_bytes()
            copies = self.folder / "copies"
            copies.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._entries.get(str(path))
        name = known.copy if known is not None and known.before == _hash(data) else self._free_name(copies, path.name)
        entry = Entry(str(path), name, _hash(data), "", **facts)
        self._entries[str(path)] = entry
        self._save()
        write_atomically(copies / name, data)
        return entry

    def _free_name(self, copies: Path, name: str) -> str:
        taken = {entry.copy for entry in self._entries.values()}
        number = 1
        while f"{number}-{name}" in taken or (copies / f"{number}-{name}").exists():
            number += 1
        return f"{number}-{name}"

    def _put_back(self, path: Path, entry: Entry) -> Restored:
        with _explained(path):
            if entry.link:
                path.unlink(missing_ok=True)
                path.symlink_to(entry.link)
                return "restored"
            if not entry.before:
                path.unlink(missing_ok=True)
                return "removed"
            data = (self.folder / "copies" / entry.copy).read_bytes()
        if _hash(data) != entry.before:
            raise LocalError(f"the copy of {path} is damaged", f"compare {self.folder / 'copies' / entry.copy} with it by hand")
        write_atomically(path, data, entry.mode)
        return "restored"

    def _own(self, path: Path, entry: Entry, *, times: bool = False) -> None:
        """Give the file its former owner (which only root can), and when restored its mode and time."""
        with _explained(path):
            now = path.lstat()
            if entry.uid >= 0 and (now.st_uid, now.st_gid) != (entry.uid, entry.gid):
                with suppress(PermissionError):
                    os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
            if times:
                path.chmod(entry.mode)
                os.utime(path, ns=(now.st_atime_ns, entry.mtime_ns))

    def _make_folders(self, folder: Path) -> None:
        missing = []
        while not folder.exists():
            missing.append(folder)
            folder = folder.parent
        self._folders += [str(each) for each in reversed(missing) if str(each) not in self._folders]
        if missing:
            self._save()
            with _explained(missing[0]):
                missing[0].mkdir(parents=True, exist_ok=True)

    def _save(self) -> None:
        document = {
            "version": 1, "options": self.options, "folders": self._folders,
            "entries": [asdict(entry) for entry in self._entries.values()],
        }  # fmt: skip
        write_atomically(self._file, json.dumps(document, indent=1).encode())

    def _load(self) -> None:
        self.options, self._entries, self._folders = {}, {}, []
        try:
            data = self._file.read_bytes()[: MAX_LEDGER + 1]
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise HomeError(f"{self._file}: {error.strerror or error}", "make DRAGON_HOME readable") from error
        try:
            document = json.loads(data)
            self.options = {str(key): str(value) for key, value in document["options"].items()}
            self._folders = [str(each) for each in document["folders"]]
            self._entries = {each["path"]: Entry(**each) for each in document["entries"]}
        except (ValueError, LookupError, TypeError, AttributeError):
            place = set_aside(self._file)
            self.notice = f"the ledger could not be read and is kept as {place}; the copies lie beside it"


def holds(path: Path, data: bytes, mode: int) -> bool:
    """Whether `path` is a file with this content and mode."""
    status = _look(path)
    if status is None or not stat.S_ISREG(status.st_mode) or stat.S_IMODE(status.st_mode) != mode:
        return False
    with _explained(path):
        return status.st_size == len(data) and path.read_bytes() == data


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror or error}", "make it readable") from error


def _hash_of(path: Path) -> str:
    """Return what identifies the content of `path`: "" for nothing, the target of a link, else a hash of its bytes."""
    status = _look(path)
    if status is None:
        return ""
    with _explained(path):
        if stat.S_ISLNK(status.st_mode):
            return f"link:{path.readlink()}"
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
            return "something else"
        return _hash(path.read_bytes())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror or error}", "see who owns it, and whether the disk has room") from error

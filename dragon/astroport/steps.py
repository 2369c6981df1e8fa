"""The steps of a takeover: each a small value that says why, knows whether it is done, does it, and takes it back."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dragon.astroport.ledger import Ledger, holds
from dragon.astroport.toml_key import get_text, set_text, unset
from dragon.astroport.unit import Manager
from dragon.errors import HomeError, LocalError
from dragon.home import write_atomically

CONFIG_MODE = 0o600


class Step(Protocol):
    """`do` and `undo` may be repeated, and return what a person must know or do besides, line by line."""

    @property
    def name(self) -> str: ...

    @property
    def why(self) -> str: ...

    def shows(self) -> list[str]:
        """Return what it does, for people: paths and commands."""
        ...

    def is_done(self) -> bool: ...

    def do(self) -> list[str]: ...

    def undo(self) -> list[str]: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it is to be."""

    path: Path
    data: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Files:
    """Files in the place of others; copies are kept."""

    name: str
    why: str
    ledger: Ledger
    files: tuple[Wanted, ...]

    def shows(self) -> list[str]:
        return [f"{'replace' if _exists(file.path) else 'write'} {file.path}" for file in self.files]

    def is_done(self) -> bool:
        return all(holds(file.path, file.data, file.mode) for file in self.files)

    def do(self) -> list[str]:
        for file in self.files:
            self.ledger.replace(file.path, file.data, file.mode)
        return []

    def undo(self) -> list[str]:
        return [note for file in self.files for note in put_back(self.ledger, file.path)]


@dataclass(frozen=True, slots=True)
class ConfigKey:
    """One text of config.toml; everything else of the file stays."""

    name: str
    why: str
    ledger: Ledger
    file: Path
    section: str
    key: str
    value: str

    def shows(self) -> list[str]:
        return [f'set [{self.section}] {self.key} = "{self.value}" in {self.file}']

    def is_done(self) -> bool:
        return get_text(self._text(), self.section, self.key) == self.value

    def do(self) -> list[str]:
        text = set_text(self._text(), self.section, self.key, self.value)
        mode = stat.S_IMODE(self.file.stat().st_mode) if _exists(self.file) else CONFIG_MODE
        self.ledger.replace(self.file, text.encode(), mode)
        return []

    def undo(self) -> list[str]:
        """Put the file back; where it was edited since, only this key."""
        copy = self.ledger.copy_of(self.file)
        former = get_text(copy.read_text(), self.section, self.key) if copy is not None else None
        if self.ledger.restore(self.file) == "foreign" and self.is_done():
            text = self._text()
            text = unset(text, self.section, self.key) if former is None else set_text(text, self.section, self.key, former)
            write_atomically(self.file, text.encode(), stat.S_IMODE(self.file.stat().st_mode))
        return []

    def _text(self) -> str:
        try:
            return self.file.read_bytes().decode()
        except FileNotFoundError:
            return ""
        except (OSError, UnicodeDecodeError) as error:
            raise HomeError(f"{self.file} cannot be read: {error}", "make it a readable text file") from error


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit file, where systemd reads it; by hand where we may not write there."""

    name: str
    why: str
    ledger: Ledger
    manager: Manager
    file: Wanted
    staged: Path
    """Where the text lies for a person who has to install it."""

    def shows(self) -> list[str]:
        return [f"write {self.file.path}", *self.manager.commands("daemon-reload")]

    def is_done(self) -> bool:
        return holds(self.file.path, self.file.data, self.file.mode)

    def do(self) -> list[str]:
        if not self.manager.may_write:
            self.staged.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self.staged, self.file.data, self.file.mode)
            return [f"sudo install -m 0644 {self.staged} {self.file.path}", *self.manager.commands("daemon-reload")]
        self.ledger.replace(self.file.path, self.file.data, self.file.mode)
        left = self.manager.call("daemon-reload")
        if self.manager.is_running(self.file.path.name):  # with another unit than before
            left += self.manager.call("restart", self.file.path.name)
        return left

    def undo(self) -> list[str]:
        self.staged.unlink(missing_ok=True)
        if not self.manager.may_write:
            if not _exists(self.file.path):
                return []
            return [f"sudo rm {self.file.path}", *self.manager.commands("daemon-reload")]
        return put_back(self.ledger, self.file.path) + self.manager.call("daemon-reload")


@dataclass(frozen=True, slots=True)
class Service:
    """The node as a service: running now and after every start of the machine."""

    name: str
    why: str
    manager: Manager
    unit: str
    user: str
    answers: Callable[[], bool]
    """Whether a node runs here, by whomever it was started."""

    def shows(self) -> list[str]:
        return self.manager.commands("enable", "--now", self.unit)

    def is_done(self) -> bool:
        return (not self.manager.works or self.manager.is_running(self.unit)) and self.answers()

    def do(self) -> list[str]:
        runs = self.manager.is_running(self.unit)
        if not runs and self.manager.works and self.answers():
            raise LocalError("a node runs here that this service did not start", "end that one: two cannot share one home")
        left = [] if runs else self.manager.call("enable", "--now", self.unit)
        if self.answers():
            return left + self._notes()
        raise LocalError(
            "no node runs here yet",
            " ; ".join(left) or f"see `{self.manager.shown('status', self.unit)}`, or start one: dragon serve",
        )

    def _notes(self) -> list[str]:
        if self.manager.stays(self.user):
            return []
        return [f"so that it outlives {self.user}'s logout: sudo loginctl enable-linger {self.user}"]

    def undo(self) -> list[str]:
        left = self.manager.call("disable", "--now", self.unit) if self.manager.knows(self.unit) else []
        if self.answers():
            left.append("a node still runs here, and goes on offering: stop it where it was started")
        return left


@dataclass(frozen=True, slots=True)
class BashListeners:
    """The listeners that the Bash DRAGON opened, so that Dragon's own take their place."""

    name: str
    why: str
    find: Callable[[], list[str]]
    """Returns the protocols of those that stand."""
    close: Callable[[], None]

    def shows(self) -> list[str]:
        return [f"ipfs p2p close --protocol={protocol}" for protocol in self.find()]

    def is_done(self) -> bool:
        return not self.find()

    def do(self) -> list[str]:
        self.close()
        return []

    def undo(self) -> list[str]:
        return []


def put_back(ledger: Ledger, path: Path) -> list[str]:
    """Restore one file, and say so where somebody wrote it since."""
    copy = ledger.copy_of(path)
    if ledger.restore(path) != "foreign":
        return []
    return [f"{path} was changed since and stays as it is" + (f"; what was there before: {copy}" if copy else "")]


def _exists(path: Path) -> bool:
    return path.exists() or path.is_symlink()

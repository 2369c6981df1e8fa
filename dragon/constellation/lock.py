"""One run at a time, ours or the scripts': lock files that hold their owner's process id, and the kernel's lock on them.

The scripts of a station use both ways, each alone: one locks the file (flock), another only looks whether the process whose
number stands in it lives. Both are honoured and both are done. What somebody else wrote is never cut off or removed: a file is
written to only while its lock is ours and its owner dead, and at the end it is emptied only if it is still the one we hold.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dragon.errors import HomeError, LocalError
from dragon.kubo.process import lock_holder

HEAD = 64
"""Bytes read of a lock file: a process id and a newline."""

ATTEMPTS = 5
"""Openings of one path: each time somebody removed it between our opening and our lock."""

SLACK = 5.0
"""Seconds that a process may seem to have started after it wrote its lock: clock ticks, and a clock that was set."""

_PID = re.compile(r"\s*([1-9]\d{0,9})\s*")


@dataclass(frozen=True, slots=True)
class Owner:
    """Who has a lock: 0 for a process that cannot be told. `age` in seconds since the file was written."""

    path: Path
    pid: int
    age: float

    @property
    def shown(self) -> str:
        who = f"pid {self.pid}" if self.pid else "another process"
        return f"{who} for {_span(self.age)}, by {self.path}"


class RunGoesOn(LocalError):
    """Another run holds a lock."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        super().__init__(f"a run is going on ({owner.shown})", "wait for its end: dragon sync status")


class Held:
    """Our lock on one file, as long as it is open."""

    def __init__(self, path: Path, descriptor: int, stale: Owner | None) -> None:
        self.path = path
        self.stale = stale
        """The dead owner that we took over from."""
        self._descriptor = descriptor

    @property
    def stands(self) -> bool:
        """Whether the path still leads to the file that we hold: others' scripts remove what is not theirs."""
        return _same(self._descriptor, self.path)

    def sign(self) -> None:
        """Write our process id into the file, also where another script's opening emptied it. Raises `HomeError`."""
        mine = f"{os.getpid()}\n".encode()
        try:
            if os.pread(self._descriptor, HEAD, 0) != mine:
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, mine, 0)
        except OSError as error:
            raise HomeError(f"{self.path} cannot be written: {error.strerror or error}", "is the disk full?") from None

    def release(self) -> None:
        if self.stands and os.pread(self._descriptor, HEAD, 0) == f"{os.getpid()}\n".encode():
            os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


class Locks:
    """All locks of one run."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._held: list[Held] = []
        try:
            for path in paths:
                self._held.append(_take(path))
        except BaseException:
            self.release()
            raise

    @property
    def taken_over(self) -> list[Owner]:
        """Dead owners whose locks were standing."""
        return [held.stale for held in self._held if held.stale is not None]

    def renew(self) -> list[Path]:
        """Take again what another script removed under us, and sign what it emptied; return the paths that were lost.

        Called now and then during a run. A lock that a living process got hold of meanwhile stays lost: the run ends as it
        would have, the other one goes on.
        """
        lost: list[Path] = []
        for number, held in enumerate(self._held):
            if held.stands:
                with suppress(HomeError):  # the kernel's lock stands all the same
                    held.sign()
                continue
            lost.append(held.path)
            with suppress(RunGoesOn, HomeError):
                again = _take(held.path)
                held.release()
                self._held[number] = again
        return lost

    def release(self) -> None:
        while self._held:
            self._held.pop().release()


@contextmanager
def locked(paths: Sequence[Path]) -> Iterator[Locks]:
    """Hold all of `paths`. Raises `RunGoesOn` with its owner, or `HomeError`."""
    with ExitStack() as stack:
        locks = Locks(paths)
        stack.callback(locks.release)
        yield locks


def owner_of(path: Path) -> Owner | None:
    """Return who holds `path` now, None when nobody does. Changes nothing, raises nothing."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return _owner(descriptor, path)
        return _living(descriptor, path)
    finally:
        os.close(descriptor)


def _take(path: Path) -> Held:
    """Return our lock on `path`. Raises `RunGoesOn` or `HomeError`."""
    for _ in range(ATTEMPTS):
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = _owner(descriptor, path)
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise HomeError(f"{path} cannot be locked: {error.strerror}", "use a file system that has locks") from None
            raise RunGoesOn(owner) from None
        if not _same(descriptor, path):
            os.close(descriptor)
            continue
        living = _living(descriptor, path)
        if living is not None:
            os.close(descriptor)
            raise RunGoesOn(living)
        held = Held(path, descriptor, _dead(descriptor, path))
        try:
            held.sign()
        except HomeError:
            held.release()
            raise
        return held
    raise RunGoesOn(Owner(path, 0, 0.0))


def _open(path: Path) -> int:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise HomeError(f"{path} cannot be written: {error.strerror or error}", "make it yours, or remove it") from None


def _same(descriptor: int, path: Path) -> bool:
    try:
        ours, there = os.fstat(descriptor), path.stat(follow_symlinks=False)
    except OSError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)


def _named(descriptor: int) -> int:
    match = _PID.fullmatch(os.pread(descriptor, HEAD, 0).decode(errors="replace"))
    return int(match[1]) if match else 0


def _owner(descriptor: int, path: Path) -> Owner:
    return Owner(path, _named(descriptor) or lock_holder(path) or 0, _age(descriptor))


def _living(descriptor: int, path: Path) -> Owner | None:
    """Return the owner that is named in the file if it lives: who locks by its number alone."""
    pid = _named(descriptor)
    if not pid or pid == os.getpid():
        return None
    started = _started(pid)
    if started is None or started > os.fstat(descriptor).st_mtime + SLACK:  # its number was given to somebody else
        return None
    return Owner(path, pid, _age(descriptor))


def _dead(descriptor: int, path: Path) -> Owner | None:
    pid = _named(descriptor)
    return Owner(path, pid, _age(descriptor)) if pid and pid != os.getpid() else None


def _age(descriptor: int) -> float:
    return max(time.time() - os.fstat(descriptor).st_mtime, 0.0)


def _started(pid: int) -> float | None:
    """Return when a process started, in seconds since the epoch; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()
        boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    except (OSError, StopIteration):
        return 0.0 if not Path("/proc/self").is_dir() and _answers(pid) else None
    if fields[0] in ("Z", "X"):
        return None
    return int(boot.split()[1]) + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _span(seconds: float) -> str:
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"

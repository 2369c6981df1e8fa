"""One daemon process, started by us or found running: wait for its end and signal it without mistaking it for another.

A process of ours carries `MARK` in its environment with the repo it serves. So a daemon whose node was killed is recognised
by the next start, whatever was or was not written to disk in time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "DRAGON_KUBO_REPO"
"""Environment variable of every daemon we start; its value is the repo."""

_PROC = Path("/proc/self")

POLL = 0.1
"""Seconds between two looks at a process where the kernel cannot tell us of its end."""

GIVEN_UP = 5.0
"""Seconds for a process to end whose start was given up: it has hardly begun, and holds nothing yet."""


class DaemonProcess:
    """`child` is None for a process that an earlier node started."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        self.pid = pid
        self._child = child
        self._pidfd = _pidfd(pid)

    @classmethod
    async def start(cls, command: Sequence[str | Path], environment: Mapping[str, str], log: Path) -> DaemonProcess:
        """Start in a session of its own (Ctrl-C is for the node, which stops its daemon in order), output into `log`.

        Cancelled halfway it ends the process, which nobody else could: it is not known to anybody yet. Raises `OSError`.
        """

        def spawn() -> subprocess.Popen[bytes]:
            with log.open("ab") as output:
                return subprocess.Popen(
                    command,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

        starting = asyncio.ensure_future(asyncio.to_thread(spawn))
        try:
            child = await asyncio.shield(starting)
        except asyncio.CancelledError:
            with suppress(OSError):
                child = await starting
                await cls(child.pid, child).stop(GIVEN_UP)
            raise
        return cls(child.pid, child)

    @property
    def alive(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return not _is_zombie(self.pid)

    @property
    def exit_code(self) -> int | None:
        """How it ended (minus the signal that killed it); None while it runs, and of a process that an earlier node started."""
        return None if self._child is None else self._child.poll()

    async def wait(self) -> None:
        """Return when the process has ended."""
        if self._pidfd is not None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            loop.add_reader(self._pidfd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._pidfd)
        while self.alive:  # noqa: ASYNC110  where there is no pidfd there is no event either
            await asyncio.sleep(POLL)

    def send(self, number: signal.Signals) -> None:
        """Signal this very process; nothing happens when it is gone, even if its number was given to another."""
        if not self.alive:
            return
        try:
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            pass

    async def stop(self, grace: float) -> bool:
        """End it: politely for `grace` seconds, then not. Return whether it went politely."""
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self.wait()
        except TimeoutError:
            await self.kill()
            return False
        self.forget()
        return True

    async def kill(self) -> None:
        self.send(signal.SIGKILL)
        await self.wait()
        self.forget()

    def forget(self) -> None:
        """Release what the kernel gave us to watch it."""
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None


def left_over(repo: Path) -> int | None:
    """Return the pid of a daemon that an earlier node started for `repo` and that still runs."""
    wanted = f"{MARK}={repo}"
    return next((pid for pid in _pids() if wanted in _environment(pid) and not _is_zombie(pid)), None)


def executable(pid: int) -> Path | None:
    """Return the program file of a process, None where it cannot be read."""
    try:
        return Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return None


def lock_holder(file: Path) -> int | None:
    """Return the pid that holds a lock on `file`, as far as `/proc/locks` tells."""
    try:
        inode = str(file.stat().st_ino)
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for fields in map(str.split, lines):  # 1: POSIX ADVISORY WRITE 4242 fe:01:131 0 EOF
        if len(fields) > 5 and fields[5].rsplit(":", 1)[-1] == inode and fields[4].isdecimal():
            return int(fields[4])
    return None


def _pids() -> list[int]:
    if _PROC.is_dir():
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    import psutil  # where there is no /proc; it costs memory that Linux need not pay

    return list(psutil.pids())


def _environment(pid: int) -> list[str]:
    """The environment of a process of this user; empty for others' and for those that are gone."""
    if _PROC.is_dir():
        try:
            return os.fsdecode(Path(f"/proc/{pid}/environ").read_bytes()).split("\0")
        except OSError:
            return []
    import psutil

    try:
        return [f"{name}={value}" for name, value in psutil.Process(pid).environ().items()]
    except psutil.Error:
        return []


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()[0] == "Z"
    except (OSError, IndexError):
        return False


def _pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None

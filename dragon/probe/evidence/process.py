"""Processes by name, as pgrep matches them: a pattern searched in the kernel's name of the process (15 characters at most)."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from dragon.probe.evidence.sighting import CannotTell, Sighting

KERNEL_NAME_LENGTH = 15
"""TASK_COMM_LEN - 1: the kernel cuts longer names, and pgrep never matches beyond."""


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    name: str
    uid: int
    """Its user; -1 where unknown."""


def running(own: frozenset[int] = frozenset()) -> list[Process]:
    """Return all live processes but `own`. Reads /proc (10 µs a process): call it in a thread."""
    if sys.platform != "linux":
        return _by_psutil(own)
    found: list[Process] = []
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]  # noqa: PTH208
    except OSError as error:
        raise CannotTell(f"/proc cannot be read: {error.strerror}") from error
    for pid in pids:
        if pid in own:
            continue
        try:
            descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            try:
                uid, stat = os.fstat(descriptor).st_uid, os.read(descriptor, 512)
            finally:
                os.close(descriptor)
        except OSError:
            continue  # it ended
        if (process := parse_stat(stat, uid)) is not None:
            found.append(process)
    return found


def parse_stat(stat: bytes, uid: int) -> Process | None:
    """Return the process in a line of /proc/PID/stat (proc(5)), None for a dead one that is merely not collected yet."""
    head, bracket, rest = stat.rpartition(b")")
    pid, _, name = head.partition(b" (")
    if not bracket or rest[1:2] in (b"Z", b"X"):
        return None
    return Process(int(pid), name.decode("utf-8", "replace"), uid)


def match(pattern: str, processes: Iterable[Process]) -> list[Process]:
    """Return the processes whose name `pgrep pattern` would print."""
    found = re.compile(pattern).search
    return [each for each in processes if found(each.name)]


def sight(pattern: str, processes: Iterable[Process]) -> Sighting:
    """Return whether a process of that name runs."""
    matching = match(pattern, processes)
    if matching:
        return Sighting(True, f"process {matching[0].name} (pid {matching[0].pid})")
    cut = f" (the kernel keeps {KERNEL_NAME_LENGTH} characters of a name)" if len(pattern) > KERNEL_NAME_LENGTH else ""
    return Sighting(False, f"no process {pattern}{cut}")


def _by_psutil(own: frozenset[int]) -> list[Process]:
    import psutil  # only where there is no /proc: 8 MB that Linux nodes spare

    named = ((each.pid, each.info["name"]) for each in psutil.process_iter(["name"]))
    return [Process(pid, name[:KERNEL_NAME_LENGTH], -1) for pid, name in named if name and pid not in own]

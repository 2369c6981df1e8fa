"""What this machine has and how busy it is, as the manifest states it. Numbers only: no names, no addresses."""

from __future__ import annotations

import os


def capacity() -> dict[str, int]:
    """Return `cores` and `memory_mb` of this machine (those that this process may use)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"cores": cores, "memory_mb": memory // (1024 * 1024)}


def machine_load() -> int:
    """Return the load average of the last minute in thousandths of all cores, at most 1000."""
    average, _, _ = os.getloadavg()
    return min(1000, round(1000 * average / capacity()["cores"]))

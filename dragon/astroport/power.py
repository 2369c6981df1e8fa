"""How powerful this machine is, by the stations' own measure: where no heartbox_analysis told it, others still rank by it.

Source: ASTROPORT facts 2.3: `power_score` = gigabytes of video memory × 4 + cores × 2 + gigabytes of memory / 2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

SMI_BOUND: Final = 10.0
"""Seconds for nvidia-smi: it wakes a sleeping card, which takes some."""

BRAIN: Final = 40
STANDARD: Final = 10
"""Scores above which a station is a brain, or at least standard."""

_CARDS = Path("/sys/class/drm")


@dataclass(frozen=True, slots=True)
class Machine:
    """What counts: cores, and megabytes of memory and of video memory."""

    cores: int
    memory_mb: int
    vram_mb: int = 0

    @property
    def score(self) -> int:
        return round(self.vram_mb / 1024 * 4 + self.cores * 2 + self.memory_mb / 1024 / 2)

    @property
    def tier(self) -> str:
        if self.score > BRAIN:
            return "brain-gpu" if self.vram_mb else "brain-cpu"
        return "standard" if self.score > STANDARD else "light"


@cache  # hardware does not change while we run
def this_machine() -> Machine:
    """Return this machine's; the first call may ask nvidia-smi."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(os.cpu_count() or 1, memory // (1024 * 1024), video_memory_mb())


def video_memory_mb(cards: Path = _CARDS) -> int:
    """Return the megabytes of video memory of all cards that tell: NVIDIA's by their tool, AMD's by the kernel."""
    return _of_nvidia() + sum(_of_kernel(cards))


def _of_nvidia() -> int:
    program = shutil.which("nvidia-smi")
    if program is None:
        return 0
    command = [program, "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=SMI_BOUND, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    lines = done.stdout[:4096].split() if done.returncode == 0 else []
    return sum(int(line) for line in lines if line.isdigit() and len(line) < 8)


def _of_kernel(cards: Path) -> Iterator[int]:
    for file in sorted(cards.glob("card*/device/mem_info_vram_total")):
        with suppress(OSError, ValueError):
            yield int(file.read_text()) // (1024 * 1024)

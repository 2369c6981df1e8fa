"""What of the Bash side is on this machine: looked at, never run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dragon.astroport.scripts_running import PUBLISHER, running_scripts
from dragon.astroport.shims import is_ours
from dragon.astroport.zen import Zen

Part = Literal["original", "dragon", "absent"]

HEAD = 4096
"""Bytes of a script that are looked at: Dragon's own stand-ins are shorter."""


@dataclass(frozen=True, slots=True)
class BashParts:
    """`managers`: originals among the *.me.sh; `running`: which of the station's scripts run now.

    `publishes`: _12345.sh is among them, which publishes the station's directory.
    """

    dragon_script: Part
    managers: int
    stand_ins: int
    running: tuple[str, ...]

    @property
    def publishes(self) -> bool:
        return PUBLISHER in self.running

    def document(self) -> dict[str, Any]:
        return asdict(self)


def bash_parts(zen: Zen, environ: Mapping[str, str]) -> BashParts:
    """Return what lies and runs there. Reads /proc: call it in a thread from async code."""
    found = [_part(path) for path in sorted(zen.services.glob("*.me.sh"))] if zen.services.is_dir() else []
    return BashParts(
        dragon_script=_part(zen.dragon_script),
        managers=found.count("original"),
        stand_ins=found.count("dragon"),
        running=tuple(sorted({script.name for script in running_scripts(environ, uid=os.getuid() or None)})),
    )


def _part(path: Path) -> Part:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return "absent"
    return "dragon" if is_ours(head) else "original"

"""Which of the station's own scripts run now: by the names of processes, which is all that they leave to be seen by.

Their lock and stamp files outlive them (ASTROPORT facts 1.1, 2.4), so only a living process counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PUBLISHER: Final = "_12345.sh"
"""Publishes the station's IPNS names, serves port 12345, finds other stations."""

DRAGON: Final = "DRAGON_p2p_ssh.sh"
"""Opens the listeners of the services, and closes all of them (`off`)."""

PARTS: Final = frozenset({PUBLISHER, DRAGON, "12345.sh", "20h12.process.sh", "backfill_constellation.sh"})

_SHELLS: Final = frozenset({"bash", "sh", "dash"})
_MAX_WORDS = 65536


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    pid: int


def running_scripts(environ: Mapping[str, str], *, proc: Path = Path("/proc"), uid: int | None = None) -> tuple[Script, ...]:
    """Return the running scripts of this station, ascending by pid. Blocks; empty where there is no /proc.

    Of this station: run by this user (`uid`; None: by anybody), and with the same HOME where that can be seen.
    """
    found = []
    for entry in proc.iterdir() if proc.is_dir() else ():
        if not entry.name.isdecimal():
            continue
        try:
            if uid is not None and entry.stat().st_uid != uid:
                continue
            name = script_in(_words(entry / "cmdline"))
        except OSError:
            continue  # it ended, or nobody may look at it
        if name is not None and _home(entry) in (None, environ.get("HOME")):
            found.append(Script(name, int(entry.name)))
    return tuple(sorted(found, key=lambda script: script.pid))


def script_in(words: list[str]) -> str | None:
    """Return which of the station's scripts a process runs: the program itself, or a shell's first word that is no option."""
    if not words:
        return None
    program = words[0].rpartition("/")[2]
    first: Iterable[str] = words[1:] if program in _SHELLS else words[:1]
    name = next((word.rpartition("/")[2] for word in first if not word.startswith("-")), "")
    return name if name in PARTS else None


def _words(file: Path) -> list[str]:
    with file.open("rb") as stream:
        return [word.decode("utf-8", "replace") for word in stream.read(_MAX_WORDS).split(b"\0") if word]


def _home(process: Path) -> str | None:
    """Return a process's HOME, None where it cannot be read."""
    try:
        words = _words(process / "environ")
    except OSError:
        return None
    return next((word.removeprefix("HOME=") for word in words if word.startswith("HOME=")), None)

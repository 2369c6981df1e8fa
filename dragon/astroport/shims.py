"""Scripts of two lines that call Dragon, for programs that know the originals by their paths.

The connection managers (`*.me.sh`) call `dragon me`; NIP-101's sync scripts call `dragon sync`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dragon.astroport.services import SCRIPT_NAMES
from dragon.errors import HomeError, LocalError
from dragon.home import set_aside, write_atomically

EXECUTABLE = 0o755

SYNC_SCRIPTS = {"backfill_constellation.sh": "backfill", "constellation_sync_trigger.sh": "trigger"}
"""NIP-101's scripts → what `dragon sync --as` calls them."""

_OURS = re.compile(r"#!/bin/sh\nexec [^\n]+ (?:me [a-z0-9-]+|sync --as [a-z]+) \"\$@\"\n")

_WRAPPER = re.compile(
    r"#!/bin/sh\n# Dragon stands in for [^\n]+\ncase [^\n]+\n"
    r"[^\n]+ astroport stop ;;\n[^\n]+ astroport start ;;\nesac [^\n]+\n"
)

Change = Literal["written", "unchanged", "replaced"]


@dataclass(frozen=True, slots=True)
class Shim:
    """One file of a folder. `kept` is where a foreign file of its name lies now."""

    path: Path
    change: Change
    kept: Path | None = None


def text_of(slug: str, command: Iterable[str]) -> str:
    """Return the script that calls `dragon me <slug>`; `command` is the dragon executable with its leading arguments."""
    return _script(command, f"me {slug}")


def sync_scripts(folder: Path, command: Iterable[str]) -> dict[Path, str]:
    """Return the scripts that stand in for NIP-101's in `folder`."""
    words = tuple(command)
    return {folder / name: _script(words, f"sync --as {role}") for name, role in SYNC_SCRIPTS.items()}


def wrapper_text(command: Iterable[str]) -> str:
    """Return what stands in for RUNTIME/DRAGON_p2p_ssh.sh: OFF and stop withdraw, everything else offers; exit code 0 or 1."""
    words = _called(command)
    return f"""#!/bin/sh
# Dragon stands in for the script that was here; `dragon astroport release` puts that back.
case "$1" in
    [Oo][Ff][Ff] | [Ss][Tt][Oo][Pp]) {words} astroport stop ;;
    *) {words} astroport start ;;
esac || exit 1
"""


def _script(command: Iterable[str], words: str) -> str:
    return f'#!/bin/sh\nexec {_called(command)} {words} "$@"\n'


def _called(command: Iterable[str]) -> str:
    called = shlex.join(command)
    if "\n" in called:
        raise LocalError("the path of dragon has a line break", "install it somewhere else")
    return called


def is_ours(data: bytes) -> bool:
    """Tell whether a script is one of those that are written here, whatever dragon it calls."""
    text = data.decode("utf-8", "replace")
    return _OURS.fullmatch(text) is not None or _WRAPPER.fullmatch(text) is not None


def files(slugs: Iterable[str]) -> dict[str, str]:
    """Return file name → slug for `slugs` and for the scripts that are not called by theirs."""
    named = {f"{slug}.me.sh": slug for slug in slugs}
    return {**named, **{f"{name}.me.sh": slug for name, slug in SCRIPT_NAMES.items() if slug in named.values()}}


def write(folder: Path, slugs: Iterable[str], command: tuple[str, ...], *, force: bool = False) -> list[Shim]:
    """Write the managers' scripts into `folder` and return what was done, by name; see `write_scripts`."""
    wanted = {folder / name: text_of(slug, command) for name, slug in sorted(files(slugs).items())}
    return write_scripts(folder, wanted, force=force)


def write_scripts(folder: Path, wanted: Mapping[Path, str], *, force: bool = False) -> list[Shim]:
    """Write `wanted` (path in `folder` → text), each executable, and return what was done.

    Raises `LocalError` naming the files that are not ours, before anything is written; with `force` those are set aside.
    """
    foreign = [path for path in wanted if _is_foreign(path)]
    if foreign and not force:
        names = ", ".join(path.name for path in foreign)
        raise LocalError(f"{folder} has files that Dragon did not write: {names}", "--force replaces them and keeps copies")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(f"{folder}: {error.strerror or error}", "name a folder that you may write") from error
    return [_write(path, text, foreign=path in foreign) for path, text in wanted.items()]


def _write(path: Path, text: str, *, foreign: bool) -> Shim:
    if not foreign and path.exists() and path.read_text() == text and path.stat().st_mode & 0o777 == EXECUTABLE:
        return Shim(path, "unchanged")
    existed = path.exists() or path.is_symlink()
    kept = set_aside(path) if foreign else None
    write_atomically(path, text.encode(), EXECUTABLE)
    return Shim(path, "replaced" if existed else "written", kept)


def _is_foreign(path: Path) -> bool:
    if path.is_symlink():
        return True  # whose target somebody else keeps
    try:
        return not is_ours(path.read_bytes())
    except FileNotFoundError:
        return False
    except OSError as error:
        raise HomeError(f"{path}: {error.strerror or error}", "name a folder that you may write") from error

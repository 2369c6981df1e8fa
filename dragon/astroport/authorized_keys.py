"""Our block of `~/.ssh/authorized_keys`: planned as bytes, written in one step, everything around it untouched.

    # >>> dragon: keys of stations of this UPlanet; kept by Dragon, write your own below >>>
    ssh-ed25519 AAAA… dragon:12D3KooW…
    # <<< dragon <<<

The block stands at the top, so that a last line without an end stays one, and taking the block away gives the very bytes that
were there before.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dragon.astroport.station_keys import StationKey
from dragon.errors import HomeError, LocalError
from dragon.home import write_atomically

BEGIN = b"# >>> dragon: keys of stations of this UPlanet; kept by Dragon, write your own below >>>\n"
END = b"# <<< dragon <<<\n"

MAX_FILE = 1 << 20
"""Bytes of an authorized_keys that is read: thousands of keys."""

BACKUPS = 32
"""Copies kept of the file as it was before a change of ours; the oldest go first."""

NEW_FILE, NEW_FOLDER = 0o600, 0o700
"""What sshd asks for (StrictModes)."""


@dataclass(frozen=True, slots=True)
class Change:
    """What the file holds and would hold. `before` is None where there is none. `added`, `removed`: lines of our block."""

    before: bytes | None
    after: bytes
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    @property
    def is_none(self) -> bool:
        return (self.before or b"") == self.after


def plan(before: bytes | None, keys: Sequence[StationKey]) -> Change:
    """Return what makes our block of `before` hold exactly `keys`; without keys there is no block.

    A key that stands elsewhere in the file is not repeated: that line is its owner's business. Raises `LocalError` when the
    block's marks are not one pair in order.
    """
    old, rest = _parted(before or b"")
    elsewhere = rest.split()
    wanted = [key.line.encode() for key in keys if key.blob.encode() not in elsewhere]
    block = b"".join((BEGIN, *(line + b"\n" for line in wanted), END)) if wanted else b""
    return Change(
        before,
        block + rest,
        added=tuple(line.decode() for line in wanted if line not in old),
        removed=tuple(line.decode("utf-8", "replace") for line in old if line not in wanted),
    )


def _parted(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines of our block, and everything else."""
    begins, ends = data.count(BEGIN.strip()), data.count(END.strip())
    if begins == ends == 0:
        return [], data
    begin, end = data.find(BEGIN), data.find(END)
    if begins != 1 or ends != 1 or not 0 <= begin < end or (begin and data[begin - 1 : begin] != b"\n"):
        raise LocalError(
            "the marks of Dragon's block in authorized_keys are damaged",
            f"remove the lines from `{BEGIN[:12].decode()}` to `{END.decode().strip()}` by hand; Dragon writes them anew",
        )
    return data[begin + len(BEGIN) : end].splitlines(), data[:begin] + data[end + len(END) :]


def read(file: Path) -> bytes | None:
    """Return the bytes of `file`, None where there is none. Raises `LocalError` for what we would not write to."""
    try:
        status = file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise HomeError(f"{file}: {error.strerror or error}", "make it readable for the user who runs Dragon") from error
    if not stat.S_ISREG(status.st_mode):
        raise LocalError(f"{file} is no plain file (a link?)", "put the file itself there: Dragon follows no links here")
    if status.st_uid != os.geteuid():
        raise LocalError(f"{file} belongs to another user", f"chown it, or run Dragon as the user of {file.parent}")
    if status.st_size > MAX_FILE:
        raise LocalError(f"{file} is larger than {MAX_FILE} bytes", "that is no list of keys: look into it")
    try:
        return file.read_bytes()
    except OSError as error:
        raise HomeError(f"{file}: {error.strerror or error}", "make it readable for the user who runs Dragon") from error


def apply(file: Path, change: Change, backups: Path) -> Path | None:
    """Write `change` to `file`; return the copy of what was there, None where nothing was or nothing changes.

    The mode stays. Raises `LocalError` when the file is not what `change` was planned on, and `HomeError`.
    """
    if change.is_none:
        return None
    if read(file) != change.before:
        raise LocalError(f"{file} was changed by another program just now", "nothing is lost: the next look takes it up")
    kept = _back_up(file.name, change.before, backups) if change.before is not None else None
    try:
        mode = stat.S_IMODE(file.stat().st_mode) if change.before is not None else NEW_FILE
        if change.before is None:
            file.parent.mkdir(mode=NEW_FOLDER, parents=True, exist_ok=True)
    except OSError as error:
        raise HomeError(
            f"{file}: {error.strerror or error}", "make its folder writable for the user who runs Dragon"
        ) from error
    write_atomically(file, change.after, mode)
    return kept


def _back_up(name: str, data: bytes, folder: Path) -> Path:
    """Keep `data` under the next number, and the newest `BACKUPS` of them."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        numbers = sorted(int(each.suffix[1:]) for each in folder.glob(f"{name}.*") if each.suffix[1:].isdecimal())
    except OSError as error:
        raise HomeError(f"{folder}: {error.strerror or error}", "make DRAGON_HOME writable") from error
    place = folder / f"{name}.{numbers[-1] + 1 if numbers else 1}"
    write_atomically(place, data)
    for number in numbers[: max(0, len(numbers) + 1 - BACKUPS)]:
        with suppress(OSError):
            (folder / f"{name}.{number}").unlink()
    return place

"""The levels of a station's SSH key: x, y, z. Pure, but for `gpg`'s own answer. Source: ASTROPORT facts 1.2, steps 3 and 4.

- **y**: the Ed25519 key of `~/.ssh` is the node's own identity: its peer id is the node id.
- **x**: it is another key.
- **z**: the captain's OpenPGP key, as an SSH key.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal

from registry_schema.ids import ed25519_node_id, is_node_id

Level = Literal["x", "y", "z"]

GPG_BOUND: Final = 5.0
"""Seconds for gpg to export a public key: it reads a local file; a longer wait is an agent that hangs."""

MAX_LINE: Final = 1024
"""Characters of one public key line: an RSA key of 4,096 bits has about 800."""

_KEY_RINGS = ("pubring.kbx", "pubring.gpg", "public-keys.d/pubring.db")
_KEY_TYPES = "ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)"
_LINE = re.compile(rf"({_KEY_TYPES}) ([A-Za-z0-9+/]{{16,}}={{0,2}})(?: ([^\x00-\x1f\x7f]*))?")
_MAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}")


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The public lines of a station, each empty where there is none: x and y never both."""

    x: str = ""
    y: str = ""
    z: str = ""

    @property
    def level(self) -> Level | None:
        """The highest level there is: what a station broadcasts."""
        return "z" if self.z else "y" if self.y else "x" if self.x else None

    @property
    def best(self) -> str:
        """The line of the highest level."""
        return self.z or self.y or self.x

    def files(self) -> dict[str, str]:
        """Return file name → line, as they lie in the balise."""
        lines = {"x": self.x, "y": self.y, "z": self.z}
        return {f"{level}_ssh.pub": line for level, line in lines.items() if line}


NO_KEYS: Final = PublicKeys()


def key_line(text: str) -> str:
    """Return the first public key of `text` in its one spelling, "" where there is none."""
    for line in text.splitlines():
        if (stripped := line.strip()) and (match := _LINE.fullmatch(stripped[: MAX_LINE + 1])):
            comment = "".join(character for character in (match[3] or "") if character.isprintable()).strip()
            plain = f"{match[1]} {match[2]} {comment}".strip()
            return plain if len(plain) <= MAX_LINE and _blob(plain) is not None else ""
    return ""


def peer_id_of(line: str) -> str | None:
    """Return the peer id that an `ssh-ed25519` public line would have, None for any other key.

    The last 32 bytes of the line's blob are the key itself (RFC 8709 §4).
    """
    blob = _blob(line)
    if blob is None or not blob.startswith(b"\0\0\0\x0bssh-ed25519\0\0\0\x20") or len(blob) != 51:
        return None
    node_id = ed25519_node_id(blob[-32:])
    return node_id if is_node_id(node_id) else None


def sorted_keys(ssh_line: str, z_line: str, node_id: str) -> PublicKeys:
    """Return the keys by level: `ssh_line` is that of `~/.ssh`, `z_line` the captain's, each "" where there is none."""
    own, captains = key_line(ssh_line), key_line(z_line)
    if own and peer_id_of(own) == node_id:
        return PublicKeys(y=own, z=captains)
    return PublicKeys(x=own, z=captains)


def exported_by_gpg(mail: str) -> str:
    """Return the captain's OpenPGP key as an SSH line, as `gpg` exports it; "" without gpg, keys or an answer in time.

    gpg is run again only when its keys have changed, and never where it has none: it would make itself a home.
    """
    home = Path(os.environ.get("GNUPGHOME") or Path.home() / ".gnupg")
    kept = [stamp for name in _KEY_RINGS if (stamp := _changed(home / name))]
    return _exported(mail, home, tuple(kept)) if kept and _MAIL.fullmatch(mail) else ""


@lru_cache(maxsize=8)
def _exported(mail: str, home: Path, stamps: tuple[int, ...]) -> str:
    program = shutil.which("gpg")
    if program is None:
        return ""
    command = [program, "--homedir", str(home), "--batch", "--no-tty", "--no-autostart", "--export-ssh-key", f"<{mail}>"]
    try:
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=GPG_BOUND, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return key_line(done.stdout[: 8 * MAX_LINE].decode("utf-8", "replace")) if done.returncode == 0 else ""


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0


def _blob(line: str) -> bytes | None:
    words = line.split(" ", 2)
    try:
        return base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error, ValueError):
        return None

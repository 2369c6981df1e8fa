"""What foreign files may say: strict grammars for the balise of a station that only runs the Bash scripts. Pure. THREATS 19.

Bytes in, values out (of a 12345.json: `beacon_reading`). Nothing here is run, used as a path or handed to a shell; whatever is
not exactly of the expected form is `Unreadable`, with a stable reason that is counted. Sources: ASTROPORT facts 1.6, 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dragon.errors import RemoteError
from registry_schema.ids import is_node_id
from registry_schema.limits import MAX_OFFERS
from registry_schema.texts import SLUG_PATTERN

MAX_MOATS: Final = 32
"""Bytes of `_MySwarm.moats`: ten or eighteen digits and a line end."""

MAX_SCRIPT: Final = 32 * 1024
"""Bytes of an x_*.sh: the originals have about 2,100, with room for whoever adds comments."""

MAX_NAMES: Final = 2048
"""Entries of a balise: stations have about fifty, some with a folder for each of their people."""

MAX_MAPPED: Final = 512
"""Nodes taken from one swarm map: as many as are held at all."""

BARE: Final = "script-bare"
"""Reason: a script that says nothing in literal lines, as older stations make them. Its name alone counts for little."""

MANIFEST: Final = "dragon.manifest"
MOATS: Final = "_MySwarm.moats"
BEACON: Final = "12345.json"

_SLUG = re.compile(SLUG_PATTERN.removeprefix("^").removesuffix("$"))
_SCRIPT_NAME = re.compile(r"x_([a-z0-9][a-z0-9-]{0,31})\.sh")
_PAGE_NAME = re.compile(r"_MySwarm\.([A-Za-z0-9][A-Za-z0-9._-]{0,62})\.html")
_NAMES = "NODE_ID|PROTO|NATIVE_PORT|ALT_PORT|REMOTE_USER"
_ASSIGNED = re.compile(rf"(?:^|[;&|({{])[ \t]*(?:(?:export|local|declare|readonly)[ \t]+)*(?:{_NAMES})\+?=", re.M)
_LITERAL = re.compile(rf'^[ \t]*({_NAMES})="([A-Za-z0-9_./@-]*)"[ \t]*(?:#.*)?$', re.M)
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class Unreadable(RemoteError):
    """Foreign bytes that are not what they should be. `reason` is a stable word, the counter's name."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Script:
    """What an x_*.sh says in its literal lines. `remote_user` is None where it names nobody (all but ssh)."""

    node_id: str
    slug: str
    native_port: int
    alt_port: int
    remote_user: str | None = None


@dataclass(frozen=True, slots=True)
class Listing:
    """Which files a balise has. `slugs`: of its x_*.sh, ascending."""

    slugs: tuple[str, ...]
    has_manifest: bool
    has_beacon: bool
    hostname: str = ""
    level: str = ""
    dropped: int = 0
    """Names that look like an x_*.sh and are none."""


def read_moats(data: bytes) -> int:
    """Return the time in a `_MySwarm.moats`, in milliseconds since the epoch.

    Digits alone: Unix seconds, or the form `YYYYmmddHHMMSS` and four more digits that NODE.refresh.sh writes (UTC).
    """
    digits = data.strip(b"\n\r ")
    if len(data) > MAX_MOATS or not digits.isdigit():
        raise Unreadable("moats", "the moats are not digits alone")
    if 9 <= len(digits) <= 11:
        return int(digits) * 1000
    if len(digits) != 18:
        raise Unreadable("moats", f"the moats have {len(digits)} digits")
    try:
        at = datetime.strptime(digits[:14].decode(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise Unreadable("moats", "the moats are no date") from None
    return round(at.timestamp() * 1000)


def read_script(data: bytes) -> Script:
    """Return what an x_*.sh says in its literal lines. Any other assignment of one of these names makes it `Unreadable`."""
    if len(data) > MAX_SCRIPT:
        raise Unreadable("script-large", f"a script of more than {MAX_SCRIPT} bytes")
    text = text_of(data, "script")
    said: dict[str, str] = {}
    for name, value in _LITERAL.findall(text):
        if name in said:
            raise Unreadable("script-twice", f"{name} is set twice")
        said[name] = value
    if len(_ASSIGNED.findall(text)) != len(said):
        raise Unreadable("script-computed", "a name is set to something that a shell would have to compute")
    if not said:
        raise Unreadable(BARE, "a script without literal lines")
    if missing := {"NODE_ID", "PROTO", "NATIVE_PORT", "ALT_PORT"} - said.keys():
        raise Unreadable("script-incomplete", f"{', '.join(sorted(missing))} is not set")
    node_id = said["NODE_ID"]
    slug = said["PROTO"].removeprefix("/x/").removesuffix(f"-{node_id}")
    if not is_node_id(node_id) or not is_slug(slug) or said["PROTO"] != f"/x/{slug}-{node_id}":
        raise Unreadable("script-protocol", "PROTO is not made of a slug and NODE_ID")
    user = said.get("REMOTE_USER")
    if user is not None and not _USER.fullmatch(user):
        raise Unreadable("script-user", "REMOTE_USER is no login name")
    return Script(node_id, slug, _port(said["NATIVE_PORT"]), _port(said["ALT_PORT"]), user)


def read_listing(names: Iterable[str]) -> Listing:
    """Return what a balise holds, by the names of its entries (at most `MAX_NAMES`)."""
    held = set(names)
    if len(held) > MAX_NAMES:
        raise Unreadable("listing-huge", f"more than {MAX_NAMES} entries")
    scripts = [_SCRIPT_NAME.fullmatch(name) for name in held if name.startswith("x_") and name.endswith(".sh")]
    slugs = sorted(match[1] for match in scripts if match)
    pages = sorted(match[1] for name in held if (match := _PAGE_NAME.fullmatch(name)))
    level = next((level for level in "zyx" if f"{level}_ssh.pub" in held), "")
    return Listing(
        slugs=tuple(slugs[:MAX_OFFERS]),
        has_manifest=MANIFEST in held,
        has_beacon=BEACON in held,
        hostname=pages[0] if pages else "",
        level=level,
        dropped=len(scripts) - len(slugs),
    )


def read_map(names: Iterable[str]) -> tuple[str, ...]:
    """Return the node ids in a swarm map: a directory with one entry per node. Anything else in it does not count."""
    return tuple(sorted({name for name in names if is_node_id(name)})[:MAX_MAPPED])


def is_slug(text: str) -> bool:
    return _SLUG.fullmatch(text) is not None


def text_of(data: bytes, kind: str) -> str:
    """Return foreign bytes as text; `Unreadable` for another encoding and for control characters but tab and line ends."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise Unreadable(f"{kind}-encoding", "not UTF-8") from None
    if any(character < " " and character not in "\t\n\r" for character in text):
        raise Unreadable(f"{kind}-control", "control characters")
    return text


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 65535:
        raise Unreadable("script-port", "not a port")
    return int(text)

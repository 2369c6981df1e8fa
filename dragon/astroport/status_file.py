"""`~/.zen/tmp/<service>_connection.status`: where other programs read what a service's connection is.

Shell variables, one a line, for `source` as for `grep '^CONNECTION_TYPE='`: values are on one line and quoted so that a shell
takes them as they are. We ourselves read it as data.

The path is other programs' contract: `<ZEN_HOME>/tmp` is made where it is missing, and nothing else. A folder with only `tmp`
in it makes no station of a machine.
"""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dragon.errors import HomeError
from dragon.home import write_atomically
from dragon.text import clean

TYPES = {"local": "LOCAL", "p2p": "P2P", "ssh6": "SSH_IPv6", "ssh4": "SSH_IPv4"}
"""Route → CONNECTION_TYPE."""

READABLE = 0o644
"""As the managers' own files: it holds no secret, and a web server's account may read it."""

MAX_BYTES = 16384
"""Of a status file: five short lines. What is longer is not one."""

_LINE = re.compile(r"([A-Z_]{1,64})=(.*)")
_HEX = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Connection:
    """A service that answers at `port` of this machine. `provider` is a node id, or `ssh6:user@host:22` of an SSH route."""

    service: str
    provider: str
    route: str
    port: int
    url: str

    @property
    def kind(self) -> str:
        return TYPES.get(self.route, self.route.upper())

    @property
    def shown_url(self) -> str:
        """The URL as the managers print it, and as browsers' pages from this machine expect it."""
        return self.url.replace("://127.0.0.1:", "://localhost:", 1)


def compose(connection: Connection, at: float, node_hex: str = "") -> str:
    """Return the file's text. `at`: seconds since the epoch; `node_hex`: the NOSTR key of the providing station, if known."""
    strfry = connection.service == "strfry"
    here = "Local strfry" if strfry else "Local service"
    fields = {
        "CONNECTION_TYPE": connection.kind,
        "CONNECTION_DETAILS": here if connection.route == "local" else _far_end(connection),
        "CONNECTION_TIME": datetime.fromtimestamp(at).astimezone().isoformat(timespec="seconds"),
    }
    if strfry:
        fields["RELAY_URL"] = connection.url
    else:
        fields["CONNECTION_PORT"] = str(connection.port)
    if connection.service == "comfyui":
        fields["CONNECTION_NODE_HEX"] = node_hex
    return "".join(f"{name}={_quoted(value)}\n" for name, value in fields.items())


def parse(text: str) -> dict[str, str]:
    """Return the variables of a status file, ours or a manager's. What is no assignment of one word is passed over."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        try:
            words = shlex.split(match[2])
        except ValueError:  # a quote that does not end
            continue
        if len(words) <= 1:
            found[match[1]] = words[0] if words else ""
    return found


def port_in(fields: Mapping[str, str]) -> int | None:
    """Return the local port that a status file tells, None where it tells none."""
    told = fields.get("CONNECTION_PORT") or fields.get("RELAY_URL", "").rstrip("/").rpartition(":")[2]
    return int(told) if told.isascii() and told.isdecimal() and len(told) <= 5 else None


def node_hex_of(station: Mapping[str, object], zen: Path, node_id: str) -> str:
    """Return the NOSTR key of a node: as it says itself, else as the station's swarm cache has it; "" when neither does."""
    places = (zen / "tmp" / "swarm" / node_id / "HEX", zen / "tmp" / node_id / "HEX")
    for told in (str(station.get("hex", "")), *(_head(place) for place in places if _is_name(node_id))):
        if _HEX.fullmatch(told.strip().lower()):
            return told.strip().lower()
    return ""


@dataclass(frozen=True, slots=True)
class StatusFile:
    """The file of one service below `zen`."""

    zen: Path
    service: str

    @property
    def path(self) -> Path:
        return self.zen / "tmp" / f"{self.service}_connection.status"

    def read(self) -> dict[str, str]:
        """Return its variables; none where there is no such file, or none that can be read."""
        return parse(_head(self.path))

    def write(self, connection: Connection, node_hex: str = "") -> None:
        """Tell of `connection`, in one step. Raises `HomeError`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeError(f"{self.path.parent}: {error.strerror or error}", "set ZEN_HOME to a folder of your own") from error
        write_atomically(self.path, compose(connection, time.time(), node_hex).encode(), READABLE)

    def remove(self) -> None:
        """Raises `HomeError` where a file stands that cannot be removed."""
        try:
            self.path.unlink(missing_ok=True)
        except NotADirectoryError:
            return
        except OSError as error:
            raise HomeError(f"{self.path}: {error.strerror or error}", "remove it yourself") from error


def _far_end(connection: Connection) -> str:
    """Return the providing node's id, or the `host:port` of SSH."""
    return connection.provider.rpartition("@")[2] if connection.route in ("ssh6", "ssh4") else connection.provider


def _quoted(value: str) -> str:
    return shlex.quote(clean(value)) if value else ""


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _is_name(text: str) -> bool:
    return text.isascii() and text.isalnum()

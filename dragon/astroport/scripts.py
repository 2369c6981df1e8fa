"""`x_<slug>.sh`: how a station without Dragon reaches one service of one node, with nothing but bash and `ipfs`. Pure.

Shape and behaviour: ASTROPORT facts 1.6 and 6. Others read the lines `NAME="…"` by pattern and run the file by `bash FILE
[stop|off]`, so these lines stand alone and the exit code is 0 only where the port is bound. Whatever enters the text was
checked against a grammar first; what has none (a label) is quoted for the shell.

A Dragon on the same daemon keeps forwards of its own, on ports that the kernel gave it. The script never takes one of those for
its own: its ports are `NATIVE_PORT` and `ALT_PORT` + a multiple of 1000 below the kernel's range.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Final

from dragon.astroport.script_text import BODY, DOCKER_BRIDGE
from dragon.connect.request import url_of
from dragon.connect.station_port import station_port
from dragon.errors import LocalError
from dragon.probe.catalogue import Catalogue
from dragon.probe.entry import CatalogueEntry
from registry_schema import Offer
from registry_schema.ids import is_node_id
from registry_schema.manifest import SLUG_PATTERN, protocol_name
from registry_schema.texts import clean_label

HEAD: Final = "#!/bin/bash\n# Made by Dragon"
"""How every script of ours begins: by it a later run, whose journal is lost, knows which files it may take away."""

EXECUTABLE: Final = 0o755

PORT_MARK: Final = "{LPORT}"
"""Stands in an exported value for the local port, which only the running script knows."""

_SLUG = re.compile(SLUG_PATTERN.removeprefix("^").removesuffix("$"))
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_SCRIPT_NAME = re.compile(r"x_([a-z0-9][a-z0-9-]{0,31})\.sh")


class _LaterPort(int):
    """A port that is not known yet: whatever a template does with it, the mark comes out."""

    def __format__(self, _: str) -> str:
        return PORT_MARK


def script_name(slug: str) -> str:
    return f"x_{slug}.sh"


def slug_of(name: str) -> str | None:
    """Return the slug in the file name `x_<slug>.sh`, None for any other name."""
    match = _SCRIPT_NAME.fullmatch(name)
    return match[1] if match else None


def is_login(name: str) -> bool:
    """Tell whether `name` may stand in `REMOTE_USER`: what login names look like on every Unix."""
    return _USER.fullmatch(name) is not None


def script_of(offer: Offer, node_id: str, catalogue: Catalogue, *, remote_user: str = "", docker_bridge: bool = False) -> str:
    """Return the script of `offer`: port, label and exported names as this machine's catalogue has them."""
    entry = (
        catalogue.get(offer.slug) if offer.slug in catalogue else CatalogueEntry(offer.slug, offer.port, scheme=offer.scheme)
    )
    return script_for(
        node_id,
        offer.slug,
        entry.local_port or entry.port,
        remote_user=remote_user if offer.scheme == "ssh" and is_login(remote_user) else None,
        docker_bridge=docker_bridge,
        label=entry.label or offer.slug,
        exports=exports_of(entry),
    )


def exports_of(entry: CatalogueEntry) -> dict[str, str]:
    """Return the names that `entry` exports, with `PORT_MARK` where their values have the local port."""
    url = url_of(entry.scheme, "127.0.0.1", 0).removesuffix("0") + PORT_MARK
    return entry.environment(url, "127.0.0.1", _LaterPort(0))


def script_for(
    node_id: str,
    slug: str,
    native_port: int,
    *,
    remote_user: str | None = None,
    docker_bridge: bool = False,
    label: str = "",
    exports: Mapping[str, str] | None = None,
) -> str:
    """Return the text of `x_<slug>.sh`.

    `native_port`: the local port that is preferred. `remote_user`: the login name, for ssh only. `exports`: variables to print,
    `PORT_MARK` in their values. Raises `LocalError` for a value that no such file may carry.
    """
    _check(is_node_id(node_id), "node id", node_id)
    _check(_SLUG.fullmatch(slug) is not None, "slug", slug)
    _check(1 <= native_port <= 65535, "port", native_port)
    _check(remote_user is None or is_login(remote_user), "login name", remote_user)
    shown = clean_label(label) if label else None
    lines = [
        f"{HEAD}: a tunnel to {slug} of {node_id}.",
        "# bash FILE opens it, bash FILE stop closes it. Changes to this file are lost.",
        f'NODE_ID="{node_id}"',
        f'PROTO="{protocol_name(slug, node_id)}"',
        *([f'REMOTE_USER="{remote_user}"'] if remote_user else []),
        f'NATIVE_PORT="{native_port}"',
        f'ALT_PORT="{station_port(node_id, slug)}"',
        f"LABEL={shlex.quote(shown or slug)}",
        "tell_exports() {",
        *_printing(exports or {}, remote_user),
        "}",
        "bridge() {",
        *(DOCKER_BRIDGE if docker_bridge else ("  :",)),
        "}",
    ]
    return "\n".join(lines) + "\n" + BODY


def _printing(exports: Mapping[str, str], remote_user: str | None) -> list[str]:
    """Return the lines that print `exports`, and how to log in; every word literal but the port."""
    told = []
    for name, value in exports.items():
        _check(_NAME.fullmatch(name) is not None, "variable", name)
        _check(value.isprintable(), "value", value)
        # Quoted twice: once for the shell that evaluates what is printed, once for the script that prints it.
        printed = [shlex.quote(f"export {name}=" + part if n == 0 else part) for n, part in enumerate(_pieces(value))]
        told.append("  printf '%s\\n' " + '"$LPORT"'.join(printed))
    if remote_user:
        told.append("""  printf 'ssh -X %s@localhost -p %s\\n' "$REMOTE_USER" "$LPORT\"""")
    return told or ["  :"]


def _pieces(value: str) -> list[str]:
    """Return `value` cut where the port goes, each piece quoted for a shell."""
    return [shlex.quote(part) if part else "" for part in value.split(PORT_MARK)]


def _check(holds: bool, what: str, value: object) -> None:
    if not holds:
        raise LocalError(f"no x_*.sh can be made: {str(value)[:60]!r} is no {what}", "it must be what a manifest may hold")

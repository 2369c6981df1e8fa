"""What must be in place before a run, looked at all at once: each lack with how to get what is missing."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragon.constellation.lock import owner_of
from dragon.constellation.places import Places
from dragon.constellation.relay import Patience, RelayFailed, connected
from dragon.text import counted

Document = dict[str, Any]

QUICK = Patience(connect=5.0, document=2.0)
"""Seconds for our own relay: it is on this machine."""


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a run needs. `how` says how to get it, empty where it is there."""

    name: str
    ok: bool
    detail: str
    how: str = ""
    essential: bool = True

    def document(self) -> Document:
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "how": self.how, "essential": self.essential}


NO_NODE = Need("node", False, "no node is running here", "start one: dragon serve")


async def needs(facts: Mapping[str, Any], places: Places, *, quick: Patience = QUICK) -> list[Need]:
    """Return every need with whether it is met. `facts`: what the node says of its constellation."""
    local, authors = facts["local"], facts["authors"]
    return [
        Need("node", True, f"swarm {facts['swarm']}"),
        *_station(places),
        await _relay(local["url"], quick),
        *_tool(local["tool"], places),
        _people(authors),
        _peers(facts["peers"]),
        *_folders(places),
        no_run(places.locks),
    ]


OTHER_RUN = "no other run"


def missing(found: Sequence[Need]) -> list[Need]:
    """Return what keeps a run from starting."""
    return [need for need in found if need.essential and not need.ok]


def no_run(locks: Sequence[Path]) -> Need:
    """Return whether no run goes on, ours or a script's."""
    owner = next((owner for path in locks if (owner := owner_of(path)) is not None), None)
    if owner is None:
        return Need(OTHER_RUN, True, "none goes on")
    return Need(OTHER_RUN, False, f"one goes on: {owner.shown}", "wait for its end: dragon sync status")


def _station(places: Places) -> list[Need]:
    if places.zen is None:
        return []
    script = places.zen / "Astroport.ONE" / "tools" / "my.sh"
    if script.is_file():
        return [Need("station", True, str(places.zen))]
    how = "install Astroport.ONE there, or set ZEN_HOME; Dragon itself can do without"
    return [Need("station", False, f"{script} is missing: no environment for the station's own scripts", how, essential=False)]


async def _relay(url: str | None, quick: Patience) -> Need:
    how = 'start strfry, or name your relay: [constellation] relay = "ws://127.0.0.1:7777"'
    if url is None:
        return Need("local relay", False, "none is known on this machine", how)
    try:
        async with connected(url, quick):
            return Need("local relay", True, url)
    except RelayFailed as error:
        return Need("local relay", False, f"{url} {error}", how)


def _tool(tool: str | None, places: Places) -> list[Need]:
    """On a station events are imported: through the relay's socket its write policy might answer old events."""
    if tool is not None:
        return [Need("import program", True, tool)]
    if places.zen is None:
        return [Need("import program", True, "none; events go through the relay's WebSocket")]
    how = 'install strfry there, or name it: [constellation] tool = "/path/to/strfry"'
    return [Need("import program", False, f"{places.relay_program} is missing or cannot be run", how)]


def _people(authors: Mapping[str, Any]) -> Need:
    if authors["total"]:
        return Need("people", True, f"{counted(authors['total'], 'public key')}, {authors['own']} of this node")
    how = 'name somebody: [constellation] authors = ["npub1…"]; on a station, make a card'
    return Need("people", False, "nobody is known whose events could be kept", how)


def _peers(peers: Sequence[Mapping[str, Any]]) -> Need:
    if peers:
        return Need("peers", True, f"{counted(len(peers), 'node')} {'offers' if len(peers) == 1 else 'offer'} strfry")
    return Need("peers", False, "no other node of the constellation offers strfry", "see who is there: dragon peers")


def _folders(places: Places) -> list[Need]:
    folders = [places.root, *([places.zen / "strfry"] if places.zen else [])]
    return [_folder(folder) for folder in folders]


def _folder(folder: Path) -> Need:
    name = f"folder {folder.name}"
    place = next((each for each in (folder, *folder.parents) if each.exists()), folder)
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        return Need(name, False, f"{place} cannot be written", f"make it yours: chown -R $(id -un) {place}")
    if folder != place and folder.name == "strfry":
        return Need(name, False, f"{folder} does not exist", "install the station's relay there")
    return Need(name, True, str(folder))

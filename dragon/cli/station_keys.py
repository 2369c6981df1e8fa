"""`dragon astroport keys`: one look at the stations' SSH keys, shown or written."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from dragon.astroport.authorized_keys import apply, plan, read
from dragon.astroport.key_keeping import AuthorizedKeys, Look
from dragon.astroport.relay_events import LOCAL_RELAY, station_events
from dragon.astroport.station_keys import speakers
from dragon.astroport.zen import Zen
from dragon.cli import output
from dragon.client import Control, Document
from dragon.clock import SystemClock
from dragon.config import load_settings
from dragon.errors import LocalError
from dragon.home import Home


def keep(*, dry_run: bool, as_json: bool) -> int:
    """Show or write what changes in ~/.ssh/authorized_keys; return the exit code."""
    home, zen = Home.locate(), Zen.locate(os.environ)
    settings = load_settings(home)
    if not zen.is_station:
        raise LocalError(f"{zen.root} is no Astroport station", "stations' SSH keys are kept on stations")
    if not settings.astroport.authorized_keys and not dry_run:
        raise LocalError(
            "keeping stations' SSH keys is switched off", "set [astroport] authorized_keys = true; --dry-run shows what it does"
        )
    peers = Control(home).peers()
    own = next(peer for peer in peers if peer["self"])
    relay = settings.constellation.relay or LOCAL_RELAY

    async def events(authors: Sequence[str], since: int) -> Sequence[object]:
        return await station_events(relay, authors, since)

    keeper = AuthorizedKeys(
        _file(),
        _backups(home),
        SystemClock(),
        own_id=own["id"],
        uplanet=lambda: str(own.get("station", {}).get("uplanet", "")),
        nodes=lambda: speaking(peers),
        events=events,
    )
    look = asyncio.run(keeper.look() if dry_run else keeper.keep())
    _tell(look, dry_run=dry_run, as_json=as_json)
    return 0


def take_out(*, dry_run: bool, as_json: bool) -> int:
    """Show or do what takes Dragon's block away, whether it is switched on or not; return the exit code."""
    home = Home.locate()
    change = plan(read(_file()), ())
    if not dry_run:
        home.prepare()
        apply(_file(), change, _backups(home))
    _tell(Look(change), dry_run=dry_run, as_json=as_json)
    return 0


def _file() -> Path:
    return Path(os.environ.get("HOME") or Path.home()) / ".ssh" / "authorized_keys"


def _backups(home: Home) -> Path:
    return home.root / "astroport" / "authorized_keys"


def speaking(peers: Sequence[Document]) -> dict[str, frozenset[str]]:
    """Return node id → NOSTR keys that may speak for it, of the other live nodes whose signed manifests name any."""
    signed = [peer for peer in peers if (peer["trust"], peer["state"], peer["self"]) == ("signed", "live", False)]
    said = {str(peer["id"]): speakers(peer.get("station", {})) for peer in signed}
    return {node_id: keys for node_id, keys in said.items() if keys}


def _tell(look: Look, *, dry_run: bool, as_json: bool) -> None:
    change, selection = look.change, look.selection
    if as_json:
        return output.print_json(
            {
                "keys": [{"id": key.node_id, "line": key.line} for key in selection.keys],
                "added": list(change.added),
                "removed": list(change.removed),
                "refused": dict(selection.refused),
                "written": not dry_run and not change.is_none,
            }
        )
    for line in change.added:
        output.print_line(f"{'would let in' if dry_run else 'let in':12}  {line}")
    for line in change.removed:
        output.print_line(f"{'would remove' if dry_run else 'removed':12}  {line}")
    for reason, count in sorted(selection.refused.items()):
        output.print_line(f"{'refused':12}  {count} {reason}")
    if change.is_none:
        output.print_line(f"nothing changes; keys of stations: {len(selection.keys)}")
    return None

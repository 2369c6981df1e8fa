"""Listeners that the Bash DRAGON left on the station's Kubo: recognised by what they are called and by not being ours."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from pathlib import Path

from dragon.kubo import journal
from dragon.kubo.client import KuboClient
from dragon.kubo.plan import normal
from dragon.kubo.types import P2PEntry
from registry_schema.manifest import protocol_name


async def left(kubo: KuboClient, node_id: str, slugs: Collection[str], ours: Path) -> list[P2PEntry]:
    """Return the listeners of this node's services that are not in the journal `ours`. Raises `KuboError`.

    Only services that the catalogue knows: other programs' listeners are theirs.
    """
    names = {protocol_name(slug, node_id) for slug in slugs}
    standing = [entry for entry in await kubo.p2p_ls() if entry.is_listener and entry.protocol in names]
    mine = await asyncio.to_thread(journal.load, ours)  # after the look: Dragon writes there before it opens
    return [entry for entry in standing if normal(entry) not in mine]


async def close(kubo: KuboClient, entries: Collection[P2PEntry]) -> None:
    """Close these listeners; running connections through them go on. Raises `KuboError`."""
    for entry in entries:
        await kubo.p2p_close(protocol=entry.protocol, target=entry.target)

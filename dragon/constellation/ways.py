"""The ways from a run to the relays of its peers: tunnels that the node opens, and doors to published addresses.

What was opened for the run is closed with it; a tunnel that somebody else uses already is used and left alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Protocol

from dragon.constellation.door import Door, published
from dragon.constellation.job import Peer
from dragon.errors import DragonError, PeerUnreachable

log = logging.getLogger(__name__)

SLUG = "strfry"


class Forwarding(Protocol):
    """The part of the node's control API that opens and closes tunnels; it blocks."""

    def forward(self, slug: str, target: str = "auto") -> Mapping[str, Any]: ...

    def off(self, slug: str | None = None, *, port: int | None = None) -> int: ...


class Ways:
    """All ways of one run. `hosts`: whose published relays may be dialled, `own`: our own relay's, which never is."""

    def __init__(self, node: Forwarding, hosts: Collection[str] = (), own: str = "") -> None:
        self._node = node
        self._hosts = hosts
        self._own = own
        self._ports: set[int] = set()
        self._doors: dict[str, Door] = {}

    def peer(self, node: Mapping[str, Any]) -> Peer:
        """Return a node of the constellation as a peer of the run."""
        node_id, alias, relay = str(node["id"]), str(node["alias"]), str(node.get("relay", ""))

        async def open_way() -> str:
            try:
                return await self._tunnel(node_id)
            except DragonError as error:
                return await self._published(relay, error)

        return Peer(node_id, alias, open_way)

    async def close(self) -> None:
        """Close what was opened here."""
        for door in self._doors.values():
            await door.close()
        for port in sorted(self._ports):
            with suppress(DragonError):  # the node may be gone, and its tunnels with it
                await asyncio.to_thread(self._node.off, SLUG, port=port)
        self._ports.clear()
        self._doors.clear()

    async def _tunnel(self, node_id: str) -> str:
        opened = await asyncio.to_thread(self._node.forward, SLUG, node_id)
        if opened.get("route") == "local" or opened.get("provider") != node_id:
            raise PeerUnreachable("the tunnel would lead to another relay")
        port = int(opened["port"])
        if not opened.get("reused"):
            self._ports.add(port)
        return f"ws://{opened['host']}:{port}"

    async def _published(self, relay: str, error: DragonError) -> str:
        """Return the way to a published address where the operator allows its host; raises `error` everywhere else."""
        there = published(relay, self._hosts) if relay and relay.rstrip("/") != self._own.rstrip("/") else None
        if there is None:
            raise error
        log.info("no tunnel (%s); trying %s", error, there.host)
        door = self._doors.get(relay)
        if door is None:
            door = self._doors[relay] = Door(there)
        return await door.open()

"""A station's two IPNS names, where Dragon publishes them: the balise under the node's own, the map of the swarm under another.

Files that other programs write there change without a word to us, so the folders are looked at; what Dragon laid itself is said
at once. Never two publishers on one name: while the station's `_12345.sh` runs, nothing is published here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Final

from dragon.astroport.published import Documents, Tree, read_tree
from dragon.astroport.zen import Zen
from dragon.clock import Clock
from dragon.kubo.types import Kubo
from dragon.registry.naming import Files, Name, Pace
from dragon.registry.waiting import woken
from registry_schema.ids import is_node_id

log = logging.getLogger(__name__)

PACE: Final = Pace(lifetime="24h", ttl="1m", apart=120.0, burst=4)
"""As the stations' scripts publish (24 h), but soon, and cached for a minute instead of thirty: others read it hourly."""

LOOK: Final = 20.0
"""Seconds between two looks at files that are not ours: their writers work in minutes."""


def map_key(node_id: str) -> str:
    """Return the name of the Kubo key under which the map of the swarm stands."""
    return f"MySwarm_{node_id}"


class Publication:
    """Keeps both names. The node's own is the registry's (it carries the manifest): it gets its files by `balise` and is told
    by `changed_balise`; the map is published here."""

    def __init__(
        self,
        zen: Zen,
        node_id: str,
        kubo: Kubo,
        clock: Clock,
        *,
        publishing: Callable[[], AbstractContextManager[None]],
        changed_balise: Callable[[], None],
        allowed: Callable[[], Awaitable[str]],
    ) -> None:
        self._zen = zen
        self._node_id = node_id
        self._kubo = kubo
        self._clock = clock
        self._changed_balise = changed_balise
        self._seen: dict[str, bytes] = {}
        self._documents: Documents = {}
        self._wake = asyncio.Event()
        self.left_out: dict[str, str] = {}
        """Folder → what of it is not published, for lack of room."""
        self.map = Name(kubo, clock, self._map, publishing=publishing, key=map_key(node_id), pace=PACE, allowed=allowed)

    async def channel(self) -> str:
        """Return the IPNS name of the map, making its key where there is none. Raises `KuboError`."""
        return await self._kubo.key_id(map_key(self._node_id))

    def look_now(self) -> None:
        """Something was laid: look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Publish the map and tell changes of both folders, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.map.run())
            tasks.create_task(self._look())

    async def balise(self) -> Files:
        """Return the files that stand beside the manifest under the node's own name."""
        return (await asyncio.to_thread(self._balise_tree)).files

    async def _map(self) -> Files:
        return (await asyncio.to_thread(self._map_tree)).files

    async def _look(self) -> None:
        while True:
            self._wake.clear()
            for which, read, changed in (
                ("balise", self._balise_tree, self._changed_balise),
                ("swarm map", self._map_tree, self.map.changed),
            ):
                tree = await asyncio.to_thread(read)
                if tree.left_out and tree.left_out != self.left_out.get(which):
                    log.warning("%s", tree.left_out)
                self.left_out[which] = tree.left_out
                if tree.signature != self._seen.get(which):
                    self._seen[which] = tree.signature
                    changed()
            await woken(self._wake, self._clock, LOOK)

    def _balise_tree(self) -> Tree:
        return read_tree(self._zen.balise(self._node_id))

    def _map_tree(self) -> Tree:
        return read_tree(self._zen.swarm, wanted=self._is_other, documents=self._documents)

    def _is_other(self, name: str) -> bool:
        return is_node_id(name) and name != self._node_id

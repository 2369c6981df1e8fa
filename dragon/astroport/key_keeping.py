"""Keeping the SSH keys of the UPlanet's stations in `authorized_keys`, where the operator switched that on.

What this grants is a login: whoever a fresh event of a station in the view names may open a shell here, as with the originals.
In an open swarm anyone can become a member and say to be a station, so `[swarm] admit` or a private network belongs to it; that
is said at every start, and in docs/astroport.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dragon.astroport.authorized_keys import Change, apply, plan, read
from dragon.astroport.station_keys import FRESH, Selection, select
from dragon.clock import Clock
from dragon.errors import DragonError, LocalError

log = logging.getLogger(__name__)

SETTLE = 300.0
"""Seconds after the start before the first look: a view that is still empty must not empty the block."""

EVERY = 3600.0
"""Seconds between two looks; stations report their key weekly."""

Events = Callable[[Sequence[str], int], Awaitable[Sequence[object]]]
"""(authors, since in Unix seconds) → the events of kind 30850 in the local relay. Raises `DragonError`."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look found, and what it would change."""

    change: Change
    selection: Selection = field(default_factory=lambda: Selection((), {}))


class AuthorizedKeys:
    """`file`: ~/.ssh/authorized_keys; `backups`: a folder below DRAGON_HOME; `uplanet`: our UPLANETG1PUB, "" while unknown;
    `nodes`: node id → NOSTR keys that may speak for it, of the signed manifests in the view."""

    def __init__(
        self,
        file: Path,
        backups: Path,
        clock: Clock,
        *,
        own_id: str,
        uplanet: Callable[[], str],
        nodes: Callable[[], Mapping[str, frozenset[str]]],
        events: Events,
    ) -> None:
        self._file = file
        self._backups = backups
        self._clock = clock
        self._own_id = own_id
        self._uplanet = uplanet
        self._nodes = nodes
        self._events = events
        self._trouble = ""

    async def look(self) -> Look:
        """Return what would change. Raises `DragonError`: then nothing is known, and nothing may change."""
        uplanet, nodes = self._uplanet(), dict(self._nodes())
        if not uplanet:
            raise LocalError(
                "this station does not know its UPlanet (UPLANETG1PUB)", "let the station's scripts write its 12345.json once"
            )
        before = await asyncio.to_thread(read, self._file)
        now = self._clock.now_ms() // 1000
        authors = sorted(frozenset().union(*nodes.values()))
        events = await self._events(authors, now - FRESH) if authors else ()
        selection = await asyncio.to_thread(lambda: select(events, nodes=nodes, uplanet=uplanet, own_id=self._own_id, now=now))
        return Look(plan(before, selection.keys), selection)

    async def keep(self) -> Look:
        """Look, and write what changed. Raises `DragonError`."""
        look = await self.look()
        if not look.change.is_none:
            kept = await asyncio.to_thread(apply, self._file, look.change, self._backups)
            for line in look.change.added:
                log.warning("%s: may log in now: %s", self._file, line)
            for line in look.change.removed:
                log.warning("%s: may not log in any more: %s", self._file, line)
            if kept:
                log.info("%s is kept as %s", self._file, kept)
        return look

    async def run(self) -> None:
        """Keep the file for ever, hourly; trouble is said once and tried again."""
        log.warning("stations of this UPlanet get a login here ([astroport] authorized_keys): mind who may join the swarm")
        await self._clock.sleep(SETTLE)
        while True:
            try:
                await self.keep()
            except DragonError as error:
                if str(error) != self._trouble:
                    log.warning("SSH keys of stations stay as they are: %s", error)
                self._trouble = str(error)
            else:
                self._trouble = ""
            await self._clock.sleep(EVERY)

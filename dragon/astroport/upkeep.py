"""A station's files and facts, kept: laid whenever something changed or was taken away, read again every minute.

    offers ─┐                                    ┌─► ~/.zen/tmp/<node id>/
    view   ─┼─► (something changed, or was wiped) ┤
    facts  ─┘                                    └─► ~/.zen/tmp/swarm/<id>/

What is laid is made from what the node knows and from DRAGON_HOME; `~/.zen/tmp` may vanish at any time and is laid again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final, Protocol

from dragon.astroport.balise import Balise
from dragon.astroport.facts import StationFacts, read_facts
from dragon.astroport.laying import Laid
from dragon.astroport.reached import best_first
from dragon.astroport.swarm_cache import SwarmCache
from dragon.astroport.zen import Zen
from dragon.clock import Clock
from dragon.errors import KuboError, LocalError
from dragon.home import Home
from dragon.kubo.types import Kubo
from dragon.probe import Catalogue
from dragon.registry.service import Registry
from dragon.registry.verdict import Change
from dragon.registry.view import View
from dragon.registry.waiting import woken
from registry_schema import Offer

log = logging.getLogger(__name__)

COALESCE: Final = 0.05
"""Seconds in which changes become one pass over the files: a start brings dozens at once."""

LOOK: Final = 1.0
"""Seconds between two looks whether somebody emptied our folders: two `stat` calls, so that a wipe is mended in seconds."""

REST: Final = 3.0
"""Times that a pass took, for which there is none: a swarm in turmoil gets at most a quarter of one core."""

RETRY: Final = 10.0
"""Seconds until files that could not be written are tried again without any other reason."""

FACTS_EVERY: Final = 60.0
"""Seconds between two readings of the station's facts: its scripts write theirs every five minutes."""


class Offered(Protocol):
    """What this node offers (`connect.Serving`). `paused`: its operator withdrew all of it."""

    @property
    def paused(self) -> bool: ...

    def offers(self) -> tuple[Offer, ...]: ...

    def on_change(self, callback: Callable[[], None]) -> None: ...


class Upkeep:
    """Keeps both directories; `catalogue` is asked for every pass. What cannot be written is said once and tried again."""

    def __init__(
        self,
        zen: Zen,
        node_id: str,
        home: Home,
        environ: Mapping[str, str],
        *,
        kubo: Kubo,
        view: View,
        serving: Offered,
        registry: Registry,
        catalogue: Callable[[], Catalogue],
        renew: Callable[[], Awaitable[None]],
        clock: Clock,
        docker_bridge: bool = False,
        unsigned: bool = False,
    ) -> None:
        """`renew` has what is private applied anew; `unsigned`: the swarm cache has stations without Dragon, too."""
        self._zen = zen
        self._node_id = node_id
        self._environ = environ
        self._kubo = kubo
        self._view = view
        self._serving = serving
        self._registry = registry
        self._catalogue = catalogue
        self._renew = renew
        self._clock = clock
        self._balise = Balise(zen, node_id, home.root / "balise.json", docker_bridge=docker_bridge)
        self._cache = SwarmCache(zen, node_id, home.root / "swarm-cache.json", docker_bridge=docker_bridge, unsigned=unsigned)
        self._facts = StationFacts(node_id)
        self._dirty = asyncio.Event()
        self._stale = asyncio.Event()
        self._standing: tuple[object, ...] = ()
        self._tried_at = 0.0
        self._laid: list[Callable[[Laid, Laid], None]] = []
        self._learned: list[Callable[[], None]] = []
        self.problems: dict[str, str] = {}
        """Which part of the files cannot be laid, and why; empty where all lie."""
        self.channel = ""
        """IPNS name of the map of the swarm, where it is published here."""
        serving.on_change(self._dirty.set)
        registry.on_published(lambda publication: self._dirty.set())
        view.subscribe(self._changed)

    @property
    def facts(self) -> StationFacts:
        """What the station's files said when they were last read."""
        return self._facts

    def on_laid(self, callback: Callable[[Laid, Laid], None]) -> None:
        """Call back with what changed in the balise and in the swarm cache, after a pass that changed something."""
        self._laid.append(callback)

    def on_learned(self, callback: Callable[[], None]) -> None:
        """Call back when the facts have changed."""
        self._learned.append(callback)

    def reload(self) -> None:
        """Read the station's facts again, now; catalogue and settings may have changed."""
        self._stale.set()
        self._dirty.set()

    async def run(self) -> None:
        """Keep files and facts until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_facts())
            tasks.create_task(self._keep_files())

    async def leave(self) -> None:
        """Take away the scripts of services that nobody reaches any more, and the manifest, after `run` has ended.

        The station stays one: from now on its own scripts alone speak for it.
        """
        facts, catalogue, now = self._facts, self._catalogue(), self._clock.now_ms() / 1000
        await self._attempt("balise", lambda: self._balise.lay(facts, (), None, catalogue, now, leaving=True))

    # -- facts --------------------------------------------------------------------------------------------------------

    async def learn(self) -> None:
        """Read the facts once."""
        facts = await asyncio.to_thread(read_facts, self._zen, self._environ, self._node_id)
        identity = None
        with suppress(KuboError):  # it is restarting: the addresses are as they were
            identity = await self._kubo.identity()
        addresses = self._facts.addresses if identity is None else best_first(identity.addresses)
        facts = replace(facts, addresses=addresses, channel=self.channel or facts.channel)
        if facts != self._facts:
            self._facts = facts
            self._dirty.set()
            for callback in self._learned:
                callback()

    async def _keep_facts(self) -> None:
        while True:
            await woken(self._stale, self._clock, FACTS_EVERY)
            self._stale.clear()
            private = self._facts.private
            await self.learn()
            if self._facts.private != private:  # `astrosystemctl local hide` writes the list and tells nobody
                await self._renew()

    # -- files --------------------------------------------------------------------------------------------------------

    def _changed(self, change: Change) -> None:
        if change.kind != "beat":
            self._dirty.set()

    async def _keep_files(self) -> None:
        self._dirty.set()
        verified = True
        while True:
            if not await woken(self._dirty, self._clock, LOOK) and not await asyncio.to_thread(self._is_disturbed):
                continue
            await self._clock.sleep(COALESCE)
            self._dirty.clear()
            began = self._clock.monotonic()
            laid = await self._lay()
            if laid and verified:  # somebody may have taken away at the same moment what was just laid: looked at once more
                self._dirty.set()
            verified = not (laid and verified)
            await self._clock.sleep((self._clock.monotonic() - began) * REST)

    async def _lay(self) -> bool:
        """Make one pass; return whether any file was written or taken away."""
        nodes = self._view.nodes(self._clock.monotonic())
        offers, facts, catalogue = self._serving.offers(), self._facts, self._catalogue()
        publication, now = self._registry.publication, self._clock.now_ms() / 1000
        envelope = publication.envelope if publication else None
        stopped = self._serving.paused
        balise = await self._attempt(
            "balise", lambda: self._balise.lay(facts, offers, envelope, catalogue, now, stopped=stopped)
        )
        cache = await self._attempt("swarm cache", lambda: self._cache.lay(nodes, catalogue, now))
        self._standing, self._tried_at = await asyncio.to_thread(self._looks), self._clock.monotonic()
        if balise or cache:
            for callback in self._laid:
                callback(balise, cache)
        return any((*balise.refreshed, *cache.refreshed, balise, cache))

    async def _attempt(self, part: str, lay: Callable[[], Laid]) -> Laid:
        try:
            laid = await asyncio.to_thread(lay)
        except LocalError as error:
            if self.problems.get(part) != str(error):
                log.warning("%s: %s (%s)", part, error, error.hint)
            self.problems[part] = str(error)
            return Laid()
        if self.problems.pop(part, None):
            log.info("%s: laid again", part)
        return laid

    def _is_disturbed(self) -> bool:
        retry = bool(self.problems) and self._clock.monotonic() - self._tried_at >= RETRY
        return retry or self._looks() != self._standing

    def _looks(self) -> tuple[object, ...]:
        """Return what changes when anything is made or taken away directly in one of our folders."""
        return tuple(_place(folder) for folder in (self._zen.balise(self._node_id), self._zen.swarm))


def _place(folder: Path) -> tuple[int, int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_mtime_ns

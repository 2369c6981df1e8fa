"""A station at work: the composition root of this room.

upkeep (files, facts) ──► publication (two IPNS names) and beacon (HTTP 12345), where Dragon publishes
bash stations ──► view            authorized_keys, where the operator wants it
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from dragon.astroport import beside
from dragon.astroport.bash_stations import BashStations
from dragon.astroport.facts import MAX_DOCUMENT, read_text
from dragon.astroport.fields import manifest_fields
from dragon.astroport.http_beacon import HttpBeacon
from dragon.astroport.key_keeping import AuthorizedKeys
from dragon.astroport.laying import Laid
from dragon.astroport.publication import Publication
from dragon.astroport.relay_events import LOCAL_RELAY, station_events
from dragon.astroport.scripts_running import Script
from dragon.astroport.station_keys import speakers
from dragon.astroport.upkeep import Upkeep
from dragon.astroport.zen import Zen
from dragon.clock import Clock
from dragon.config import Settings
from dragon.connect import Serving
from dragon.errors import KuboError
from dragon.home import Home
from dragon.kubo.types import Kubo
from dragon.probe import Catalogue
from dragon.registry.naming import Files, Name
from dragon.registry.service import Registry
from dragon.registry.view import View

log = logging.getLogger(__name__)

WATCH: Final = 60.0
"""Seconds between two looks whether the station's own publisher has begun to run beside ours."""


class Station:
    """The station of one node. `owns_daemon`: the Kubo is Dragon's own, whose name no script publishes.

    `renew` has what the station says of its services read and applied.
    """

    def __init__(
        self,
        zen: Zen,
        node_id: str,
        home: Home,
        settings: Settings,
        environ: Mapping[str, str],
        *,
        kubo: Kubo,
        owns_daemon: bool,
        view: View,
        serving: Serving,
        registry: Registry,
        catalogue: Callable[[], Catalogue],
        renew: Callable[[], Awaitable[None]],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.zen = zen
        self.node_id = node_id
        self._settings = settings
        self._kubo = kubo
        self._owns_daemon = owns_daemon
        self._registry = registry
        self._clock = clock
        self.running_scripts: Callable[[], Sequence[Script]] = beside.scripts_of(environ)
        self.upkeep = Upkeep(
            zen, node_id, home, environ, kubo=kubo, view=view, serving=serving, registry=registry, catalogue=catalogue,
            renew=renew, clock=clock, docker_bridge=settings.astroport.docker_bridge,
            unsigned=settings.registry.publisher == "dragon" and settings.astroport.bash_stations,
        )  # fmt: skip
        self._reads_stations = settings.astroport.bash_stations
        self.stations = BashStations(
            kubo, view, zen, clock, rng, self_id=node_id, admit=self._reads_stations, catalogue=catalogue
        )
        self.publication: Publication | None = None
        self.beacon: HttpBeacon | None = None
        if settings.registry.publisher == "dragon":
            self.publication = Publication(
                zen, node_id, kubo, clock,
                publishing=registry.naming, changed_balise=registry.name.changed, allowed=self.may_publish,
            )  # fmt: skip
            self.beacon = HttpBeacon(settings.astroport.beacon_port, self._document, self._read, clock, own_id=node_id)
        self.keys: AuthorizedKeys | None = None
        if settings.astroport.authorized_keys:
            self.keys = self._key_keeper(view, home, environ)
        self._said = self.fields()
        self.upkeep.on_learned(self._learned)
        self.upkeep.on_laid(self._laid)

    @property
    def own_name(self) -> Name:
        """The node's own IPNS name, under which the balise stands."""
        return self._registry.name

    # -- what the node asks -------------------------------------------------------------------------------------------

    def fields(self) -> dict[str, str | int]:
        """Return the `station` map of the node's manifest."""
        return manifest_fields(self.upkeep.facts, captain=self._settings.astroport.captain)

    async def balise(self) -> Files:
        """Return what stands beside the manifest under the node's own name."""
        return await self.publication.balise() if self.publication is not None else {}

    async def may_publish(self) -> str:
        """Return why the station's names must not be published by us now, "" when they may."""
        return "" if self._owns_daemon else beside.publisher_in_the_way(await asyncio.to_thread(self.running_scripts))

    async def prepare(self) -> None:
        """Get ready before anything is opened or said: let the Bash DRAGON go first where that is wanted, read the facts."""
        if self._settings.astroport.bash_first and not self._owns_daemon:
            await beside.after_the_scripts(self.node_id, self._kubo, self._clock, self.running_scripts)
        await self._find_channel()
        await self.upkeep.learn()

    async def refresh(self) -> None:
        """Read stations without Dragon anew, past every cache. Raises what Kubo raises when it is away."""
        if self._reads_stations:
            await self.stations.refresh()

    def reload(self) -> None:
        """Read the station's files again, now."""
        self.upkeep.reload()

    async def run(self) -> None:
        """Do all of it until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.upkeep.run())
            if self._reads_stations:
                tasks.create_task(self.stations.run())
            if self.publication is not None and self.beacon is not None:
                tasks.create_task(self.publication.run())
                tasks.create_task(self.beacon.run())
                tasks.create_task(self._watch())
            if self.keys is not None:
                tasks.create_task(self.keys.run())

    # -- what the parts tell one another ------------------------------------------------------------------------------

    def _learned(self) -> None:
        if (fields := self.fields()) != self._said:
            self._said = fields
            self._registry.announce()

    async def _read(self, node_id: str) -> None:
        if self._reads_stations:
            await self.stations.read(node_id)

    def _laid(self, balise: Laid, cache: Laid) -> None:
        if self.publication is not None:
            self.publication.look_now()

    async def _watch(self) -> None:
        """Say loudly when a second publisher begins beside ours, also while we have nothing to publish."""
        told = ""
        while True:
            why = await self.may_publish()
            if why and why != told:
                log.error("%s; until it is stopped (systemctl stop astroport) nothing is published here", why)
            told = why
            if not self.upkeep.channel:
                await self._find_channel()
            await self._clock.sleep(WATCH)

    async def _find_channel(self) -> None:
        if self.publication is not None:
            with suppress(KuboError):  # it is restarting: asked again by `_watch`
                self.upkeep.channel = await self.publication.channel()

    def _document(self) -> bytes:
        """Return the station's 12345.json, or what the originals say while there is none yet."""
        text = read_text(self.zen.balise(self.node_id) / "12345.json", MAX_DOCUMENT)
        if text:
            return text.encode()
        booting = {"version": "12345.0.2", "hostname": self.upkeep.facts.hostname, "ipfsnodeid": self.node_id}
        return json.dumps({**booting, "status": "booting", "created": str(self._clock.now_ms() // 1000)}).encode()

    def _key_keeper(self, view: View, home: Home, environ: Mapping[str, str]) -> AuthorizedKeys:
        relay = self._settings.constellation.relay or LOCAL_RELAY

        def signed_keys() -> dict[str, frozenset[str]]:
            nodes = (node for node in view.nodes(self._clock.monotonic()) if node.trust == "signed" and node.state == "live")
            said = {node.node_id: speakers(node.manifest.station) for node in nodes}
            return {node_id: keys for node_id, keys in said.items() if keys}

        file = Path(environ.get("HOME") or Path.home()) / ".ssh" / "authorized_keys"
        return AuthorizedKeys(
            file, home.root / "astroport" / "authorized_keys", self._clock,
            own_id=self.node_id, uplanet=lambda: self.upkeep.facts.uplanet, nodes=signed_keys,
            events=lambda authors, since: station_events(relay, authors, since),
        )  # fmt: skip

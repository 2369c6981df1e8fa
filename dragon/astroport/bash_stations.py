"""Stations that only run the Bash scripts, found and read again and again, for the view. DESIGN §7, rule 6.

peers, bootstrap list, swarm maps ──► who is due ──► name ──► files ──► hearsay ──► view.learn
copies that the station's own scripts fetched ──────────────────────────┘

Whoever signs is left alone: its manifest comes by the registry's own ways. Most peers of a public daemon are no stations, and
each look costs a walk through the DHT: who has no balise is asked ever more seldom.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dragon.astroport.bash_files import Files, copied, in_copy, under_name
from dragon.astroport.bootstrap_list import bootstrap_addresses
from dragon.astroport.hearsay import Heard, understand
from dragon.astroport.reading import MAX_MAPPED, Unreadable, read_map
from dragon.astroport.zen import Zen
from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo, peer_of
from dragon.probe.catalogue import Catalogue, load_catalogue
from dragon.registry.backoff import Backoff
from dragon.registry.verdict import Rejected
from dragon.registry.view import View
from dragon.registry.waiting import woken

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 30.0
"""Seconds between looks at who is there: a station that has just connected is read within them."""

AGAIN: Final = 300.0
"""Seconds after which a station is read again, as often as `_12345.sh` publishes at most; jittered by a quarter."""

SELDOM: Final = 6 * 3600.0
"""Seconds at most between two tries at a node without a balise: half of the life of one that it may have got meanwhile."""

READ_BOUND: Final = 30.0
"""Seconds to resolve one name and read what is under it. The scripts give each 20 to 60."""

AT_ONCE: Final = 4
"""Nodes read at the same time: each is a DHT walk and up to seventy small files."""

PER_LOOK: Final = 64
"""Nodes read in one look: the rest is due at the next one."""

REMEMBERED: Final = 4096
"""Nodes whose last try is remembered; the longest untried is forgotten first."""

REFRESH_BOUND: Final = 5.0
"""Seconds that somebody waits for `refresh`; what comes later comes all the same."""

DIALLED: Final = 3
"""Addresses of the bootstrap list that are dialled while there is no peer at all: as many as the scripts dial."""


@dataclass(slots=True)
class _Tried:
    """What came of the last tries at a node. `due`: when to try again (monotonic)."""

    backoff: Backoff
    is_station: bool = False
    path: str = ""
    """The directory that was read as a whole: nothing in it can change."""
    channel: str = ""
    due: float = float("-inf")


class BashStations:
    """Keeps the view's unsigned nodes up to date: `run` for ever, `refresh` now. `counters` say what was read and refused."""

    def __init__(
        self,
        kubo: Kubo,
        view: View,
        zen: Zen,
        clock: Clock,
        rng: random.Random,
        *,
        self_id: str,
        admit: bool,
        catalogue: Callable[[], Catalogue] | None = None,
    ) -> None:
        """`admit`: whether what is found may be used, or is only shown (`[astroport] bash_stations`).

        `catalogue`: what is known of services beside their ports.
        """
        shipped = load_catalogue()
        self._kubo = kubo
        self._view = view
        self._zen = zen
        self._clock = clock
        self._rng = rng
        self._self_id = self_id
        self._admit = admit
        self._catalogue = catalogue or (lambda: shipped)
        self._tried: OrderedDict[str, _Tried] = OrderedDict()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._wake = asyncio.Event()
        self._is_fresh_wanted = False
        self.counters: Counter[str] = Counter()

    async def run(self) -> None:
        """Look for stations and read them, until cancelled; a daemon that is away is waited for."""
        while True:
            fresh, self._is_fresh_wanted = self._is_fresh_wanted, False
            self._wake.clear()
            try:
                await self._look(fresh=fresh)
            except KuboError as error:
                log.debug("no look at stations without Dragon now: %s", error)
            await woken(self._wake, self._clock, LOOK_EVERY * (0.75 + self._rng.random() / 2))

    async def refresh(self) -> None:
        """Read all that may be a station anew, past every cache; returns when that is done, or could not be in time.

        Raises what Kubo raises when it is away.
        """
        try:
            async with asyncio.timeout(REFRESH_BOUND):
                await self._look(fresh=True)
        except TimeoutError:
            self._is_fresh_wanted = True
            self._wake.set()

    async def read(self, node_id: str) -> None:
        """Read one node now, whatever came of earlier tries: it asked for it. Who signs needs no reading."""
        if node_id != self._self_id and not self._signs(node_id):
            await self._visit(node_id, True)

    # -- who is looked at ---------------------------------------------------------------------------------------------

    async def _look(self, *, fresh: bool) -> None:
        """Read the copies, then who is due (everybody where `fresh`), then whom their swarm maps name."""
        await self._read_copies()
        candidates = await self._candidates()
        mapped = await self._visit_all(self._due(candidates, fresh), fresh)
        await self._visit_all(self._due(sorted(mapped - set(candidates)), fresh), fresh)

    async def _candidates(self) -> list[str]:
        """Return the ids of nodes that may be stations: those that were, then the bootstrap list's, then other peers."""
        addresses = await asyncio.to_thread(bootstrap_addresses, self._zen)
        peers = await self._kubo.peers()
        if not peers:
            await self._dial(addresses[:DIALLED])
        stations = [node_id for node_id, tried in self._tried.items() if tried.is_station]
        listed = [node_id for address in addresses if (node_id := peer_of(address)) is not None]
        others = [peer.node_id for peer in peers]
        self._rng.shuffle(others)
        return list(dict.fromkeys([*stations, *listed, *others]))

    async def _dial(self, addresses: Iterable[str]) -> None:
        for address in addresses:
            try:
                await self._kubo.connect(address)
            except KuboError as error:
                log.debug("%s of the bootstrap list: %s", address, error)

    def _due(self, node_ids: Iterable[str], fresh: bool) -> list[str]:
        now = self._clock.monotonic()
        due = [
            node_id
            for node_id in node_ids
            if node_id != self._self_id
            and not self._signs(node_id)
            and (fresh or (tried := self._tried.get(node_id)) is None or tried.due <= now)
        ]
        return due[:PER_LOOK]

    def _signs(self, node_id: str) -> bool:
        held = self._view.node(node_id, self._clock.monotonic())
        return held is not None and held.trust == "signed" and held.state in ("live", "skewed")

    # -- what is read -------------------------------------------------------------------------------------------------

    async def _visit_all(self, node_ids: Iterable[str], fresh: bool) -> set[str]:
        """Read each; return the ids that their swarm maps name."""
        visits = [asyncio.create_task(self._visit(node_id, fresh)) for node_id in node_ids]
        try:
            found = await asyncio.gather(*visits)
        finally:
            for visit in visits:
                visit.cancel()
            await asyncio.gather(*visits, return_exceptions=True)
        return {node_id for mapped in found for node_id in mapped}

    async def _visit(self, node_id: str, fresh: bool) -> tuple[str, ...]:
        tried = self._remember(node_id)
        async with self._slots:
            try:
                async with asyncio.timeout(READ_BOUND):
                    await self._read_name(node_id, tried, fresh)
                    mapped = await self._read_map(tried.channel) if tried.channel else ()
            except (KuboError, TimeoutError) as error:
                self._failed(tried, "unreachable", node_id, error)
            except Unreadable as error:
                if error.reason == "signs":
                    self._view.unlearn(node_id)
                self._failed(tried, error.reason, node_id, error)
            else:
                tried.backoff.reset()
                tried.due = self._clock.monotonic() + AGAIN * (0.75 + self._rng.random() / 2)
                return mapped
        return ()

    async def _read_name(self, node_id: str, tried: _Tried, fresh: bool) -> None:
        path = await self._kubo.name_resolve(node_id, nocache=fresh)
        held = self._view.node(node_id, self._clock.monotonic())
        if path == tried.path and held is not None and held.trust == "ipns":
            self.counters["unchanged"] += 1
            return
        heard = self._heard(node_id, await under_name(self._kubo, path))
        self._learn(heard)
        tried.is_station, tried.channel, tried.path = True, heard.channel, path if heard.is_whole else ""
        self.counters["read"] += 1

    async def _read_map(self, channel: str) -> tuple[str, ...]:
        """Return whom a station's swarm map names; a map that cannot be had costs its station nothing."""
        try:
            return read_map(await self._kubo.ls(f"/ipns/{channel}", limit=MAX_MAPPED))
        except KuboError as error:
            self.counters["map-unreachable"] += 1
            log.debug("no swarm map under %s: %s", channel, error)
            return ()

    async def _read_copies(self) -> None:
        """Take in what the station's own scripts have fetched, where it is newer than what is held, or of somebody new."""
        for node_id in await asyncio.to_thread(copied, self._zen.swarm):
            held = self._view.node(node_id, self._clock.monotonic())
            if node_id == self._self_id or (held is not None and held.trust == "signed"):
                continue  # our own cache repeats what was signed
            try:
                files = await asyncio.to_thread(in_copy, self._zen.swarm / node_id)
                if files is None:
                    continue
                heard = self._heard(node_id, files)
                if held is None or heard.manifest.sequence > held.manifest.sequence:
                    self._learn(heard)
                    self.counters["copies"] += 1
            except Unreadable as error:
                self.counters[error.reason] += 1
                continue

    def _heard(self, node_id: str, files: Files) -> Heard:
        heard = understand(node_id, *files, swarm=self._view.swarm, catalogue=self._catalogue())
        self.counters.update(heard.refused)
        return heard

    def _learn(self, heard: Heard) -> None:
        """Hand it to the view; `Unreadable` with the view's reason when it does not count."""
        at, now_ms = self._clock.monotonic(), self._clock.now_ms()
        verdict = self._view.learn(heard.manifest, at=at, now_ms=now_ms, usable=self._admit)
        if isinstance(verdict, Rejected):
            raise Unreadable(verdict.reason, verdict.detail)

    def _failed(self, tried: _Tried, reason: str, node_id: str, error: Exception) -> None:
        self.counters[reason] += 1
        tried.due = self._clock.monotonic() + tried.backoff.wait()
        log.debug("%s is no station that can be read now (%s): %s", node_id, reason, error)

    def _remember(self, node_id: str) -> _Tried:
        tried = self._tried.pop(node_id, None) or _Tried(Backoff(AGAIN, SELDOM, self._rng))
        self._tried[node_id] = tried
        if len(self._tried) > REMEMBERED:
            self._tried.popitem(last=False)
        return tried

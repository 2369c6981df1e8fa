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
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final

from dragon.astroport.bash_files import Files, Stamp, copied, in_copy, under_name
from dragon.astroport.bootstrap_list import bootstrap_addresses
from dragon.astroport.hearsay import Heard, understand
from dragon.astroport.reading import MAX_MAPPED, Unreadable, read_map
from dragon.astroport.zen import Zen
from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo, peer_of
from dragon.probe.catalogue import Catalogue, load_catalogue
from dragon.registry.backoff import Backoff
from dragon.registry.unsigned import SUPERSEDED
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

AT_ONCE: Final = 8
"""Names read at the same time: each is a DHT walk and up to seventy small files."""

PER_LOOK: Final = 32
"""Strangers read in one look, which takes two minutes at most when none of them answers; the rest is due at the next one."""

REMEMBERED: Final = 4096
"""Names whose last try is remembered; the longest untried is forgotten first."""

REFRESH_BOUND: Final = 5.0
"""Seconds that somebody waits for `refresh`; what comes later comes all the same."""

DIALLED: Final = 3
"""Addresses of the bootstrap list that are dialled while there is no peer at all: as many as the scripts dial."""

USUAL: Final = frozenset({"read", "unchanged", "copies", "maps", "unreachable", "no-moats", "signs"})
"""Counters that tell of no fault: most peers are no stations, and some have Dragon."""


@dataclass(slots=True)
class _Tried:
    """What came of the last tries at a name, a node's or a map's. `due`: when to try again (monotonic)."""

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
        self._kubo = kubo
        self._view = view
        self._zen = zen
        self._clock = clock
        self._rng = rng
        self._self_id = self_id
        self._admit = admit
        self._catalogue = catalogue or load_catalogue
        self._tried: OrderedDict[str, _Tried] = OrderedDict()
        self._copies: dict[str, tuple[Stamp, float]] = {}
        """By node id: what its folder looked like when it was read, and when it is read again all the same."""
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
            await self._each(self._visit, [node_id], fresh=True)

    def summary(self) -> str:
        """Return for people how many are known, what becomes of them, and what was refused of what they publish."""
        nodes = self._view.nodes(self._clock.monotonic())
        known = sum(node.trust == "ipns" and node.state == "live" for node in nodes)
        fate = "used where nobody who signs can serve" if self._admit else "shown only ([astroport] bash_stations is false)"
        refused = [f"{reason} {count}" for reason, count in sorted(self.counters.items()) if reason not in USUAL]
        return f"{known} known, {fate}" + (f"; refused so far: {', '.join(refused)}" if refused else "")

    # -- who is looked at ---------------------------------------------------------------------------------------------

    async def _look(self, *, fresh: bool) -> None:
        """Read the copies, then who is due (everybody where `fresh`), then whom their swarm maps name.

        Whoever was asked before and has no balise comes last: each of them may take all the time there is.
        """
        await self._read_copies(fresh)
        candidates = await self._candidates()
        due = self._due(candidates, fresh)
        first = [name for name in due if (tried := self._tried.get(name)) is None or tried.is_station]
        await self._each(self._visit, first, fresh)
        maps = [tried.channel for tried in self._tried.values() if tried.channel]
        found = await self._each(self._read_map, self._due(dict.fromkeys(maps), fresh=False), fresh)
        mapped = sorted({node_id for each in found for node_id in each}.difference(candidates))
        await self._each(self._visit, [*self._due(mapped, fresh), *(name for name in due if name not in first)], fresh)

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

    def _due(self, names: Iterable[str], fresh: bool) -> list[str]:
        """Return who is to be read now: stations, then strangers, then those that had no balise."""
        now = self._clock.monotonic()
        stations: list[str] = []
        strangers: list[str] = []
        hopeless: list[str] = []
        for name in names:
            tried = self._tried.get(name)
            if name == self._self_id or self._signs(name) or not (fresh or tried is None or tried.due <= now):
                continue
            (strangers if tried is None else stations if tried.is_station else hopeless).append(name)
        return stations + (strangers + hopeless)[:PER_LOOK]

    def _signs(self, node_id: str) -> bool:
        held = self._view.node(node_id, self._clock.monotonic())
        return held is not None and held.trust == "signed" and held.state in ("live", "skewed")

    # -- what is read -------------------------------------------------------------------------------------------------

    async def _each(
        self, read: Callable[[str, _Tried, bool], Awaitable[Iterable[str]]], names: Iterable[str], fresh: bool
    ) -> list[Iterable[str]]:
        """Read all `names`, some at a time; return what each brought."""
        tasks = [asyncio.create_task(self._one(read, name, fresh)) for name in names]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(
        self, read: Callable[[str, _Tried, bool], Awaitable[Iterable[str]]], name: str, fresh: bool
    ) -> Iterable[str]:
        """Read one name within its bound, and note when it is due again; nothing comes of one that cannot be read."""
        tried = self._remember(name)
        tried.due = max(tried.due, self._clock.monotonic() + READ_BOUND)  # also when this try is given up in the middle
        async with self._slots:
            try:
                async with asyncio.timeout(READ_BOUND):
                    found = await read(name, tried, fresh)
            except (KuboError, TimeoutError) as error:
                self._failed(tried, "unreachable", name, error)
            except Unreadable as error:
                self._failed(tried, error.reason, name, error)
            else:
                tried.backoff.reset()
                tried.due = self._clock.monotonic() + AGAIN * (0.75 + self._rng.random() / 2)
                return found
        return ()

    async def _visit(self, node_id: str, tried: _Tried, fresh: bool) -> Iterable[str]:
        """Read the balise of a node, unless it is the one that was read before."""
        path = await self._kubo.name_resolve(node_id, nocache=fresh)
        held = self._view.node(node_id, self._clock.monotonic())
        if path == tried.path and held is not None and held.trust == "ipns":
            self.counters["unchanged"] += 1
            return ()
        files = await under_name(self._kubo, path)
        if files[0].has_manifest:
            self._view.unlearn(node_id)
        heard = self._heard(node_id, files)
        if not self._learn(heard):  # a copy on disk is newer than the record that we were given
            self.counters["unchanged"] += 1
            return ()
        tried.is_station, tried.channel, tried.path = True, heard.channel, path if heard.is_whole else ""
        self.counters["read"] += 1
        return ()

    async def _read_map(self, channel: str, tried: _Tried, fresh: bool) -> Iterable[str]:
        """Return whom the swarm map under a station's second name lists."""
        path = await self._kubo.name_resolve(channel, nocache=fresh)
        self.counters["maps"] += 1
        return read_map(await self._kubo.ls(path, limit=MAX_MAPPED))

    async def _read_copies(self, fresh: bool) -> None:
        """Take in what the station's own scripts have fetched, where it is newer than what is held, or of somebody new."""
        now = self._clock.monotonic()
        folders = await asyncio.to_thread(copied, self._zen.swarm)
        self._copies = {node_id: read for node_id, read in self._copies.items() if node_id in folders}
        for node_id, stamp in folders.items():
            held = self._view.node(node_id, now)
            if node_id == self._self_id or (held is not None and held.trust == "signed"):
                continue  # our own cache repeats what was signed
            before, due = self._copies.get(node_id, ((), now))
            if stamp == before and now < due and not fresh:
                continue
            self._copies[node_id] = stamp, now + AGAIN
            try:
                files = await asyncio.to_thread(in_copy, self._zen.swarm / node_id)
                if files is not None:
                    heard = self._heard(node_id, files)
                    if held is None or heard.manifest.sequence > held.manifest.sequence:
                        self.counters["copies"] += self._learn(heard)
            except Unreadable as error:
                self.counters[error.reason] += 1

    def _heard(self, node_id: str, files: Files) -> Heard:
        heard = understand(node_id, *files, swarm=self._view.swarm, catalogue=self._catalogue())
        self.counters.update(heard.refused)
        return heard

    def _learn(self, heard: Heard) -> bool:
        """Hand it to the view; False when newer files are known. `Unreadable` when the view has another reason to refuse."""
        at, now_ms = self._clock.monotonic(), self._clock.now_ms()
        verdict = self._view.learn(heard.manifest, at=at, now_ms=now_ms, usable=self._admit)
        if isinstance(verdict, Rejected) and verdict.reason != SUPERSEDED:
            raise Unreadable(verdict.reason, verdict.detail)
        return not isinstance(verdict, Rejected)

    def _failed(self, tried: _Tried, reason: str, name: str, error: Exception) -> None:
        self.counters[reason] += 1
        tried.due = self._clock.monotonic() + tried.backoff.wait()
        log.debug("%s says nothing that counts now (%s): %s", name, reason, error)

    def _remember(self, name: str) -> _Tried:
        tried = self._tried.pop(name, None) or _Tried(Backoff(AGAIN, SELDOM, self._rng))
        self._tried[name] = tried
        if len(self._tried) > REMEMBERED:
            self._tried.popitem(last=False)
        return tried

"""The prober: looks at this machine and tells what it may offer; watches and tells when that changes.

Listening sockets are looked at four times a second (0.1 ms a look). When one opens, closes or changes hands on a port of the
catalogue, everything is surveyed at once, and a few times again while something is still starting. A port that closed is
withdrawn in the same look, without asking anybody. Apart from that a full survey every `interval` seconds catches the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Mapping
from typing import TYPE_CHECKING, Final

from dragon import sockdiag
from dragon.clock import Clock
from dragon.probe import ownership
from dragon.probe.apitest import TestResult, test_service
from dragon.probe.catalogue import Catalogue
from dragon.probe.decision import Contender, Record, Weighed, screen, settle, weigh
from dragon.probe.entry import CatalogueEntry
from dragon.probe.evidence import Sources, gather
from dragon.probe.ownership import Ownership
from dragon.probe.survey import Finding, Survey

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Finding", "Prober", "Survey"]

log = logging.getLogger(__name__)

HOST: Final = "127.0.0.1"
"""Services are reached here: what Kubo's listeners and the gate dial."""

LOOK_SECONDS: Final = 0.24
"""Between two looks at the sockets, four a second: a change is seen after 0.12 s on average, at 0.1 % of a core."""

LOOK_SECONDS_WITHOUT_NETLINK: Final = 2.0
"""The same without netlink, where one look costs 5 ms and more."""

INTERVAL_SECONDS: Final = 30.0
"""Between two full surveys when no socket changes: one API test per service, and what sockets do not show."""

LADDER: Final = (0.3, 0.7, 2.0, 5.0)
"""Seconds to the further surveys after a change, while something is starting or fails: programs open their port before they can
answer, and containers are listed after their port is open."""

HURRIED_SECONDS: Final = 0.8
"""Bound of each question in the survey right after a change: a service that hangs must not hide one that has just started."""

PATIENT_SECONDS: Final = 5.0
"""Bound of each question in any other survey: a busy service may take its time. A change of sockets ends the waiting."""

BURST, BURST_SECONDS = 20, 10.0
"""At most this many surveys in that many seconds (each about 20 ms of a core): bounds what a service that crashes in a loop
costs, and lets a person who restarts a few services wait for none of them."""


_NOTHING: Final = Survey()
"""Told before the first survey."""


class Prober:
    """What runs on this machine, by a catalogue. One `watch` at a time."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        clock: Clock,
        excluded_ports: Callable[[], frozenset[int]],
        own_pids: Callable[[], frozenset[int]],
        interval: float = INTERVAL_SECONDS,
        patience: float = PATIENT_SECONDS,
        sources: Sources | None = None,
    ) -> None:
        """`excluded_ports`: never offered, whoever holds them (Kubo's forwards, our own servers). `own_pids`: this node's
        processes, its Kubo included. `interval`: seconds between full surveys. `patience`: seconds for one API test.
        """
        self._catalogue = catalogue
        self._clock = clock
        self._excluded_ports = excluded_ports
        self._own_pids = own_pids
        self._interval = interval
        self._patience = patience
        self._sources = sources or Sources()
        self._records: Mapping[str, Record] = {}
        self._owned: dict[int, Ownership] = {}
        self._limits: tuple[str, ...] = ()
        self._latest = Survey()
        self._unsettled = False
        self._replaced = False

    def limits(self) -> list[str]:
        """Return what the last survey could not see on this machine, one statement each, for `doctor`."""
        return list(self._limits)

    @property
    def latest(self) -> Survey:
        """The last survey, told or not: `refused` is newest here, since `watch` does not tell reasons by themselves."""
        return self._latest

    def replace_catalogue(self, catalogue: Catalogue) -> None:
        """Go by another catalogue from the next look on (≤ 0.24 s); what is private there is withdrawn with it."""
        self._catalogue = catalogue
        self._replaced = True

    async def survey(self) -> Survey:
        """Return what runs here now, asking patiently."""
        return await self._survey(await asyncio.to_thread(_listening), patience=self._patience, fresh=True)

    async def watch(self) -> AsyncGenerator[Survey, None]:
        """Yield a survey at once, then whenever what may be offered differs from what was last yielded.

        Holds a netlink socket while it runs: end it by `aclose` (`contextlib.aclosing`).
        """
        with sockdiag.ListeningWatch() as table:
            watching = _Watching(self, table)
            async for survey in watching.run():
                yield survey

    async def _survey(self, sockets: list[sockdiag.Socket] | None, *, patience: float, fresh: bool) -> Survey:
        """One look. `sockets`: all listeners, None where unknown. `fresh`: ask again who holds them."""
        catalogue, own = self._catalogue, self._own_pids()
        excluded = self._excluded_ports()
        refused: dict[str, str] = {}
        asked: list[CatalogueEntry] = []
        by_port = _by_port(sockets)
        for entry in catalogue.entries():
            why = screen(entry, None if by_port is None else by_port.get(entry.port, []), excluded)
            if why is None:
                asked.append(entry)
            else:
                refused[entry.slug] = why

        candidates = [each for entry in asked for each in (by_port or {}).get(entry.port, [])]
        gathered, owned = await asyncio.gather(
            gather({evidence for entry in asked for evidence in entry.evidence}, self._sources, own_pids=own, timeout=patience),
            asyncio.to_thread(ownership.read_owners, candidates, {} if fresh else self._owned),
        )
        standing: list[tuple[CatalogueEntry, Weighed]] = []
        unsettled = False
        for entry in asked:
            weighed = weigh(entry, gathered.sightings, self._records.get(entry.slug))
            held = [owned[each.inode] for each in (by_port or {}).get(entry.port, [])]
            if not weighed.holds:
                refused[entry.slug], unsettled = weighed.detail, True
            elif why := _tunnel(held, own, weighed):
                refused[entry.slug] = why
            else:
                standing.append((entry, weighed))

        results = await _test([entry for entry, _ in standing], patience, hurried=patience < self._patience)
        outcome = settle((Contender(entry, weighed, results[entry.slug]) for entry, weighed in standing), self._records)
        self._owned = owned
        self._records = outcome.records
        self._unsettled = unsettled or outcome.unsettled
        self._limits = (*gathered.limits, *ownership.unreadable(owned.values()), *_blindness(by_port))
        self._latest = Survey(outcome.found, {**refused, **outcome.refused}, self._clock.monotonic())
        return self._latest


class _Watching:
    """The loop of one `watch`: when to look, when to survey, when to tell."""

    def __init__(self, prober: Prober, table: sockdiag.ListeningWatch) -> None:
        self._prober = prober
        self._table = table
        self._clock = prober._clock
        self._pause = LOOK_SECONDS if table.source == "netlink" else LOOK_SECONDS_WITHOUT_NETLINK
        self._sockets: list[sockdiag.Socket] | None = []
        self._seen: object = None
        self._recent: deque[float] = deque(maxlen=BURST)

    async def run(self) -> AsyncIterator[Survey]:
        prober, told = self._prober, _NOTHING
        ladder: deque[float] = deque()
        climbing = False
        due, patient = self._clock.monotonic(), False
        while True:
            if await self._changed():
                ladder, due, patient = deque(LADDER), self._clock.monotonic(), False
                if told is not _NOTHING and (less := self._without_closed(told)).differs(told):
                    told = prober._latest = less
                    yield less
            if self._clock.monotonic() >= max(due, self._earliest()):
                survey = await self._one(patient)
                if survey is None:  # something changed meanwhile
                    due = self._clock.monotonic()
                    continue
                if not climbing and _worse(told, survey):  # a service that flaps costs one ladder an interval
                    ladder = deque(LADDER)
                climbing = prober._unsettled and bool(ladder)
                due = self._clock.monotonic() + (ladder.popleft() if climbing else prober._interval)
                patient = True
                if told is _NOTHING or survey.differs(told):
                    told = survey
                    yield survey
            await self._clock.sleep(self._pause)

    async def _one(self, patient: bool) -> Survey | None:
        """Return one survey; a patient one is given up (None) when sockets change: it may wait for one that hangs."""
        self._recent.append(self._clock.monotonic())
        self._prober._replaced = False
        patience = self._prober._patience if patient else min(HURRIED_SECONDS, self._prober._patience)
        work = self._prober._survey(self._sockets, patience=patience, fresh=patient)
        if not patient:
            return await work
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                pause = asyncio.ensure_future(self._clock.sleep(self._pause))
                try:
                    await asyncio.wait({task, pause}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    pause.cancel()
                if not task.done() and await self._changed(keep=True):
                    return None
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _changed(self, *, keep: bool = False) -> bool:
        """Look; return whether listeners on ports of the catalogue, the excluded ports or the catalogue changed.

        `keep`: leave it to be seen again by the next look.
        """
        prober = self._prober
        ports = frozenset(entry.port for entry in prober._catalogue.entries() if not entry.private)
        try:
            if self._table.source == "netlink":
                sockets = self._table.look(ports)
            else:
                sockets = await asyncio.to_thread(self._table.look, ports)
        except OSError as error:
            if self._sockets is not None:
                log.warning("listening sockets cannot be read (%s): only the slow survey sees changes now", error)
            sockets, self._sockets = None, None
        if sockets is not None:
            self._sockets = sockets
        seen = (self._sockets or [], prober._excluded_ports() & ports)
        changed = seen != self._seen or prober._replaced
        if not keep:
            self._seen = seen
        return changed

    def _without_closed(self, told: Survey) -> Survey:
        """Return what was told without what may be offered no longer, as far as that is plain without asking anybody."""
        prober, by_port = self._prober, _by_port(self._sockets)
        excluded = prober._excluded_ports()
        refused = dict(told.refused)
        kept: list[Finding] = []
        for finding in told.found:
            if finding.slug not in prober._catalogue:
                refused[finding.slug] = "no longer in the catalogue"
                continue
            entry = prober._catalogue.get(finding.slug)
            why = screen(entry, None if by_port is None else by_port.get(finding.port, []), excluded)
            if why is None and entry.port == finding.port:
                kept.append(finding)
            else:
                refused[finding.slug] = why or f"its port is {entry.port} now"
        return Survey(tuple(kept), refused, self._clock.monotonic())

    def _earliest(self) -> float:
        full = len(self._recent) == BURST
        return self._recent[0] + BURST_SECONDS if full else 0.0


def _worse(before: Survey, now: Survey) -> bool:
    """Return whether a service that passed has begun to fail: then look again soon, it may have been an accident."""
    passing = {each.slug for each in before.found if each.health == "passing"}
    return any(each.slug in passing and each.health != "passing" for each in now.found)


def _listening() -> list[sockdiag.Socket] | None:
    try:
        return sockdiag.listening()
    except OSError:
        return None


def _by_port(sockets: Collection[sockdiag.Socket] | None) -> dict[int, list[sockdiag.Socket]] | None:
    if sockets is None:
        return None
    by_port: dict[int, list[sockdiag.Socket]] = {}
    for each in sockets:
        by_port.setdefault(each.local_port, []).append(each)
    return by_port


def _tunnel(held: Collection[Ownership], own: frozenset[int], weighed: Weighed) -> str | None:
    whys = (ownership.refusal(each, own, is_specific=weighed.is_specific) for each in held if each.socket.on_loopback)
    return next((why for why in whys if why is not None), None)


def _blindness(by_port: object) -> list[str]:
    if by_port is not None:
        return []
    return ["listening sockets cannot be read here: tunnels are not recognised, and changes are only seen by the slow survey"]


async def _test(entries: Collection[CatalogueEntry], patience: float, *, hurried: bool) -> dict[str, TestResult | None]:
    """Return slug → what its test showed. In a hurry, no answer in time is no result (None): it says nothing yet."""
    if not entries:
        return {}
    import aiohttp  # 15 MB that a command line which only parses the catalogue does not need

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as session:
        results = await asyncio.gather(*(_test_one(entry, patience, session, hurried) for entry in entries))
    return dict(zip((entry.slug for entry in entries), results, strict=True))


async def _test_one(entry: CatalogueEntry, patience: float, session: aiohttp.ClientSession, hurried: bool) -> TestResult | None:
    result = await test_service(entry, HOST, entry.port, timeout=patience, session=session)
    return None if hurried and result.timed_out else result

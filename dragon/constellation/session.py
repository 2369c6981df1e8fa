"""One run from beginning to end: locks, people, ways, the engine, and the report that is written whichever way it ends.

locks ─► stamp ─► friends ─► ways ─► synchronise ─► friends ─► report ─► history, logs, mail
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dragon import __version__
from dragon.constellation.figures import verdict
from dragon.constellation.follows import find_circle, keep_friends
from dragon.constellation.history import History
from dragon.constellation.job import Job
from dragon.constellation.journal import Journal, Journals
from dragon.constellation.keys import pubkeys
from dragon.constellation.kinds import DEFAULT_KINDS
from dragon.constellation.lists import MOST
from dragon.constellation.lock import Locks, locked
from dragon.constellation.mail import message, post_of, send
from dragon.constellation.marks import beginning, ending
from dragon.constellation.progress import Progress
from dragon.constellation.relay import RelayFailed
from dragon.constellation.report import About, Timeline, brought_nothing, document
from dragon.constellation.run import synchronise
from dragon.constellation.stamps import stamp
from dragon.constellation.status import EVERY, StatusFile
from dragon.constellation.ways import Forwarding, Ways
from dragon.errors import LocalError

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import ConstellationSettings
    from dragon.constellation.outcome import Outcome
    from dragon.constellation.places import Places

FRIENDS_PATIENCE = 30.0
"""Seconds for the friends to be asked of our own relay: 2,000 lists take about one."""

LEFT_OVER = re.compile(
    r"backfill-(?:response|full-response|station|prof)-\d+(?:_filtered|_deletions|_videos|_import)?\.(?:json|ndjson)"
)
"""Temporary files that the station's script leaves in its relay's folder when it is killed (ASTROPORT facts 4.1)."""

DAY = 86_400

Mode = Literal["sync", "dry-run", "verify", "scheduled", "backfill", "trigger", "follow"]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked of a run."""

    days: float = 1.0
    """How far back; 0 is everything."""
    kinds: tuple[int, ...] = DEFAULT_KINDS
    profiles: bool = True
    both: bool = False
    dry_run: bool = False
    verify: bool = False
    timeout: float = 1800.0
    mode: Mode = "sync"
    drop_visitors: bool = False

    @property
    def writes(self) -> bool:
        return not (self.dry_run or self.verify)


@dataclass(slots=True)
class Session:
    """`facts`: what the node says of its constellation; `show` is told how far the run is, `say` what a person should know."""

    wish: Wish
    facts: Mapping[str, Any]
    places: Places
    settings: ConstellationSettings
    node: Forwarding
    clock: Clock
    show: Callable[[Progress], None] = lambda _: None
    say: Callable[[str], None] = lambda _: None
    identity: Mapping[str, Any] = field(default_factory=dict)
    """The node's id and alias."""
    notes: list[str] = field(default_factory=list)
    timeline: Timeline = field(default_factory=Timeline)
    latest: Progress | None = None

    async def run(self, stop: asyncio.Event) -> Document:
        """Do it and return the report. Setting `stop` ends it in order. Raises `RunGoesOn` or `HomeError` before it begins."""
        with locked(self.places.locks) as locks:
            for owner in locks.taken_over:
                self._note(f"took over the lock of a run that died ({owner.shown})")
            self._clean()
            return await self._held(locks, stop)

    async def _held(self, locks: Locks, stop: asyncio.Event) -> Document:
        started = self.clock.now_ms() / 1000
        history, status = History(self.places.runs), StatusFile(self.places.status)
        run = history.new_run(started)
        journals = self._journals()
        if self.wish.writes:
            stamp(self.places.stamps, started)
        ways = Ways(self.node, self.settings.hosts, self.facts["local"]["url"] or "")
        keeping = asyncio.create_task(self._keep(locks, status, run, started))
        try:
            authors = await self._authors()
            for level, text in beginning(len(authors), self.wish.days, [str(peer["alias"]) for peer in self.facts["peers"]]):
                journals.line(level, text)
            outcome = await self._synchronise(self.job(ways, authors, started), stop)
            if self.wish.writes and outcome.stored:
                await self._friends(authors)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await ways.close()
            status.clear()
        report = document(self.about(run), outcome, self.timeline.samples)
        for level, text in ending(report):
            journals.line(level, text)
        history.keep(report)
        await self._mail(report, journals)
        return report

    async def _synchronise(self, job: Job, stop: asyncio.Event) -> Outcome:
        working = asyncio.create_task(synchronise(job, self.clock, self._progress))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((working, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not working.done():
            working.cancel()  # asks it to stop; the outcome so far comes all the same
        return await working

    def job(self, ways: Ways, authors: Sequence[str], started: float) -> Job:
        """Return what the engine is asked to do."""
        wish, local, until = self.wish, self.facts["local"], int(started)
        return Job(
            peers=tuple(ways.peer(node) for node in self.facts["peers"]),
            authors=tuple(authors),
            kinds=wish.kinds,
            since=max(until - int(wish.days * DAY), 0) if wish.days else 0,
            until=until,
            local=local["url"],
            tool=Path(local["tool"]) if local["tool"] else None,
            both=wish.both,
            dry_run=wish.dry_run,
            verify=wish.verify,
            profiles=wish.profiles,
            peers_at_once=self.settings.peers_at_once,
            timeout=wish.timeout,
            resume=self.places.resume if wish.writes else None,
            drop_visitors=wish.drop_visitors,
        )

    async def _authors(self) -> list[str]:
        """Return the constellation's authors and the friends that our own relay knows of, bounded."""
        told = [str(key) for key in self.facts["hexes"]]
        return list(pubkeys((*told, *await self._friends(told))))[: max(MOST, len(told))]

    async def _friends(self, authors: Sequence[str]) -> Sequence[str]:
        """Return friends and friends of friends, and keep them where they are looked for; nothing where that fails."""
        people, url = [str(key) for key in self.facts["people"]], self.facts["local"]["url"]
        if not people or not url:
            return ()
        try:
            async with asyncio.timeout(FRIENDS_PATIENCE):
                found = await find_circle(url, people)
            if self.wish.writes:
                await asyncio.to_thread(keep_friends, self.places, found)
        except (RelayFailed, TimeoutError, LocalError) as error:
            self._note(f"the list of friends stays as it was: {error or 'our relay is too slow'}")
            return ()
        return found.all

    def _progress(self, progress: Progress) -> None:
        self.latest = progress
        self.timeline.add(progress)
        self.show(progress)

    async def _keep(self, locks: Locks, status: StatusFile, run: str, started: float) -> None:
        """Say once a second how far the run is, and hold on to the locks."""
        while True:
            status.write(run, started, self.latest, mode=self.wish.mode)
            for path in locks.renew():
                self._note(f"{path.name} was removed by another program during the run")
            await self.clock.sleep(EVERY)

    def about(self, run: str) -> About:
        """Return what a report says of us."""
        local, authors = self.facts["local"], self.facts["authors"]
        failed = [f"{one['alias']} ({one['error']})" for one in authors["nodes"] if one["error"]]
        notes = [*self.notes, *([f"no list of authors from {', '.join(failed)}"] if failed else [])]
        if authors["left_out"]:
            notes.append(f"{authors['left_out']} authors that few nodes name are beyond the bound of {MOST}")
        return About(
            run,
            node_id=str(self.identity.get("id", "")),
            alias=str(self.identity.get("alias", "")),
            swarm=str(self.facts["swarm"]),
            uplanet=str(self.facts["uplanet"]),
            mode=self.wish.mode,
            dragon=__version__,
            relay=local["url"] or "",
            tool=local["tool"] or "",
            people=authors["own"],
            notes=tuple(dict.fromkeys(notes)),
        )

    def _journals(self) -> Journals:
        """Return the station's logs, begun for this run; none elsewhere, and none for a run that changes nothing."""
        trigger, backfill, errors = self.places.trigger_log, self.places.backfill_log, self.places.error_log
        if trigger is None or backfill is None or errors is None or not self.wish.writes or not trigger.parent.is_dir():
            return Journals()
        lasting = (Journal(trigger), Journal(errors, frozenset({"WARN", "ERROR"})))
        for journal in lasting:
            journal.rotate()
        fresh = Journal(backfill)
        fresh.begin("# Constellation Backfill Log", "# This log contains only the latest run")
        return Journals(*lasting, fresh)

    async def _mail(self, report: Document, journals: Journals) -> None:
        if brought_nothing(report) or not self.wish.writes:
            return
        try:
            post = post_of(self.settings.mail_to, self.settings.mail_from, self.settings.smtp)
            if post is not None:
                journals.line("INFO", f"report mailed by {await asyncio.to_thread(send, message(report, post), post)}")
        except LocalError as error:
            self.say(f"the report ({verdict(report)}) was not mailed: {error}")
            journals.line("WARN", f"report not mailed: {error}")

    def _clean(self) -> None:
        """Remove what an earlier run left half written, ours or the script's: while the locks are held, nobody else runs."""
        ours = [path for folder in (self.places.root, self.places.runs) for path in _files(folder) if path.name.startswith(".")]
        strfry = self.places.zen / "strfry" if self.places.zen else None
        theirs = [path for path in _files(strfry) if LEFT_OVER.fullmatch(path.name)] if strfry and self.wish.writes else []
        for path in (*ours, *theirs):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)


def _files(folder: Path) -> list[Path]:
    with suppress(OSError):
        return [path for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    return []

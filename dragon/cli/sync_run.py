"""`dragon sync` at work: asks the node, looks at what a run needs, runs it with a progress bar, and shows the report."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dragon.cli import sync_tables as tables
from dragon.cli.logs import set_up_logging
from dragon.cli.output import print_json, print_line, print_table
from dragon.cli.sync_progress import say, shown_progress
from dragon.cli.sync_show import control, places_of, show
from dragon.cli.sync_signals import stop_on_signals
from dragon.clock import SystemClock
from dragon.config import ConstellationSettings, load_settings
from dragon.constellation.figures import verdict
from dragon.constellation.history import History
from dragon.constellation.kinds import DEFAULT_KINDS, DIRECT_MESSAGE, STATION_KINDS
from dragon.constellation.places import Places
from dragon.constellation.stamps import last_run, wait_for
from dragon.errors import LocalError, NoProvider
from dragon.home import Home

if TYPE_CHECKING:
    from dragon.client import Control
    from dragon.constellation.job import Job
    from dragon.constellation.prerequisites import Need
    from dragon.constellation.progress import Progress
    from dragon.constellation.session import Wish

INTERRUPTED = 130
"""128 + SIGINT, as shells report it: the run was stopped in order."""

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Asked:
    """The options as given; None: as the settings say."""

    days: float | None = None
    kinds: tuple[int, ...] | None = None
    dms: bool = True
    profiles: bool = True
    both: bool | None = None
    dry_run: bool = False
    verify: bool = False
    follow: bool = False
    timeout: float | None = None
    scheduled: bool = False

    def wish(self, settings: ConstellationSettings, places: Places) -> Wish:
        """Return what that means here: what a station's node does by itself keeps what its scripts kept."""
        from dragon.constellation.session import Wish

        as_scripts = (self.scheduled or self.follow) and places.zen is not None
        kinds = self.kinds or settings.kinds or (STATION_KINDS if as_scripts else DEFAULT_KINDS)
        return Wish(
            days=settings.days if self.days is None else self.days,
            kinds=tuple(kind for kind in kinds if self.dms or kind != DIRECT_MESSAGE),
            profiles=self.profiles,
            both=settings.both if self.both is None else self.both,
            dry_run=self.dry_run,
            verify=self.verify,
            timeout=settings.timeout if self.timeout is None else self.timeout,
            mode="scheduled" if self.scheduled else "dry-run" if self.dry_run else "verify" if self.verify else "sync",
            drop_visitors=as_scripts,
        )


def run(home: Home, asked: Asked, *, parent: int | None, verbose: bool, as_json: bool) -> int:
    """Run a sync and return the exit code. Raises `NotRunning`, `NoProvider` and whatever else keeps it from starting."""
    set_up_logging(1 if verbose else -1)
    settings = load_settings(home).constellation
    node = control(home)
    facts = node.constellation()
    places = places_of(home, facts)
    if asked.scheduled and wait_for(last_run(places.stamps, time.time()), time.time(), settings.every) > 0:
        print_line("skipped: a run began lately")
        return 0
    wish = asked.wish(settings, places)
    if asked.follow:
        report = stay(node, facts, places, settings, wish, parent=parent, as_json=as_json)
    else:
        report = perform(node, facts, places, settings, wish, parent=parent, verbose=verbose, as_json=as_json)
    if as_json:
        print_json(report)
    else:
        show(report, History(places.runs).page_of(report["run"]))
    return exit_code(report)


def perform(
    node: Control,
    facts: Document,
    places: Places,
    settings: ConstellationSettings,
    wish: Wish,
    *,
    parent: int | None = None,
    verbose: bool = False,
    as_json: bool = False,
) -> Document:
    """Check the needs, run, and return the report. Raises what keeps a run from starting."""
    from dragon.constellation.prerequisites import needs
    from dragon.constellation.session import Session

    async def work(say: Callable[[str], None], progress: Callable[[Progress], None]) -> Document:
        refuse(await needs(facts, places), as_json=as_json)
        session = Session(
            wish, facts, places, settings, node, SystemClock(), progress, say, identity=await asyncio.to_thread(node.status)
        )
        return await session.run(stop_on_signals(parent))

    with shown_progress(visible=not as_json and sys.stderr.isatty(), verbose=verbose) as (say, progress):
        return asyncio.run(work(say, progress))


def stay(
    node: Control,
    facts: Document,
    places: Places,
    settings: ConstellationSettings,
    wish: Wish,
    *,
    parent: int | None,
    as_json: bool,
) -> Document:
    """Run once, then follow until a signal; return the report of the following. Raises what keeps a run from starting."""
    from dragon.constellation.following import Follower
    from dragon.constellation.lock import RunGoesOn
    from dragon.constellation.prerequisites import needs
    from dragon.constellation.session import Session
    from dragon.constellation.ways import Ways

    async def work() -> Document:
        refuse(await needs(facts, places), as_json=as_json)
        clock, stop, identity = SystemClock(), stop_on_signals(parent), await asyncio.to_thread(node.status)
        session = Session(wish, facts, places, settings, node, clock, say=say, identity=identity)
        try:
            report = await session.run(stop)
        except RunGoesOn as error:
            say(f"{error}: following at once")
        else:
            say(f"backfill {verdict(report)}: {report['stored']} new events of {report['received']}; following")
        if stop.is_set():
            return report
        ways, history = Ways(node, settings.hosts, facts["local"]["url"] or ""), History(places.runs)

        def job_of(now: Mapping[str, Any]) -> Job:
            return session.job(ways, now["hexes"], time.time())

        try:
            now = await asyncio.to_thread(node.constellation)  # the backfill may have found friends
            followed = await Follower(node, places, clock, ways, job_of, session.about("")).run(now, stop)
        finally:
            await ways.close()
        followed["run"] = history.new_run(followed["started"])
        history.keep(followed)
        return followed

    return asyncio.run(work())


def refuse(found: Sequence[Need], *, as_json: bool) -> None:
    """Raise the one error that names everything missing; on a terminal the whole list is shown before.

    Whether another run goes on is for the locks to say, which are taken next.
    """
    from dragon.constellation.prerequisites import OTHER_RUN, missing

    lacking = [need for need in missing(found) if need.name != OTHER_RUN]
    if not lacking:
        return
    if not as_json and sys.stdout.isatty():
        print_table(tables.needs([need.document() for need in found]))
    what = "; ".join(f"{need.name}: {need.detail}" for need in lacking)
    kind = NoProvider if [need.name for need in lacking] == ["peers"] else LocalError
    raise kind(f"a sync cannot start: {what}", lacking[0].how)


def exit_code(report: Mapping[str, Any]) -> int:
    """0 when at least one peer was asked to the end, 130 when stopped, 1 when nothing or not enough came of it."""
    return {"ok": 0, "partial": 0, "cancelled": INTERRUPTED}.get(str(report["state"]), 1)

"""`dragon sync` at work: asks the node, looks at what a run needs, runs it with a progress bar, and shows the report."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragon.cli import sync_tables as tables
from dragon.cli.logs import set_up_logging
from dragon.cli.output import note, print_json, print_line, print_table
from dragon.clock import SystemClock
from dragon.config import ConstellationSettings, load_settings
from dragon.constellation.figures import verdict
from dragon.constellation.history import History
from dragon.constellation.kinds import DEFAULT_KINDS, DIRECT_MESSAGE, STATION_KINDS
from dragon.constellation.places import Places
from dragon.constellation.stamps import last_run, wait_for
from dragon.constellation.status import StatusFile
from dragon.errors import LocalError, NoProvider
from dragon.home import Home
from dragon.text import clean

if TYPE_CHECKING:
    from dragon.client import Control
    from dragon.constellation.job import Job
    from dragon.constellation.prerequisites import Need
    from dragon.constellation.progress import Progress
    from dragon.constellation.session import Wish

INTERRUPTED = 130
"""128 + SIGINT, as shells report it: the run was stopped in order."""

WATCH = 1.0
"""Seconds between two looks whether the node that started us still lives."""

PRINT_EVERY = 5.0
"""Seconds between two lines about the progress where there is no terminal and `--verbose` asks for them."""

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
        """Return what that means here: an hourly run of a station keeps what its scripts kept."""
        from dragon.constellation.session import Wish

        as_scripts = self.scheduled and places.zen is not None
        kinds = self.kinds or settings.kinds or (STATION_KINDS if as_scripts else DEFAULT_KINDS)
        return Wish(
            days=settings.days if self.days is None else self.days,
            kinds=tuple(kind for kind in kinds if self.dms or kind != DIRECT_MESSAGE),
            profiles=self.profiles,
            both=settings.both if self.both is None else self.both,
            dry_run=self.dry_run,
            verify=self.verify,
            timeout=settings.timeout if self.timeout is None else self.timeout,
            mode="scheduled" if self.scheduled else "sync",
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

    def say(text: str) -> None:
        print(clean(text, 2000), file=sys.stderr)

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


def stop_on_signals(parent: int | None) -> asyncio.Event:
    """Return what is set when the run shall end: at SIGINT, at SIGTERM, or when the process `parent` that started us is gone.

    A second signal ends it at once.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        print("stopping; what came until now is kept (once more: at once)", file=sys.stderr)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked, number)

    def look() -> None:
        if os.getppid() != parent:
            stop.set()
        else:
            loop.call_later(WATCH, look)

    if parent is not None:
        look()
    return stop


def exit_code(report: Mapping[str, Any]) -> int:
    """0 when at least one peer was asked to the end, 130 when stopped, 1 when nothing or not enough came of it."""
    return {"ok": 0, "partial": 0, "cancelled": INTERRUPTED}.get(str(report["state"]), 1)


def show(report: Document, page: Path) -> None:
    print_table(tables.report(report))
    print_line("")
    print_table(tables.peers(report))
    note(f"report: {page}")


def show_needs(home: Home, *, as_json: bool) -> int:
    """Show every need; 0 when a run could start."""
    from dragon.constellation.prerequisites import NO_NODE, missing, needs, no_run
    from dragon.errors import NotRunning

    try:
        facts = control(home).constellation()
    except NotRunning:
        places = Places(home.root)
        found = [NO_NODE, no_run(places.locks)]
    else:
        found = asyncio.run(needs(facts, places_of(home, facts)))
    documents = [need.document() for need in found]
    print_json(documents) if as_json else print_table(tables.needs(documents))
    return int(bool(missing(found)))


def show_hex(home: Home, *, as_json: bool) -> int:
    """Print the keys whose events are kept, and nothing else."""
    keys = control(home).constellation()["hexes"]
    if as_json:
        print_json(keys)
    else:
        sys.stdout.write("".join(f"{clean(key)}\n" for key in keys))
    return 0


def show_stats(home: Home, *, as_json: bool) -> int:
    """Show whom and what a sync concerns, and how many events our relay holds."""
    from dragon.constellation.counting import count_events

    facts = control(home).constellation()
    local = facts["local"]
    events = asyncio.run(count_events(local["url"], Path(local["tool"]) if local["tool"] else None))
    document = {name: facts[name] for name in ("swarm", "uplanet", "authors", "peers", "local")}
    document |= {"events": events, "last": History(Places(home.root).runs).last()}
    print_json(document) if as_json else print_table(tables.stats(document))
    return 0


def show_status(home: Home, *, as_json: bool) -> None:
    places = Places(home.root)
    going, following = StatusFile(places.status).read(), StatusFile(places.follow_status).read()
    last = History(places.runs).last()
    state = "running" if going else "following" if following else "idle"
    document = {"state": state, "run": going, "follow": following, "last": brief(last) if last else None}
    print_json(document) if as_json else print_table(tables.status(document))


def show_history(home: Home, run: str | None, *, html: bool, as_json: bool) -> None:
    """List the runs, or show one. Raises `UsageError` for a run that there is not."""
    past = History(Places(home.root).runs)
    if run is None and not html:
        documents = [brief(document) for name in past.runs() if (document := past.read(name)) is not None]
        for document in documents:
            document["page"] = str(past.page_of(document["run"]))
        return print_json(documents) if as_json else print_table(tables.history(documents))
    name = past.find(run or "1")
    if html:
        page = str(past.page_of(name))
        return print_json({"run": name, "page": page}) if as_json else print_line(page)
    report = past.read(name)
    if report is None:
        raise LocalError(f"the report of {name} cannot be read", f"it lies in {past.page_of(name).parent}")
    return print_json(report) if as_json else show(report, past.page_of(name))


def brief(report: Document) -> Document:
    """Return a report without what only matters in one: its peers, its timeline."""
    return {name: value for name, value in report.items() if name not in ("peers", "timeline", "kinds")}


def control(home: Home) -> Control:
    from dragon.client import Control

    return Control(home)


def places_of(home: Home, facts: Mapping[str, Any]) -> Places:
    return Places(home.root, Path(facts["station"]["zen"]) if facts["station"] else None)


@contextmanager
def shown_progress(*, visible: bool, verbose: bool) -> Iterator[tuple[Callable[[str], None], Callable[[Any], None]]]:
    """Give what tells a person something, and what shows how far a run is: a bar on a terminal, lines where `verbose`."""

    def say(text: str) -> None:
        print(clean(text, 2000), file=sys.stderr)

    if not visible:
        last = float("-inf")

        def line(progress: Progress) -> None:
            nonlocal last
            if verbose and (progress.seconds - last >= PRINT_EVERY or progress.phase == "done"):
                last = progress.seconds
                say(tables.moment_of(progress))

        yield say, line
        return
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    console = Console(stderr=True, highlight=False, emoji=False, markup=False)
    columns = (
        SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(bar_width=30),
        TextColumn("{task.fields[counts]}", markup=False), TimeElapsedColumn(),
    )  # fmt: skip
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("looking", total=None, counts="")

        def update(progress: Progress) -> None:
            wanted = max(progress.wanted, progress.received)
            busy = clean(", ".join(progress.busy), 40)
            bar.update(task, description=f"{progress.phase} {busy}", completed=progress.received, total=wanted or None,
                       counts=tables.counts_of(progress))  # fmt: skip

        yield (lambda text: console.print(clean(text, 2000))), update

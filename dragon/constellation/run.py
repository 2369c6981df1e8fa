"""A run of the sync: several peers at once, within a time, with an outcome whichever way it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack

from dragon.clock import Clock
from dragon.constellation.asking import read
from dragon.constellation.comparing import own
from dragon.constellation.event import Event
from dragon.constellation.frames import Frame
from dragon.constellation.intake import Shared
from dragon.constellation.job import Job, Peer
from dragon.constellation.judging import judges
from dragon.constellation.kinds import DELETION, PROFILE
from dragon.constellation.outcome import Outcome, PeerOutcome
from dragon.constellation.paging import Pages
from dragon.constellation.progress import Phase, Progress
from dragon.constellation.pull import Pull
from dragon.constellation.relay import Patience
from dragon.constellation.resuming import Marks
from dragon.constellation.store import RelaySink, Sink, ToolSink
from dragon.constellation.wanted import AUTHORS_PER_FILTER, Wanted, batches, filters
from dragon.errors import LocalError

__all__ = ["Job", "Peer", "synchronise"]

OWN_DELETIONS = 100
"""Pages of our own deletions that are read before a run, so that nothing deleted here comes back."""


async def synchronise(
    job: Job, clock: Clock, progress: Callable[[Progress], None] = lambda _: None, patience: Patience | None = None
) -> Outcome:
    """Do `job` and return what came of it. Never raises for what a peer, the time or a cancellation does: the outcome says it.

    To be cancelled is to be asked to stop: what was received is stored, and the outcome so far returned.
    """
    run = _Run(job, clock, progress, patience or Patience())
    working = asyncio.create_task(run.work())
    timer = asyncio.create_task(clock.sleep(job.timeout))
    try:
        await asyncio.wait((working, timer), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            run.outcome.state = "timeout"
    except asyncio.CancelledError:
        run.outcome.state = "cancelled"
        if task := asyncio.current_task():
            task.uncancel()
    timer.cancel()
    in_order = await stopped(working, (patience or Patience()).stop)
    run.outcome.ended = clock.now_ms() / 1000
    if working.done() and not working.cancelled() and (error := working.exception()):
        raise error
    if in_order and run.outcome.state != "failed":
        run.keep_marks()
    return run.outcome


class _Run:
    def __init__(self, job: Job, clock: Clock, progress: Callable[[Progress], None], patience: Patience) -> None:
        self._job = job
        self._clock = clock
        self._progress = progress
        self._patience = patience
        self._phase: Phase = "deletions"
        self._done = 0
        self._busy: list[str] = []
        self._started = clock.monotonic()
        self._without_profile: set[str] = set()
        self._marks = Marks()
        self.outcome = Outcome(
            started=clock.now_ms() / 1000, authors=len(job.authors), kinds=job.kinds, since=job.since, until=job.until,
            dry_run=job.dry_run, verify=job.verify, peers=[PeerOutcome(peer.node_id, peer.alias) for peer in job.peers],
        )  # fmt: skip

    def keep_marks(self) -> None:
        """Note how far each peer was read, for the next run; the outcome tells where that cannot be written."""
        if self._job.resume is not None and not (self._job.dry_run or self._job.verify):
            try:
                self._marks.save(self._job.resume)
            except LocalError as error:
                self.outcome.error = self.outcome.error or str(error)

    async def work(self) -> None:
        """Go through the phases; the outcome's state says how it ended, unless this is cancelled."""
        job = self._job
        wanted = filters(job)
        if not job.peers or not wanted:
            return
        try:
            async with AsyncExitStack() as stack:
                sink = sink_of(job, self._clock, self._patience)
                stack.push_async_callback(sink.close)
                shared = Shared(
                    await stack.enter_async_context(judges()), sink, self.outcome, self._clock, job.drop_visitors,
                    on_event=self._on_event, report=self._report,
                )  # fmt: skip
                shared.marks = self._marks = Marks.load(job.resume)
                if job.local and not (job.dry_run or job.verify):
                    await self._own_deletions(shared)
                await self._pull(shared, "events", range(len(job.peers)), wanted)
                if job.profiles and not (job.dry_run or job.verify):
                    await self._profiles(shared)
        except LocalError as error:
            self.outcome.state, self.outcome.error = "failed", str(error)
            return
        self._phase = "done"
        good = self.outcome.succeeded
        self.outcome.state = "ok" if good == len(job.peers) else "partial" if good else "failed"
        self._report()

    async def _own_deletions(self, shared: Shared) -> None:
        """Learn what was deleted here, so that a peer that has not heard of it does not bring it back."""
        if DELETION not in self._job.kinds:
            return
        for authors in batches(self._job.authors, AUTHORS_PER_FILTER):
            for page in await self._own(Wanted((DELETION,), self._job.since, self._job.until, authors)):
                verdicts = await shared.judges.judge([frame.text for frame in page])
                shared.sieve.note(verdict for verdict in verdicts if isinstance(verdict, Event))

    async def _own(self, wanted: Wanted) -> list[list[Frame]]:
        """Return what our own relay holds under a filter: few events, in pages."""
        assert self._job.local is not None
        found: list[list[Frame]] = []
        async with own(self._job.local, self._patience) as ours:
            pages = Pages(wanted, ours.limits.page)
            while not pages.done and len(found) < OWN_DELETIONS:
                page: list[Frame] = []
                await read(ours, [pages.question()], [page])
                found.append(pages.answer(page))
        return found

    async def _pull(self, shared: Shared, phase: Phase, which: Iterable[int], wanted: list[Wanted]) -> None:
        """Read the peers numbered `which`, as many at once as the job allows."""
        self._phase, self._done = phase, 0
        free = asyncio.Semaphore(self._job.peers_at_once)

        async def one(number: int) -> None:
            peer, outcome = self._job.peers[number], self.outcome.peers[number]
            async with free:
                self._busy.append(peer.alias)
                try:
                    await Pull(self._job, peer, outcome, shared, wanted, self._patience, compare=phase == "events").run()
                finally:
                    self._busy.remove(peer.alias)
                    self._done += 1
                    self._report()

        tasks = [asyncio.create_task(one(number)) for number in which]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _profiles(self, shared: Shared) -> None:
        """Fetch the profiles of authors who have none here, however old they are, from all peers."""
        self._without_profile = set(self._job.authors)
        if self._job.local:
            for authors in batches(self._job.authors, AUTHORS_PER_FILTER):
                for page in await self._own(Wanted((PROFILE,), 0, self._job.until, authors)):
                    for verdict in await shared.judges.judge([frame.text for frame in page]):
                        if isinstance(verdict, Event):
                            self._without_profile.discard(verdict.pubkey)
        missing = tuple(sorted(self._without_profile))
        if not missing:
            return
        wanted = [Wanted((PROFILE,), 0, self._job.until, authors) for authors in batches(missing, AUTHORS_PER_FILTER)]
        await self._pull(shared, "profiles", [n for n, peer in enumerate(self.outcome.peers) if peer.state == "ok"], wanted)
        self.outcome.profiles_missing = len(self._without_profile)
        self.outcome.profiles_found = len(missing) - len(self._without_profile)

    def _on_event(self, event: Event) -> None:
        if event.kind == PROFILE:
            self._without_profile.discard(event.pubkey)

    def _report(self) -> None:
        outcome = self.outcome
        self._progress(
            Progress(
                phase=self._phase, peers_done=self._done, peers_total=len(self._job.peers), busy=tuple(self._busy),
                wanted=sum(peer.missing or 0 for peer in outcome.peers), received=outcome.received, stored=outcome.stored,
                rejected=outcome.rejected.total(), bytes_in=sum(peer.bytes_in for peer in outcome.peers),
                seconds=self._clock.monotonic() - self._started,
            )
        )  # fmt: skip


def sink_of(job: Job, clock: Clock, patience: Patience) -> Sink:
    """Return the store of a job; `LocalError` where it has none."""
    if job.tool is not None:
        return ToolSink(job.tool)
    if job.local is None:
        raise LocalError("there is nowhere to store events", "name a relay or strfry's import in [constellation]")
    return RelaySink(job.local, clock, patience)


async def stopped(working: asyncio.Task[None], grace: float) -> bool:
    """Ask `working` to stop, which lets it store what it has; insist after `grace` seconds, and return False then."""
    for patience in (grace, None):
        working.cancel()
        await asyncio.wait((working,), timeout=patience)
        if working.done():
            return patience is not None
    return False

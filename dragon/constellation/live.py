"""Live subscriptions: what the peers' relays hear, ours has within a second (`dragon sync --follow`)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace

from dragon.clock import Clock
from dragon.constellation.frames import Frame
from dragon.constellation.intake import Intake, PeerDropped, Shared
from dragon.constellation.job import Job, Peer
from dragon.constellation.judging import judges
from dragon.constellation.outcome import Outcome, PeerOutcome
from dragon.constellation.pull import way
from dragon.constellation.relay import Patience, Relay, RelayFailed, connected
from dragon.constellation.run import sink_of, stopped
from dragon.constellation.wanted import AUTHORS_PER_FILTER, FAR_FUTURE, Wanted, batches
from dragon.errors import LocalError, RemoteError

HEARTBEAT = 20.0
"""Seconds between two pings: a tunnel that died is noticed in twice that, and a relay's idle limit (55 s) is not met."""

GATHER = 0.2
"""Seconds that events are gathered before they are verified and stored together: a fifth of the promised second."""

BUNCH = 500
"""Events that are gathered at most."""

AUTHOR_SIZE = 67
"""Bytes of one author in a filter."""

OTHER_WORDS = 2000
"""Bytes of a subscription besides its authors: `STATION_KINDS` are 340."""

OVERLAP = 60
"""Seconds before the subscription that are asked for too: what clocks differ and what came while nobody listened."""

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
"""Seconds before a lost peer is connected to again, doubled each time that fails."""


async def follow(
    job: Job,
    peers: AsyncIterator[tuple[Peer, ...]],
    clock: Clock,
    report: Callable[[Outcome], None] = lambda _: None,
    patience: Patience | None = None,
) -> Outcome:
    """Keep our relay in step with `peers`, a new list whenever somebody comes or goes, until cancelled or the list ends.

    Of `job` the peers and the window do not matter. To be cancelled is to be asked to stop: what was received is stored, and
    the outcome returned; so it is, as `failed`, when our own store fails.
    """
    now = clock.now_ms() / 1000
    outcome = Outcome(started=now, state="ok", authors=len(job.authors), kinds=job.kinds, since=int(now), until=int(now))
    working = asyncio.create_task(_Following(job, clock, outcome, report, patience or Patience()).run(peers))
    try:
        await asyncio.wait((working,))
    except asyncio.CancelledError:
        outcome.state = "cancelled"
        if task := asyncio.current_task():
            task.uncancel()
    await stopped(working, (patience or Patience()).stop)
    error = None if working.cancelled() else working.exception()
    outcome.ended = clock.now_ms() / 1000
    outcome.until = int(outcome.ended)
    if isinstance(error, LocalError):
        outcome.state, outcome.error = "failed", str(error)
    elif error is not None:
        raise error
    return outcome


class _Following:
    def __init__(self, job: Job, clock: Clock, outcome: Outcome, report: Callable[[Outcome], None], patience: Patience) -> None:
        self._job = job
        self._clock = clock
        self._outcome = outcome
        self._report = report
        self._patience = patience
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, peers: AsyncIterator[tuple[Peer, ...]]) -> None:
        async with AsyncExitStack() as stack:
            sink = sink_of(self._job, self._clock, self._patience)
            stack.push_async_callback(sink.close)
            shared = Shared(
                await stack.enter_async_context(judges()), sink, self._outcome, self._clock, self._job.drop_visitors,
                report=lambda: self._report(self._outcome),
            )  # fmt: skip
            stack.push_async_callback(self._stop)
            listing = asyncio.create_task(self._keep(shared, peers))
            try:
                await asyncio.wait((listing, self._failed), return_when=asyncio.FIRST_COMPLETED)
            finally:
                listing.cancel()
                await asyncio.gather(listing, return_exceptions=True)
            if self._failed.done():
                self._failed.result()
            listing.result()

    async def _keep(self, shared: Shared, peers: AsyncIterator[tuple[Peer, ...]]) -> None:
        """Follow exactly those that are listed, until there is no further list."""
        async for listed in peers:
            names = {peer.node_id for peer in listed}
            for gone in self._tasks.keys() - names:
                await self._leave(gone)
            for peer in listed:
                if peer.node_id not in self._tasks:
                    self._tasks[peer.node_id] = asyncio.create_task(self._follow(shared, peer))
            self._report(self._outcome)

    async def _leave(self, node_id: str) -> None:
        task = self._tasks.pop(node_id)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def _stop(self) -> None:
        for node_id in list(self._tasks):
            await self._leave(node_id)

    async def _follow(self, shared: Shared, peer: Peer) -> None:
        """Stay connected to one peer; ends only when it is dropped for bad events, or our own store fails."""
        outcome = next((each for each in self._outcome.peers if each.node_id == peer.node_id), None)
        if outcome is None:
            outcome = PeerOutcome(peer.node_id, peer.alias, method="req")
            self._outcome.peers.append(outcome)
        intake, pause, since = Intake(shared, outcome), FIRST_PAUSE, self._clock.now_ms() // 1000 - OVERLAP
        try:
            while True:
                try:
                    outcome.address = await way(peer)
                    async with connected(outcome.address, self._patience, HEARTBEAT) as relay:
                        try:
                            subscriptions = await self._subscribe(relay, since)
                            outcome.state, outcome.error, pause = "ok", "", FIRST_PAUSE
                            shared.report()
                            while True:
                                await self._bunch(relay, subscriptions, intake)
                                since = self._clock.now_ms() // 1000 - OVERLAP
                        finally:
                            outcome.bytes_in += relay.bytes_in
                            outcome.bytes_out += relay.bytes_out
                            await intake.end()
                except PeerDropped:
                    raise
                except RemoteError as error:
                    outcome.state, outcome.error = "failed", str(error)
                shared.report()
                await self._clock.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
        except PeerDropped as error:
            outcome.state, outcome.error = "failed", str(error)
            shared.report()
        except LocalError as error:
            if not self._failed.done():
                self._failed.set_exception(error)

    async def _subscribe(self, relay: Relay, since: int) -> dict[str, Wanted]:
        """Ask for everything from now on, in as many subscriptions as the relay allows and its messages make necessary."""
        if relay.limits.authentication:
            raise RelayFailed("wants to know who asks (NIP-42)")
        share = -(-len(self._job.authors) // relay.limits.subscriptions)
        batch = min(max(share, AUTHORS_PER_FILTER), (relay.limits.message_size - OTHER_WORDS) // AUTHOR_SIZE)
        if batch < share:
            told = f"allows too few subscriptions ({relay.limits.subscriptions}) to follow {len(self._job.authors)} authors"
            raise RelayFailed(told)
        subscriptions: dict[str, Wanted] = {}
        for authors in batches(self._job.authors, batch):
            each, name = Wanted(self._job.kinds, since, 0, authors), relay.name()
            question = each.filter(limit=relay.limits.page)
            del question["until"]
            await relay.send("REQ", name, question)
            subscriptions[name] = each
        return subscriptions

    async def _bunch(self, relay: Relay, subscriptions: dict[str, Wanted], intake: Intake) -> None:
        """Wait for an event, gather what comes with it, and have it stored."""
        loop = asyncio.get_running_loop()
        bunches: dict[str, list[Frame]] = defaultdict(list)
        deadline = None
        try:
            while sum(map(len, bunches.values())) < BUNCH:
                async with asyncio.timeout_at(deadline):
                    frame = await relay.listen()
                if frame.verb == "CLOSED" and frame.sub in subscriptions:
                    raise RelayFailed(f"refuses: {frame.reason or 'no reason given'}")
                if frame.verb == "EVENT" and frame.sub in subscriptions:
                    bunches[frame.sub].append(frame)
                    deadline = deadline or loop.time() + GATHER
        except TimeoutError:
            pass  # it is time
        finally:
            until = self._clock.now_ms() // 1000 + FAR_FUTURE
            for name, frames in bunches.items():
                await intake.put(frames, replace(subscriptions[name], until=until))
            await intake.finish()

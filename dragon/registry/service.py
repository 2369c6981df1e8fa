"""The registry at work: its tasks, and what they tell one another. The composition root of this room.

describe() ──► publisher ──► pubsub ──► gossip of others
                  │             ▲
                  ▼             │ sent again after
                ipns ───────────┘
gossip, exchange, ipns ──► intake ──► view (and store)
beats of others ──► anti-entropy ──► exchange
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, suppress
from functools import partial
from typing import Any

from dragon.clock import Clock
from dragon.config import RegistrySettings
from dragon.errors import DragonError, KuboError, KuboRefused, KuboUnreachable, StoreError
from dragon.kubo.tunnels import Tunnels
from dragon.kubo.types import Identity, Kubo
from dragon.registry.answering import IsKubo
from dragon.registry.antientropy import AntiEntropy
from dragon.registry.backoff import Backoff
from dragon.registry.beat import Beat
from dragon.registry.bootstrap import Bootstrap
from dragon.registry.echo import Echo
from dragon.registry.exchange import Exchange, Outcome
from dragon.registry.gossip import Gossip, topic_of
from dragon.registry.greeting import WANTED, Greeting
from dragon.registry.intake import PAUSE_EVERY, Intake
from dragon.registry.ipns import Ipns
from dragon.registry.naming import Files, Name, Pace
from dragon.registry.publisher import Description, Publication, Publisher
from dragon.registry.recovery import last_word
from dragon.registry.storage import Storage
from dragon.registry.verdict import Admitted, Change, Source
from dragon.registry.view import View

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.1, 2.0
"""Seconds between attempts while the daemon is not there yet."""

TICK = 0.5
"""Seconds between looks for leases that ended: what people and `auto` see is exact anyway, this only wakes who watches."""

ACQUAINT_EVERY = 15.0
"""Seconds between looks at who is directly connected: such nodes are known, and cannot be pushed out of the view."""

REFRESH_BOUND = 5.0
"""Seconds that somebody waits for `refresh`; what comes later comes all the same."""

FAREWELL_BOUND = 2.0
"""Seconds for the last word: a stop does not wait for a daemon that hangs."""


class Registry:
    """Publishes what `describe()` returns and keeps `view` up to date with what everybody else says.

    `join`: addresses of first peers (`ConfigError` when one is none). `ipns`: whether our IPNS name is ours to publish.
    `extra_files`: what else stands in the directory under that name, `pace` how often it is published, `may_publish_name` why
    it must not be now ("" when it may). `is_kubo`: whether a connection to the exchange was made by our
    Kubo. Every loop survives a daemon that is away and heals.
    """

    def __init__(
        self,
        kubo: Kubo,
        tunnels: Tunnels,
        view: View,
        store: Storage,
        settings: RegistrySettings,
        clock: Clock,
        describe: Callable[[], Description],
        *,
        join: Iterable[str] = (),
        ipns: bool = False,
        extra_files: Callable[[], Awaitable[Files]] | None = None,
        pace: Pace | None = None,
        may_publish_name: Callable[[], Awaitable[str]] | None = None,
        is_kubo: IsKubo,
        rng: random.Random | None = None,
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - spreads load and picks partners; nothing is kept secret by it
        self._kubo = kubo
        self._view = view
        self._store = store
        self._clock = clock
        self._rng = rng
        self._topic = topic_of(view.swarm)
        self.publishes_name = ipns
        """Whether our IPNS name is ours to publish."""
        self._intake = Intake(view, store, clock, view.swarm)
        self.exchange = Exchange(view.self_id, tunnels, view, self._intake, clock, is_kubo=is_kubo)
        self._gossip = Gossip(kubo, view.self_id, self._topic, self._intake, clock, rng)
        self._publisher = Publisher(
            kubo, view, store, clock, Beat(settings.heartbeat, rng), describe, topic=self._topic, lease=settings.lease, rng=rng
        )
        self._echo = Echo(self.exchange, self._topic_peers, clock, rng)
        self._ipns = Ipns(
            kubo, self._intake, clock, publishing=self.naming, extra=extra_files, pace=pace, allowed=may_publish_name
        )
        self._greeting = Greeting(self._topic_peers, self._greet, clock, rng)
        self._antientropy = AntiEntropy(settings.heartbeat / 10, rng)
        self._differing, self._resubscribed = asyncio.Event(), asyncio.Event()
        self._bootstrap = Bootstrap(kubo, self._topic, join, clock, rng, remembered=self._remembered, contact=self._contact)
        self._publishing: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self.counters: Counter[str] = Counter()
        self._gossip.on_connected(self._greeting.begin)
        self._gossip.on_connected(self._resubscribed.set)
        self._publisher.on_published(self._published)
        self._intake.on_admitted(self._admitted)
        view.subscribe(self._changed)

    # -- what other rooms call ----------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Something that `describe()` returns has changed: publish soon; a burst of calls is one publication."""
        self._publisher.announce()

    def on_published(self, callback: Callable[[Publication], None]) -> None:
        """Call back with every message of ours that Kubo took."""
        self._publisher.on_published(callback)

    @property
    def publication(self) -> Publication | None:
        """What we said last; None before the first time."""
        return self._publisher.last

    @property
    def name(self) -> Name:
        """Our own IPNS name, whether or not it is ours to publish."""
        return self._ipns.name

    def naming(self) -> AbstractContextManager[None]:
        """Held around every publication of an IPNS name: messages sent meanwhile are sent again (one counter for both)."""
        return self._publisher.naming()

    async def ready(self) -> None:
        """Return when this node has published for the first time."""
        await self._ready.wait()

    async def refresh(self) -> None:
        """Ask two peers now for everything, and say anew who we are; returns when they have answered, or could not in time.

        Raises what Kubo raises when it is away.
        """
        self._publisher.announce()
        peers = await self._topic_peers()
        asked = self._rng.sample(peers, min(WANTED, len(peers)))
        with suppress(TimeoutError):
            async with asyncio.timeout(REFRESH_BOUND):
                pulls = (self._exchange_with(peer, self.exchange.pull) for peer in asked)
                await asyncio.gather(*pulls, return_exceptions=True)

    async def introduce(self, node_id: str) -> None:
        """Tell one node who we are, by exchange: its gate asks for members, and gossip may not have been there yet.

        Raises the `DragonError` that kept it from hearing us.
        """
        last, at = self._publisher.last, self._publisher.published_at
        if last is not None and at is not None:
            await self.exchange.push(node_id, [(last.envelope, self._clock.monotonic() - at)])

    async def leave(self) -> None:
        """Say good-bye: the last publication. Whoever does not hear it sees our lease end; nothing is raised for that."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.gather(self._publishing, return_exceptions=True)
        try:
            async with asyncio.timeout(FAREWELL_BOUND):
                await self._publisher.leave()
                if self._echo.mute:
                    await self._echo.speak_to(await self._topic_peers())
        except (KuboError, StoreError, TimeoutError) as error:
            why = str(error) or "Kubo takes too long"
            log.warning("stopped without a good-bye (%s): others see it when the lease ends", why)

    def status(self) -> dict[str, Any]:
        """Return counters and alarms, ready for JSON; ages in seconds."""
        now, last = self._clock.monotonic(), self._publisher.last
        age = None if self._publisher.published_at is None else round(now - self._publisher.published_at, 3)
        return {
            "subscribed": self._gossip.subscribed,
            "published": {
                **self._publisher.counters,
                "sequence": last.sequence if last else None,
                "age": age,
                "ahead": self._publisher.ahead,
                "problem": self._publisher.problem,
            },
            "mute": self._echo.mute,
            "asked_about_us": dict(self._echo.counters),
            "gossip": dict(self._gossip.counters),
            "admitted": dict(self._intake.counters),
            "view": dict(self._view.counters),
            "exchanges": {**self.counters, **self.exchange.counters, "greeted": self._greeting.complete},
            "served": dict(self.exchange.served),
            "join_problems": dict(self._bootstrap.problems),
            "ipns": dict(self._ipns.counters),
            "clock": self._view.own_clock_suspect,
        }

    # -- the tasks ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run until cancelled. `KuboBusy` when another Dragon uses this daemon; a daemon that is away is waited for."""
        await self._restore()
        identity = await self._recognised()
        async with self.exchange.listening() as claim:
            await self._persistently(claim)
            async with asyncio.TaskGroup() as tasks:
                self._publishing = tasks.create_task(self._publish(identity))
                tasks.create_task(self._gossip.run())
                tasks.create_task(self._greeting.run())
                tasks.create_task(self._repair())
                tasks.create_task(self._echo.run())
                tasks.create_task(self._bootstrap.run())
                tasks.create_task(self._tick())
                tasks.create_task(self._acquaint())
                tasks.create_task(self._recognise())
                if self.publishes_name:
                    tasks.create_task(self._ipns.run())

    async def _recognised(self) -> Identity:
        """Return who our daemon is. `KuboRefused` when it is somebody else now: this node is nobody any more."""
        identity: Identity = await self._persistently(self._kubo.identity)
        if identity.node_id != self._view.self_id:
            raise KuboRefused(f"Kubo became {identity.node_id}, it was {self._view.self_id}", "start the node again")
        return identity

    async def _recognise(self) -> None:
        """Look who our daemon is whenever it came back: another one may answer at its address, and a station's scripts may give
        it other keys."""
        while True:
            await self._resubscribed.wait()
            self._resubscribed.clear()
            await self._recognised()

    async def _restore(self) -> None:
        """Take what the store remembers into the view: silent until somebody confirms or renews it."""
        wall, at = self._clock.now_ms(), self._clock.monotonic()
        for count, (_, data, heard_ms) in enumerate(self._store.envelopes(self._view.swarm), 1):
            self.counters["restored"] += self._view.restore(data, age=max(wall - heard_ms, 0) / 1000, at=at)
            if count % PAUSE_EVERY == 0:
                await asyncio.sleep(0)

    async def _persistently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        backoff = Backoff(RETRY_FIRST, RETRY_MOST, self._rng)
        while True:
            try:
                return await call()
            except (KuboUnreachable, KuboRefused) as error:
                if not self.counters["waited-for-kubo"]:
                    log.warning("waiting for Kubo: %s", error)
                self.counters["waited-for-kubo"] += 1
                await self._clock.sleep(backoff.wait())

    async def _publish(self, identity: Identity) -> None:
        try:
            is_new = await self._store.last_sequence() is None
        except StoreError:
            is_new = True  # what we said last is known to others only; the publisher waits for the disk and says so
        if is_new:
            self._publisher.continue_above(await self._last_word())
        await self._publisher.run(identity.public_key)

    async def _last_word(self) -> int:
        swarm = self._view.swarm
        return await last_word(self._view.self_id, swarm, self._topic_peers, self.exchange.fetch, self._clock)

    async def _tick(self) -> None:
        while True:
            await self._clock.sleep(TICK)
            self._view.tick(self._clock.monotonic())

    def _changed(self, change: Change) -> None:
        if change.kind in ("silent", "left", "gone"):
            self._antientropy.forget(change.node_id)
        if change.kind == "gone":
            self._store.forget(self._view.swarm, change.node_id)

    async def _acquaint(self) -> None:
        """Tell the view who is directly connected."""
        while True:
            try:
                for peer in await self._kubo.peers():
                    if self._view.mark(peer.node_id) is not None:
                        self._view.note_connected(peer.node_id)
            except KuboError as error:
                log.debug("no peers now: %s", error)
            await self._clock.sleep(ACQUAINT_EVERY)

    # -- exchanges ----------------------------------------------------------------------------------------------------

    async def _topic_peers(self) -> list[str]:
        return [peer for peer in await self._kubo.topic_peers(self._topic) if peer != self._view.self_id]

    async def _greet(self, peer: str, first: bool) -> Outcome:
        """Exchange with a first peer; what we said before anybody was there is said again."""
        last = self._publisher.last
        own = [(last.envelope, 0.0)] if last else []
        how = partial(self.exchange.pull, own=own) if first else self.exchange.reconcile
        outcome = await self._exchange_with(peer, how)
        if last:
            self._publisher.say_again()
        return outcome

    async def _exchange_with(self, peer: str, how: Callable[[str], Awaitable[Outcome]]) -> Outcome:
        self.counters["begun"] += 1
        outcome = await how(peer)
        self._view.note_answered(peer)
        self.counters["answered"] += 1
        self.counters["received"] += outcome.received
        self.counters["news"] += outcome.admitted
        self.counters["pushed"] += outcome.pushed
        return outcome

    async def _repair(self) -> None:
        """Exchange with whoever's beats differ from our view, at the pace that anti-entropy sets."""
        while True:
            await self._differing.wait()
            self._differing.clear()
            while wanted := self._antientropy.wanted:
                ask = self._antientropy.next(self._clock.monotonic(), wanted)
                if ask is None:
                    await self._clock.sleep(TICK)  # it rests between two exchanges
                    continue
                answered, learned = False, 0
                try:
                    outcome = await self._exchange_with(ask.partner, self.exchange.reconcile)
                    answered, learned = True, outcome.admitted
                except DragonError as error:
                    log.debug("exchange with %s: %s", ask.partner, error)
                finally:
                    now = self._clock.monotonic()
                    self._antientropy.finished(now, answered=answered, learned=learned, ours=self._view.digest(now))

    # -- what the parts tell one another ------------------------------------------------------------------------------

    def _published(self, publication: Publication) -> None:
        self._echo.published(publication)
        self._ipns.update(publication.envelope, publication.content_hash)
        self._ready.set()

    def _admitted(self, verdict: Admitted, source: Source) -> None:
        if verdict.node_id == self._view.self_id:  # said by us once, forgotten since: a home from a backup
            self._publisher.continue_above(verdict.rank[0])
            self._publisher.announce()
        elif source == "pubsub" and verdict.change == "beat":
            # The digest of a beat that brings a change was made before it: it would always differ.
            now = self._clock.monotonic()
            held = self._view.node(verdict.node_id, now)
            if held is not None:
                self._antientropy.heard(verdict.node_id, held.manifest.digest, self._view.digest(now))
                if self._antientropy.wanted:
                    self._differing.set()

    # -- finding lost peers -------------------------------------------------------------------------------------------

    def _remembered(self) -> list[str]:
        nodes = self._view.nodes(self._clock.monotonic())
        return [node.node_id for node in nodes if node.state == "silent" and node.trust == "signed" and not node.is_self]

    async def _contact(self, node_id: str, connected: bool) -> None:
        """Hear from a remembered node by the ways that are left: an exchange if it could be dialled, else its IPNS name."""
        if connected:
            try:
                await self._exchange_with(node_id, self.exchange.reconcile)
                return
            except DragonError as error:
                log.debug("exchange with %s: %s", node_id, error)
        await self._ipns.read(node_id)

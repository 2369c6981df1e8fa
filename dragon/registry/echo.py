"""Asking others what they hold of us, and speaking through the exchange while pubsub does not carry us (THREATS 17)."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable

from dragon.clock import Clock
from dragon.errors import KuboError, RemoteError
from dragon.registry.exchange import Exchange
from dragon.registry.mute import GRACE, MuteWatch
from dragon.registry.publisher import Publication

log = logging.getLogger(__name__)

PUSH_TO = 16
"""Peers that get each beat of a mute node directly: more than three beats' worth of a usual neighbourhood."""


class Echo:
    """`run` asks a random peer about each publication that is due for it; `peers()` names who can be asked."""

    def __init__(self, exchange: Exchange, peers: Callable[[], Awaitable[list[str]]], clock: Clock, rng: random.Random) -> None:
        self._exchange = exchange
        self._peers = peers
        self._clock = clock
        self._rng = rng
        self._watch = MuteWatch()
        self._latest: Publication | None = None
        self._wake = asyncio.Event()
        self.counters: Counter[str] = Counter()

    @property
    def mute(self) -> bool:
        """True while others do not hear us over pubsub: the alarm of `dragon status`."""
        return self._watch.mute

    def published(self, publication: Publication) -> None:
        """A publication went out over pubsub."""
        self._watch.sent(publication.sequence, self._clock.monotonic())
        self._latest = publication
        if self._watch.due():
            self._wake.set()

    async def run(self) -> None:
        """Ask and, while mute, push, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            await self._clock.sleep(GRACE)
            try:
                peers = await self._peers()
                self._rng.shuffle(peers)
                if peers:
                    await self._ask(peers[0])
                if self.mute:
                    await self.speak_to(peers[:PUSH_TO])
            except KuboError as error:
                log.debug("no question now: %s", error)

    async def speak_to(self, peers: Iterable[str]) -> None:
        """Give our newest envelope to `peers` directly."""
        if self._latest is None:
            return
        own = [(self._latest.envelope, 0.0)]
        for peer in peers:
            try:
                await self._exchange.push(peer, own)
                self.counters["pushed"] += 1
            except RemoteError as error:
                log.debug("not pushed to %s: %s", peer, error)

    async def _ask(self, peer: str) -> None:
        try:
            held = await self._exchange.sequence(peer)
        except RemoteError as error:
            log.debug("%s does not say what it holds of us: %s", peer, error)
            return
        self.counters["asked"] += 1
        was_mute = self.mute
        if not self._watch.judge(held.sequence, held.source, self._clock.monotonic()):
            self.counters["lagging"] += 1
            await self.speak_to([peer])
        if self.mute and not was_mute:
            log.warning("others do not hear us over pubsub: beats go through the exchange; restarting Kubo usually helps")
        elif was_mute and not self.mute:
            log.info("others hear us over pubsub again")

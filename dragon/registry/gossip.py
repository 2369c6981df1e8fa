"""What others say now: the swarm's pubsub topic, fed into the view message by message."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable

from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo, PubsubMessage
from dragon.registry.backoff import Backoff
from dragon.registry.intake import PAUSE_EVERY, Intake
from dragon.registry.verdict import Rejected

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.05, 1.0
"""Seconds between attempts to subscribe again: a daemon is back within about a second, and asking is one cheap call."""

REPORT_EVERY = 60.0
"""Seconds between two log lines about rejected messages, however many there were."""


def topic_of(swarm: str) -> str:
    """Return the pubsub topic of a swarm; `v1` is the envelope's version."""
    return f"dragon/{swarm}/v1"


class Gossip:
    """One subscription, renewed for as long as `run` runs. `on_connected` is called each time it stands (again)."""

    def __init__(self, kubo: Kubo, node_id: str, topic: str, intake: Intake, clock: Clock, rng: random.Random) -> None:
        self._kubo = kubo
        self._node_id = node_id
        self._topic = topic
        self._intake = intake
        self._clock = clock
        self._backoff = Backoff(RETRY_FIRST, RETRY_MOST, rng)
        self._connected: list[Callable[[], None]] = []
        self._reported = clock.monotonic()
        self._unreported: Counter[str] = Counter()
        self.subscribed = False
        self.counters: Counter[str] = Counter()

    def on_connected(self, callback: Callable[[], None]) -> None:
        self._connected.append(callback)

    async def run(self) -> None:
        """Listen until cancelled; a dead stream is opened again as soon as the daemon lets us."""
        while True:
            try:
                await self._listen()
            except KuboError as error:
                if self.subscribed or not self.counters["stream-errors"]:
                    log.warning("not listening to %s: %s", self._topic, error)
                self.counters["stream-errors"] += 1
            finally:
                self.subscribed = False
            await self._clock.sleep(self._backoff.wait())

    async def _listen(self) -> None:
        async with self._kubo.subscribe(self._topic) as messages:
            self.subscribed = True
            self.counters["subscriptions"] += 1
            self._backoff.reset()
            log.info("listening to %s", self._topic)
            for callback in self._connected:
                callback()
            count = 0
            async for message in messages:
                self._hear(message)
                count += 1
                if count % PAUSE_EVERY == 0:  # a flood arrives without a pause of its own
                    await asyncio.sleep(0)

    def _hear(self, message: PubsubMessage) -> None:
        if message.sender == self._node_id:
            self.counters["own"] += 1
            return
        self.counters["heard"] += 1
        verdict = self._intake.take(message.data, carrier=message.sender, source="pubsub")
        if isinstance(verdict, Rejected):
            self._unreported[verdict.reason] += 1
            self._report()

    def _report(self) -> None:
        now = self._clock.monotonic()
        if now - self._reported >= REPORT_EVERY:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self._unreported.most_common())
            log.info("messages of %s not admitted lately: %s", self._topic, reasons)
            self._unreported.clear()
            self._reported = now

"""Is the daemon that serves our subscriptions still the same, and awake?

A subscription cannot tell: after SIGTERM its stream stays open and silent for 30 s, a frozen daemon says nothing, and a new
daemon behind the same address knows nothing of the old stream. So, while there are subscriptions, the daemon is asked for
its topics over one connection of our own. Dead is: no answer in time, the end of that connection (Kubo closes idle ones the
moment it stops), or a subscribed topic that is missing from the answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dragon.clock import Clock
from dragon.errors import KuboError, KuboUnreachable

log = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two questions: with `LIMIT` a dead stream is noticed within 1 s."""

LIMIT = 0.65
"""Seconds an answer may take; a healthy daemon needs 1 ms, and a mistake costs one new subscription."""


@dataclass(slots=True, eq=False)
class Watched:
    """One subscription: what is called, once, when its stream is dead."""

    topic: str
    fail: Callable[[KuboUnreachable], None]


class Pulse:
    """`ask` returns the topics that the daemon follows (or raises `KuboError` within `LIMIT`); it is called only while
    something is watched. `lost` is to be called when the connection behind it ends."""

    def __init__(self, ask: Callable[[], Awaitable[frozenset[str]]], clock: Clock, interval: float = INTERVAL) -> None:
        self._ask = ask
        self._clock = clock
        self._interval = interval
        self._watched: set[Watched] = set()
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def watching(self, topic: str, fail: Callable[[KuboUnreachable], None]) -> Iterator[None]:
        """Watch one subscription, which stands already, for the time of the block."""
        watched = Watched(topic, fail)
        self._watched.add(watched)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="kubo-pulse")
        try:
            yield
        finally:
            self._watched.discard(watched)
            if not self._watched and self._task:
                self._task.cancel()
                self._task = None

    async def close(self) -> None:
        """End the questions; what is still watched is told."""
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._fail(set(self._watched), KuboUnreachable("the client was closed"))

    def lost(self) -> None:
        """Tell all watched that the daemon was stopped or restarted."""
        self._fail(set(self._watched), KuboUnreachable("the subscription is dead: the daemon was stopped or restarted"))

    async def _run(self) -> None:
        while True:
            asked_for = set(self._watched)
            try:
                topics = await self._ask()
            except KuboError as error:
                self._fail(asked_for, KuboUnreachable(f"the subscription is dead: {error}", error.hint))
            else:
                deaf = {each for each in asked_for if each.topic not in topics}
                self._fail(deaf, KuboUnreachable("the subscription is dead: the daemon does not know it (restarted)"))
            await self._clock.sleep(self._interval)

    def _fail(self, watched: set[Watched], error: KuboUnreachable) -> None:
        for each in watched & self._watched:
            self._watched.discard(each)
            log.info("%s: %s", each.topic, error)
            each.fail(error)

"""The first exchanges of a node that knows nobody yet, or was deaf for a while: at least two peers, as soon as they appear.

Two, because one may hold back or replay (THREATS 2). The second is asked for what the first did not bring; but when that one
takes long, it is asked at once, so that a partner that hangs costs little time.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable

from dragon.clock import Clock
from dragon.errors import DragonError
from dragon.registry.waiting import woken

log = logging.getLogger(__name__)

WANTED = 2
"""Peers that must have answered."""

LOOK_FIRST, LOOK_ALONE, LOOK_MOST = 0.1, 0.2, 5.0
"""Seconds between looks for peers: at first; while nobody has answered (a newcomer is complete within a second of being
connected, whenever that is; one look costs half a millisecond); and while one has and a second one may not exist."""

SLOWER = 1.3
"""Factor from one look to the next."""

HEDGE = 0.5
"""Seconds that a first peer may take before a second one is asked beside it: most swarms are complete by then."""

AGAIN_AFTER = 10.0
"""Seconds until a peer that did not answer is asked once more."""


class Greeting:
    """`run` asks peers with `exchange(peer, first)` until `WANTED` have answered, and begins anew after `begin`."""

    def __init__(
        self,
        peers: Callable[[], Awaitable[list[str]]],
        exchange: Callable[[str, bool], Awaitable[object]],
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._peers = peers
        self._exchange = exchange
        self._clock = clock
        self._rng = rng
        self._begin = asyncio.Event()
        self._changed = asyncio.Event()
        self._answered: set[str] = set()
        self._failed: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._asked_at = 0.0
        self.counters: Counter[str] = Counter()

    @property
    def complete(self) -> bool:
        """True when enough peers have answered since the last `begin`."""
        return len(self._answered) >= WANTED

    def begin(self) -> None:
        """We may have missed something: greet again, whoever was greeted before."""
        self._answered.clear()
        self._failed.clear()
        self._begin.set()

    async def run(self) -> None:
        """Greet until cancelled."""
        try:
            while True:
                await self._begin.wait()
                self._begin.clear()
                await self._greet()
        finally:
            for task in list(self._running.values()):
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _greet(self) -> None:
        pause = LOOK_FIRST
        while not self.complete and not self._begin.is_set():
            self._changed.clear()
            await self._ask_more()
            await woken(self._changed if self._running else self._begin, self._clock, pause)
            if self._running or self._changed.is_set():
                continue
            pause = min(pause * SLOWER, LOOK_MOST if self._answered else LOOK_ALONE)

    async def _ask_more(self) -> None:
        """Ask a further peer when none is being asked, or when that takes long."""
        now = self._clock.monotonic()
        if self._running and (len(self._running) >= WANTED or now - self._asked_at < HEDGE):
            return
        try:
            peers = await self._peers()
        except DragonError as error:
            log.debug("no peers to greet: %s", error)
            return
        fresh = [
            peer
            for peer in peers
            if peer not in self._answered
            and peer not in self._running
            and self._failed.get(peer, float("-inf")) + AGAIN_AFTER <= now
        ]
        if fresh:
            peer, self._asked_at = self._rng.choice(fresh), now
            task = self._ask(peer, first=not self._answered and not self._running)
            self._running[peer] = asyncio.get_running_loop().create_task(task)

    async def _ask(self, peer: str, first: bool) -> None:
        try:
            await self._exchange(peer, first)
            self._answered.add(peer)
            self.counters["answered"] += 1
        except DragonError as error:
            log.debug("greeting %s: %s", peer, error)
            self._failed[peer] = self._clock.monotonic()
            self.counters["unanswered"] += 1
        finally:
            del self._running[peer]
            self._changed.set()

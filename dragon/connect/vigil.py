"""Who is dead: silent providers are asked, so that nobody hangs for Kubo's 30 s on one that vanished without a reset.

A killed Kubo resets its streams at once; one that lost its power, its link or its time (SIGSTOP) says nothing. So while a
provider's connections bring no bytes it is pinged over libp2p. Two pings in a row must fail, our own Kubo must answer
meanwhile, and our own event loop must have been in time: a sick observer ejects nobody (THREATS 21).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from dragon.errors import KuboError

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.kubo import Kubo

log = logging.getLogger(__name__)

INTERVAL = 0.5
"""Seconds between looks."""

PING_TIMEOUT = 1.5
"""Seconds for one ping. Silence is noticed within 1 s, two pings take 3: below the 5 s in which connections must end."""

PINGS = 2

LATENESS = 0.5
"""Seconds by which a ping's end may be late before we suspect ourselves instead of the provider."""


class Vigil:
    """Asks after silent nodes, each in a task of its own. `on_death(node_id, why)` is called in the event loop."""

    def __init__(self, kubo: Kubo, clock: Clock, on_death: Callable[[str, str], None]) -> None:
        self._kubo = kubo
        self._clock = clock
        self._on_death = on_death
        self._asking: dict[str, asyncio.Task[None]] = {}

    def look(self, silent: Collection[str]) -> None:
        """Begin to ask after those who are silent and not being asked already."""
        for node_id in silent:
            if node_id not in self._asking:
                task = asyncio.create_task(self._ask(node_id))
                self._asking[node_id] = task
                task.add_done_callback(partial(self._asked, node_id))

    async def close(self) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _asked(self, node_id: str, task: asyncio.Task[None]) -> None:
        self._asking.pop(node_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("asking after %s failed", node_id, exc_info=error)

    async def _ask(self, node_id: str) -> None:
        for _ in range(PINGS):
            began = self._clock.monotonic()
            try:
                await self._kubo.ping(node_id, PING_TIMEOUT)
            except KuboError as error:
                log.debug("ping %s: %s", node_id, error)
            else:
                return
            if self._clock.monotonic() - began > PING_TIMEOUT + LATENESS:
                return
            try:
                await self._kubo.peers()
            except KuboError:  # it is our own engine that does not answer
                return
        self._on_death(node_id, "does not answer any more")

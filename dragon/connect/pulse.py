"""The pulse beside our attempts: it feels whether our own event loop is in time, and whether our own Kubo answers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dragon.connect.awareness import PULSE, Awareness
from dragon.errors import KuboError

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.kubo import Kubo

ENGINE_PATIENCE = 2.0
"""Seconds for our own Kubo to answer what takes it a millisecond."""


class Pulse:
    """Beats only while something is being tried: an idle node has no timer of it."""

    def __init__(self, clock: Clock, kubo: Kubo) -> None:
        self.awareness = Awareness()
        self._clock = clock
        self._kubo = kubo
        self._attempts = 0
        self._beating: asyncio.Task[None] | None = None

    def ailing(self) -> str | None:
        """Return why what we see now may be our own trouble, None when we are well."""
        return self.awareness.ailing(self._clock.monotonic())

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Beat while the block runs; blocks at the same time share one pulse."""
        self._attempts += 1
        if self._beating is None:
            self._beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            self._attempts -= 1
            if self._attempts == 0:
                self._beating.cancel()
                self._beating = None
                self.awareness = self.awareness.rest(self._clock.monotonic())

    async def ask_engine(self) -> None:
        """Before somebody is blamed for silence: does our own Kubo answer? What it says of itself counts as evidence."""
        try:
            async with asyncio.timeout(ENGINE_PATIENCE):
                await self._kubo.peers()
        except (KuboError, TimeoutError):
            self.awareness = self.awareness.fell_ill(self._clock.monotonic(), "our own Kubo did not answer")

    async def _beat(self) -> None:
        while True:
            self.awareness = self.awareness.pulse(self._clock.monotonic())
            await self._clock.sleep(PULSE)

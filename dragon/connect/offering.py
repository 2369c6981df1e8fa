"""Whether this node offers anything: asked by `dragon astroport stop` and `start`, and remembered over restarts.

Remembered, because who withdrew what runs here must find it withdrawn after a crash or an update too. On a station that costs a
day at most: its nightly run stops and starts in any case.
"""

from __future__ import annotations

import logging
from typing import Protocol

from dragon.connect.serving import Serving

log = logging.getLogger(__name__)

KEY = "offering"
OFF = b"off"


class Memory(Protocol):
    """The store, as far as this needs it."""

    async def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes | None) -> None: ...

    async def flush(self) -> None: ...


class Offering:
    """The switch. `recall` before the first survey; `turn` when somebody asks."""

    def __init__(self, serving: Serving, memory: Memory) -> None:
        self._serving = serving
        self._memory = memory

    @property
    def on(self) -> bool:
        return not self._serving.paused

    async def recall(self) -> None:
        """Do what was asked last, in this run of the node or an earlier one."""
        if await self._memory.get(KEY) == OFF:
            log.warning("nothing is offered: `dragon astroport stop` was asked for; `dragon astroport start` ends it")
            self._serving.pause()

    async def turn(self, on: bool) -> None:
        """Withdraw everything, or offer again; on disk when this returns. Raises `StoreError` when it is not,
        though it is done."""
        if on:
            self._serving.resume()
        else:
            self._serving.pause()
        self._memory.set(KEY, None if on else OFF)
        await self._memory.flush()

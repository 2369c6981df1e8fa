"""A clock that a test turns by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class HandClock:
    """Sleepers wake when `turn` passes their time; nothing ever waits for real."""

    def __init__(self) -> None:
        self.at = 0.0
        self._sleepers: list[tuple[float, asyncio.Event]] = []

    def monotonic(self) -> float:
        return self.at

    def now_ms(self) -> int:
        return int(self.at * 1000)

    async def sleep(self, seconds: float) -> None:
        wake = asyncio.Event()
        self._sleepers.append((self.at + seconds, wake))
        await wake.wait()

    @property
    def sleepers(self) -> int:
        return len(self._sleepers)

    async def turn(self, seconds: float) -> None:
        """Let `seconds` pass and everything that was due run."""
        self.at += seconds
        due = [wake for when, wake in self._sleepers if when <= self.at]
        self._sleepers = [(when, wake) for when, wake in self._sleepers if when > self.at]
        for wake in due:
            wake.set()
        for _ in range(5):
            await asyncio.sleep(0)


async def eventually(condition: Callable[[], Awaitable[object]]) -> None:
    """Return when `condition()` is true after some turns of the loop, without any time passing."""
    for _ in range(100_000):
        if await condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("did not come true")

"""Time, passed in: every timer of the program runs on one of these, so that tests and the simulator drive them."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    def monotonic(self) -> float:
        """Seconds that never go back; leases, intervals and latencies are counted on it."""
        ...

    def now_ms(self) -> int:
        """Milliseconds since the Unix epoch, by this machine's wall clock; only ever a bound (DESIGN §5)."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds` of `monotonic`."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic(self) -> float:
        return time.monotonic()

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

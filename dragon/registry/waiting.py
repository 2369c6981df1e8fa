"""Waiting for an event, but not for ever: on the clock that was passed in, so that tests drive it."""

from __future__ import annotations

import asyncio

from dragon.clock import Clock


async def woken(event: asyncio.Event, clock: Clock, seconds: float) -> bool:
    """Return True as soon as `event` is set, False after `seconds` of `clock` without it. The event is not cleared."""
    if event.is_set():
        return True
    if seconds <= 0:
        return False
    waits = (asyncio.ensure_future(event.wait()), asyncio.ensure_future(clock.sleep(seconds)))
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
    return event.is_set()

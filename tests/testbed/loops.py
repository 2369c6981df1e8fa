"""The end of an event loop in tests."""

from __future__ import annotations

import asyncio

TURNS = 10
"""Turns of the loop that an aborted connection needs at most until its socket is closed, with room."""


async def drained() -> None:
    """Give the loop the turns in which connections that were just aborted close their sockets."""
    for _ in range(TURNS):
        await asyncio.sleep(0)

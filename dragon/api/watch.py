"""`?watch=1`: one JSON document a line, the first at once, then one whenever it reads otherwise."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web

from dragon.api.answers import dumps, failure

MAX_WATCHERS = 32
"""Open watches at once: each costs a full document per change; a person has a handful of terminals."""

PACE = 0.1
"""Seconds between two documents of one watch, on average: faster than people see, and a storm of beats costs ten a second."""

BURST = 3
"""Documents that may follow one another at once after a quiet while: one event has several parts (a listener stands; then this
node has said so), and its last part is what people wait for."""

PATIENCE = 5.0
"""Seconds after which a quiet watch looks whether its reader is still there."""

VOLATILE = frozenset({"last_seen", "sequence", "rtt_ms"})
"""Fields that change with time alone; they travel in every document and cause none."""


class Watches:
    """The open watches of one API."""

    def __init__(self, on_change: Callable[[Callable[[], None]], Callable[[], None]], pace: float, patience: float) -> None:
        self._on_change = on_change
        self._pace = pace
        self._patience = patience
        self._open: set[asyncio.Event] = set()
        self._closed = asyncio.Event()

    async def serve(self, request: web.Request, produce: Callable[[], Awaitable[Any]]) -> web.StreamResponse:
        """Answer `request` with the documents of `produce` until the reader leaves or the API closes."""
        if len(self._open) >= MAX_WATCHERS:
            return failure(429, f"{MAX_WATCHERS} watches are open already", "close one of them")
        document = await produce()  # an error is told before the stream begins
        changed = asyncio.Event()
        stop = self._on_change(changed.set)
        self._open.add(changed)
        try:
            response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
            await response.prepare(request)
            told: Any = None
            made: deque[float] = deque(maxlen=BURST)
            while True:
                if (gist := _gist(document)) != told:
                    await response.write(dumps(document).encode() + b"\n")
                    told = gist
                made.append(asyncio.get_running_loop().time())
                rested = made[0] + BURST * self._pace if len(made) == BURST else 0.0
                await self._next_change(request, changed, rested)
                if self._closed.is_set() or _gone(request):
                    return response
                document = await produce()
        except ConnectionResetError:
            return response
        finally:
            self._open.discard(changed)
            stop()

    def close(self) -> None:
        self._closed.set()
        for changed in self._open:
            changed.set()

    async def _next_change(self, request: web.Request, changed: asyncio.Event, rested: float) -> None:
        """Return when there may be something new, not before the loop's time `rested`."""
        while not (changed.is_set() or _gone(request)):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await changed.wait()
        with suppress(TimeoutError):
            if asyncio.get_running_loop().time() < rested:
                async with asyncio.timeout_at(rested):
                    await self._closed.wait()
        changed.clear()


def _gone(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _gist(document: Any) -> Any:
    if isinstance(document, dict):
        return {key: _gist(value) for key, value in document.items() if key not in VOLATILE}
    if isinstance(document, list):
        return [_gist(one) for one in document]
    return document

"""Patience with a provider that says nothing: it is at work on a long answer, or its service is frozen behind a living engine.

Pings cannot tell the two apart, and no time limit would suit a model that takes minutes for its first word. So while a
connection waits for its first byte its service is tested beside it, now and then, one test for all who wait; and when a client
loses its own patience first, for those who come after it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragon.connect.finder import Found

log = logging.getLogger(__name__)

FIRST = 1.5
"""Seconds without a first byte until the first test: most answers have begun by then, and cost no test. Then twice as long."""

ANSWER_WITHIN = 2.5
"""Seconds for that test: many times what a healthy service takes for it on a busy machine. With `FIRST` and the test of
somebody else a frozen service is left within 5 s."""

LONGEST = 60.0
"""Seconds between two tests of a service that passes them."""

GAVE_UP_AFTER = 0.3
"""Seconds that a client must have waited for its leaving to say something of the service: who only knocks leaves sooner."""


class Patience:
    """Of one forward. `ask(found)` tests the service and does what follows; it runs once at a time for each provider."""

    def __init__(self, ask: Callable[[Found], Coroutine[None, None, None]], first: float = FIRST) -> None:
        self._ask = ask
        self._first = first
        self._loop = asyncio.get_running_loop()
        self._asking: dict[str, asyncio.Task[None]] = {}

    @contextmanager
    def waiting(self, found: Found, said: bytes | bytearray) -> Iterator[Wait]:
        """Watch over a wait for the first byte of `found`; `said` is what the client has said so far, and may grow."""
        wait = Wait(self, found, said)
        wait.rest(self._first)
        try:
            yield wait
        finally:
            wait.end()

    async def close(self) -> None:
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    def overdue(self, found: Found) -> None:
        if found.node_id not in self._asking:
            self._asking[found.node_id] = asking = self._loop.create_task(self._ask(found))
            asking.add_done_callback(lambda done: self._asked(found, done))

    def _asked(self, found: Found, asking: asyncio.Task[None]) -> None:
        self._asking.pop(found.node_id, None)
        if not asking.cancelled() and (error := asking.exception()) is not None:
            log.error("asking after %s failed", found.alias, exc_info=error)


class Wait:
    """One connection that waits."""

    __slots__ = ("_began", "_found", "_patience", "_said", "_timer")

    def __init__(self, patience: Patience, found: Found, said: bytes | bytearray) -> None:
        self._patience = patience
        self._found = found
        self._said = said
        self._began = asyncio.get_running_loop().time()
        self._timer: asyncio.TimerHandle | None = None

    def rest(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._wake, seconds)

    def gave_up(self) -> None:
        """The client left without an answer, perhaps since it waits less long than we do: the next would fare no better."""
        if asyncio.get_running_loop().time() - self._began >= GAVE_UP_AFTER:
            self._miss()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _wake(self, rested: float) -> None:
        self.rest(min(rested * 2, LONGEST))
        self._miss()

    def _miss(self) -> None:
        if self._said or self._found.entry.scheme == "ssh":  # else nobody expects an answer; with SSH the server speaks first
            self._patience.overdue(self._found)

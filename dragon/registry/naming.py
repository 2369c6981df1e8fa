"""One IPNS name that is kept pointing at a directory, at a pace that the DHT can bear.

IPNS over pubsub takes its message numbers from the counter of all our messages (KUBO.md), so every publication is held in the
one publisher's `naming()`. A name has one `Name` in a process; whether another program writes it is the caller's question
(`allowed`).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo
from dragon.registry.waiting import woken

log = logging.getLogger(__name__)

Files: TypeAlias = Mapping[str, bytes | Path]
"""Relative path → bytes, or the file on disk that holds them."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a name is published; seconds, and durations in Kubo's spelling."""

    lifetime: str = "48h"
    """Of the name's record: as long as a silent node is remembered."""
    ttl: str = "1m"
    """For which resolvers may cache: the copy is for restarts, where a minute is nothing."""
    settle: float = 2.0
    """Between a change and its publication: pubsub goes first, and a burst of changes is one record."""
    apart: float = 600.0
    """Between two publications in the long run: each is a DHT walk on the public network."""
    burst: int = 1
    """Publications that may come sooner, one after the other: a station that starts has several things to say."""
    refresh: float = 3600.0
    """After which an unchanged directory is published again, so that the copy is at most an hour old."""
    retry: float = 30.0
    """After a failed publication."""


class Name:
    """`run` publishes what `files()` returns whenever `changed` was called, at `pace`.

    `files` returns None while there is nothing to say. `allowed` returns why this name may not be written now, "" when it may.
    """

    def __init__(
        self,
        kubo: Kubo,
        clock: Clock,
        files: Callable[[], Awaitable[Files | None]],
        *,
        publishing: Callable[[], AbstractContextManager[None]],
        key: str = "self",
        pace: Pace | None = None,
        allowed: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._kubo = kubo
        self._clock = clock
        self._files = files
        self._publishing = publishing
        self._allowed = allowed
        self._changed = asyncio.Event()
        self._recent: list[float] = []
        self._pinned = ""
        self.key = key
        self.pace = pace or Pace()
        self.refused = ""
        """Why the last publication was not allowed; empty when it was."""
        self.problem = ""
        """Why the last publication failed; empty when it did not."""
        self.published_at: float | None = None
        self.counters: Counter[str] = Counter()

    def changed(self) -> None:
        """The directory says something else: publish soon."""
        self._changed.set()

    async def run(self) -> None:
        """Publish changes and refresh the name, until cancelled."""
        while True:
            await self._due()
            await self._clock.sleep(self.pace.settle)
            if not await self._publish():
                self._changed.set()
                await self._clock.sleep(self.pace.retry)

    async def _due(self) -> None:
        """Return when there is a change and the last publications are long enough ago, or when a refresh is due."""
        if self.published_at is None:
            await self._changed.wait()
            return
        if len(self._recent) >= self.pace.burst:
            await self._clock.sleep(max(self._recent[0] + self.pace.apart - self._clock.monotonic(), 0))
        await woken(self._changed, self._clock, self.published_at + self.pace.refresh - self._clock.monotonic())

    async def _publish(self) -> bool:
        self._changed.clear()
        if self._allowed is not None and (refused := await self._allowed()):
            if refused != self.refused:
                log.error("the IPNS name %s is not published: %s", self.key, refused)
            self.refused = refused
            self.counters["refused"] += 1
            return False
        self.refused = ""
        files = await self._files()
        if files is None:
            return True
        try:
            await self._point_at(files)
        except KuboError as error:
            self.counters["publish-failures"] += 1
            if not self.problem:  # tried again every half minute, for as long as a disk is full
                log.warning("the IPNS name %s waits: %s", self.key, error)
            self.problem = str(error)
            return False
        self.problem = ""
        self.counters["published"] += 1
        self.published_at = self._clock.monotonic()
        self._recent = [*self._recent, self.published_at][-self.pace.burst :]
        return True

    async def _point_at(self, files: Files) -> None:
        cid = await self._kubo.add_directory(files)
        if self.key != "self":
            await self._kubo.key_id(self.key)
        with self._publishing():
            await self._kubo.name_publish(cid, lifetime=self.pace.lifetime, ttl=self.pace.ttl, key=self.key)
        before, self._pinned = self._pinned, cid
        if before and before != cid:  # else the repo keeps every directory that we ever said
            with suppress(KuboError):
                await self._kubo.unpin(before)

"""The durable copy: our envelope under our own IPNS name, and others' under theirs.

The name points at a directory with `dragon.manifest`, the envelope as it went over pubsub. It is never the hot path (KUBO.md:
seconds to minutes on the public DHT); it is what a node finds that comes back when nobody is there. IPNS over pubsub takes its
message numbers from the counter of all our messages, so the publisher is told when one runs.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo
from dragon.registry.intake import Intake
from dragon.registry.verdict import Verdict
from dragon.registry.waiting import woken
from registry_schema import Rejection, parse
from registry_schema.limits import MAX_ENVELOPE

log = logging.getLogger(__name__)

FILE = "dragon.manifest"

LIFETIME = "48h"
"""Of the name's record: as long as a silent node is remembered."""

TTL = "1m"
"""For which resolvers may cache: the copy is for restarts, where a minute is nothing."""

SETTLE = 2.0
"""Seconds between a change and its publication here: pubsub goes first, and a burst of changes is one record."""

APART = 600.0
"""Least seconds between two publications: each is a DHT walk on the public network."""

REFRESH = 3600.0
"""Seconds after which an unchanged manifest is published again, so that the copy is at most an hour old."""

RETRY = 30.0
"""Seconds after a failed publication."""

RESOLVE_BOUND = 20.0
"""Seconds to read somebody's name: beyond it the DHT has no answer that is worth waiting for."""


class Ipns:
    """`run` publishes what `update` brings; `read` brings another node's copy into the view.

    `publishing()` is held around each publication; `extra` gives further files of the directory (a station's own).
    """

    def __init__(
        self,
        kubo: Kubo,
        intake: Intake,
        clock: Clock,
        *,
        publishing: Callable[[], AbstractContextManager[None]],
        extra: Callable[[], Mapping[str, bytes]] = dict,
    ) -> None:
        self._kubo = kubo
        self._intake = intake
        self._clock = clock
        self._publishing = publishing
        self._extra = extra
        self._envelope: bytes | None = None
        self._content_hash = b""
        self._changed = asyncio.Event()
        self.published_at: float | None = None
        self.counters: Counter[str] = Counter()

    def update(self, envelope: bytes, content_hash: bytes) -> None:
        """Hold `envelope` as the newest; publish it soon when its content changed, with the next refresh otherwise."""
        self._envelope = envelope
        if content_hash != self._content_hash:
            self._content_hash = content_hash
            self._changed.set()

    async def run(self) -> None:
        """Publish changes and refresh the copy, until cancelled."""
        while True:
            await self._due()
            await self._clock.sleep(SETTLE)
            if not await self._publish():
                self._changed.set()
                await self._clock.sleep(RETRY)

    async def _due(self) -> None:
        """Return when there is a change and the last publication is long enough ago, or when a refresh is due."""
        if self.published_at is None:
            await self._changed.wait()
            return
        await self._clock.sleep(max(self.published_at + APART - self._clock.monotonic(), 0))
        await woken(self._changed, self._clock, self.published_at + REFRESH - self._clock.monotonic())

    async def _publish(self) -> bool:
        self._changed.clear()
        if self._envelope is None:
            return True
        try:
            cid = await self._kubo.add_directory({**self._extra(), FILE: self._envelope})
            with self._publishing():
                await self._kubo.name_publish(cid, lifetime=LIFETIME, ttl=TTL)
        except KuboError as error:
            self.counters["publish-failures"] += 1
            log.warning("the IPNS copy of our manifest waits: %s", error)
            return False
        self.counters["published"] += 1
        self.published_at = self._clock.monotonic()
        return True

    async def read(self, node_id: str) -> Verdict | None:
        """Bring the copy under another node's name into the view; None when there is none to be had.

        Its age is counted from the time in its sequence, so that only a fresh one enters as `live` (DESIGN §5).
        """
        try:
            async with asyncio.timeout(RESOLVE_BOUND):
                path = await self._kubo.name_resolve(node_id)
                data = await self._kubo.cat(f"{path}/{FILE}", limit=MAX_ENVELOPE + 1)
            manifest = parse(data).manifest
        except (KuboError, TimeoutError) as error:
            self.counters["read-failures"] += 1
            log.debug("no IPNS copy of %s: %s", node_id, error)
            return None
        except Rejection as error:
            self.counters["unreadable"] += 1
            log.debug("the IPNS copy of %s is none: %s", node_id, error)
            return None
        if manifest.node != node_id:
            self.counters["unreadable"] += 1
            return None
        self.counters["read"] += 1
        age = max(self._clock.now_ms() - manifest.sequence, 0) / 1000
        return self._intake.take(data, carrier=node_id, source="ipns", age=age)

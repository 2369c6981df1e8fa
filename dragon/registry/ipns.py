"""The durable copy: our envelope under our own IPNS name, and others' under theirs.

The name points at a directory with `dragon.manifest`, the envelope as it went over pubsub. It is never the hot path (KUBO.md:
seconds to minutes on the public DHT); it is what a node finds that comes back when nobody is there. On a station that lets
Dragon publish, its Astroport files stand beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo
from dragon.registry.intake import Intake
from dragon.registry.naming import Files, Name, Pace
from dragon.registry.verdict import Verdict
from registry_schema import Rejection, parse
from registry_schema.limits import MAX_ENVELOPE

log = logging.getLogger(__name__)

FILE = "dragon.manifest"

RESOLVE_BOUND = 20.0
"""Seconds to read somebody's name: beyond it the DHT has no answer that is worth waiting for."""


class Ipns:
    """`run` publishes what `update` brings; `read` brings another node's copy into the view.

    `publishing()` is held around each publication; `extra` gives further files of the directory (a station's own), `pace` and
    `allowed` are the name's (`naming.Name`).
    """

    def __init__(
        self,
        kubo: Kubo,
        intake: Intake,
        clock: Clock,
        *,
        publishing: Callable[[], AbstractContextManager[None]],
        extra: Callable[[], Awaitable[Files]] | None = None,
        pace: Pace | None = None,
        allowed: Callable[[], Awaitable[str]] | None = None,
    ) -> None:
        self._kubo = kubo
        self._intake = intake
        self._clock = clock
        self._extra = extra
        self._envelope: bytes | None = None
        self._content_hash = b""
        self.name = Name(kubo, clock, self._files, publishing=publishing, pace=pace, allowed=allowed)
        self._read: Counter[str] = Counter()

    @property
    def counters(self) -> Counter[str]:
        return self.name.counters + self._read

    @property
    def published_at(self) -> float | None:
        return self.name.published_at

    def update(self, envelope: bytes, content_hash: bytes) -> None:
        """Hold `envelope` as the newest; publish it soon when its content changed, with the next refresh otherwise."""
        self._envelope = envelope
        if content_hash != self._content_hash:
            self._content_hash = content_hash
            self.name.changed()

    async def run(self) -> None:
        """Publish changes and refresh the copy, until cancelled."""
        await self.name.run()

    async def _files(self) -> Files | None:
        if self._envelope is None:
            return None
        extra = await self._extra() if self._extra is not None else {}
        return {**extra, FILE: self._envelope}

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
            self._read["read-failures"] += 1
            log.debug("no IPNS copy of %s: %s", node_id, error)
            return None
        except Rejection as error:
            self._read["unreadable"] += 1
            log.debug("the IPNS copy of %s is none: %s", node_id, error)
            return None
        if manifest.node != node_id:
            self._read["unreadable"] += 1
            return None
        self._read["read"] += 1
        age = max(self._clock.now_ms() - manifest.sequence, 0) / 1000
        return self._intake.take(data, carrier=node_id, source="ipns", age=age)

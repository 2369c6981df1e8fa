"""The other process of `bench.sync`: one run of the sync against relays on this machine, started as a command is.

    python -m bench.sync_parts sync|discard|read JOB.json      (prints one JSON object)

`sync` is the engine as `dragon sync` runs it. `discard` is the same, but events go nowhere once they are verified. `read` only
reads: the same pages from the same relay by the same client, neither verified nor stored.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragon.clock import SystemClock
from dragon.constellation import run
from dragon.constellation.asking import read
from dragon.constellation.event import Event
from dragon.constellation.frames import Frame
from dragon.constellation.job import Job, Peer
from dragon.constellation.paging import Pages
from dragon.constellation.relay import connected
from dragon.constellation.store import Stored
from dragon.constellation.wanted import filters


class Nowhere:
    """A store that keeps nothing."""

    batch = 5000

    async def store(self, events: Sequence[Event]) -> Stored:
        return Stored(added=len(events))

    async def close(self) -> None:
        """Nothing is held."""


def job(fields: dict[str, Any]) -> Job:
    """Return the job of a JSON object: `peer` is the URL of the one relay that is read."""
    url = fields["peer"]

    async def reach() -> str:
        return str(url)

    return Job(
        peers=(Peer("peer", "peer", reach),),
        authors=tuple(fields["authors"]),
        kinds=(1,),
        since=fields["since"],
        until=fields["until"],
        local=fields.get("local"),
        tool=Path(fields["tool"]) if fields.get("tool") else None,
        profiles=False,
    )


async def synced(wanted: Job) -> dict[str, Any]:
    outcome = await run.synchronise(wanted, SystemClock())
    return {**outcome.document(), "events": outcome.received}


async def only_read(wanted: Job) -> dict[str, Any]:
    count = 0
    async with connected(await wanted.peers[0].open()) as relay:
        for each in filters(wanted):
            pages = Pages(each, relay.limits.page)
            while not pages.done:
                page: list[Frame] = []
                await read(relay, [pages.question()], [page])
                count += len(pages.answer(page))
    return {"state": "ok", "events": count}


def main() -> None:
    mode, path = sys.argv[1:]
    wanted = job(json.loads(Path(path).read_text()))
    if mode == "discard":
        run.sink_of = lambda *_: Nowhere()
    started = time.monotonic()
    document = asyncio.run(only_read(wanted) if mode == "read" else synced(wanted))
    print(json.dumps({**document, "wall": time.monotonic() - started}))


if __name__ == "__main__":
    main()

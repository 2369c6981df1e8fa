"""The runs that a serving node starts by itself, each as a process of its own: the hourly one, and the follower.

A run's memory and its end are its own. It watches who started it, and stops in order when that process is gone, so that a node
that was killed leaves nothing behind; what it says goes to a log file, what it did to the history.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dragon.constellation.journal import Journal
from dragon.constellation.stamps import last_run
from dragon.kubo.process import DaemonProcess

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import ConstellationSettings
    from dragon.constellation.node_side import Constellation
    from dragon.constellation.places import Places

log = logging.getLogger(__name__)

FIRST = 60.0
"""Seconds after the start until the first run may begin: by then the swarm is known and tunnels stand."""

LOOK = 60.0
"""Seconds between two looks whether there is a relay, somebody to sync for and somebody to sync with."""

AGAIN = 600.0
"""Seconds until another try where a run failed, or could not even begin: without strfry, say, each try is a second of work."""

JITTER = 0.1
"""Of the interval, by which each one is longer or shorter: the nodes of a constellation must not all ask at the full hour."""

GRACE = 20.0
"""Seconds for a run to stop in order and write its report."""

OVERTIME = 180.0
"""Seconds beyond its own limit after which a run that does not end is ended: it hangs."""

PAUSES = (2.0, 5.0, 15.0, 60.0)
"""Seconds before the follower is started again, after its first, second, … end in a row."""

SETTLED = 300.0
"""Seconds that a follower lives to count as healthy: the next pause is the shortest again."""


class Schedule:
    """Starts runs while `run` goes on; its end ends them. `flags` are settings of this process that its children need too."""

    def __init__(
        self,
        settings: ConstellationSettings,
        constellation: Constellation,
        places: Places,
        clock: Clock,
        rng: random.Random,
        flags: Mapping[str, str],
        command: Sequence[str] = (sys.executable, "-m", "dragon", "sync"),
    ) -> None:
        self._settings = settings
        self._constellation = constellation
        self._places = places
        self._clock = clock
        self._rng = rng
        self._flags = flags
        self._command = command

    async def run(self) -> None:
        if not self._settings.enabled:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hourly())
            if self._settings.follow:
                group.create_task(self._follow())

    async def _hourly(self) -> None:
        await self._clock.sleep(FIRST * self._around())
        every = self._settings.every * self._around()
        while True:
            wait, done = await self._until_due(every), True
            if wait <= 0 and await self._constellation.is_worth_a_run():
                every = self._settings.every * self._around()
                done = await self._child(["--scheduled", "--json"], self._settings.timeout + OVERTIME)
            await self._clock.sleep(max(wait, LOOK if done else min(AGAIN, every)))

    async def _follow(self) -> None:
        await self._clock.sleep(FIRST * self._around() / 2)
        ends = 0
        while True:
            if await self._constellation.is_worth_a_run():
                started = self._clock.monotonic()
                await self._child(["--follow", "--json"], None)
                ends = 0 if self._clock.monotonic() - started >= SETTLED else ends + 1
            await self._clock.sleep(PAUSES[min(max(ends - 1, 0), len(PAUSES) - 1)] if ends else LOOK)

    async def _until_due(self, every: float) -> float:
        """Return the seconds until the next run; whoever on this machine ran last counts."""
        now = self._clock.now_ms() / 1000
        last = await asyncio.to_thread(last_run, self._places.stamps, now)
        return 0.0 if last is None else last + every - now

    async def _child(self, words: Sequence[str], limit: float | None) -> bool:
        """Run one child to its end, which is ours too; return whether it did its work. What it says stands in the log file."""
        command = [*self._command, *words, "--parent", str(os.getpid())]
        try:
            log_file = await asyncio.to_thread(self._prepare)
            process = await DaemonProcess.start(command, self._environment(), log_file)
        except OSError as error:
            log.warning("the sync does not start: %s", error)
            return False
        log.info("sync: started pid %d (%s)", process.pid, " ".join(words))
        try:
            async with asyncio.timeout(limit):
                await process.wait()
        except TimeoutError:
            log.warning("sync: pid %d does not end; it is ended", process.pid)
        finally:
            await process.stop(GRACE)  # reaps it, and on our own end ends it
        code = process.exit_code
        level = logging.WARNING if code else logging.INFO
        log.log(level, "sync: pid %d has ended with %s; see dragon sync history, or %s", process.pid, code, log_file)
        return code == 0

    def _prepare(self) -> Path:
        """Return the log file, kept short, in a folder that stands."""
        self._places.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with suppress(OSError):
            Journal(self._places.child_log).rotate()
        return self._places.child_log

    def _environment(self) -> dict[str, str]:
        flags = {f"DRAGON_{key.upper().replace('.', '_')}": text for key, text in self._flags.items()}
        return {**os.environ, **flags, "DRAGON_HOME": str(self._places.home)}

    def _around(self) -> float:
        return self._rng.uniform(1 - JITTER, 1 + JITTER)

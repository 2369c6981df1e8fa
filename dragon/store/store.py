"""The store as the rooms see it: what is put is gathered and committed in batches by the writer thread, off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from dragon.clock import Clock, SystemClock
from dragon.errors import StoreError
from dragon.home import Home
from dragon.store.database import Database, NodeKey, StoredNode
from registry_schema import Rank

log = logging.getLogger(__name__)

GATHER = 0.03
"""Seconds between a first `put` and its commit: with the commit itself (about a millisecond) below the promised 50 ms."""

RETRY_FIRST, RETRY_MOST = 1.0, 30.0
"""Seconds between attempts while the disk refuses: a full disk is not helped by haste."""

_Result = TypeVar("_Result")


class Store:
    """Open with `async with Store.open(home) as store`. What was put is on disk 50 ms later, or still in memory."""

    def __init__(self, database: Database, thread: ThreadPoolExecutor, clock: Clock, loaded: list[StoredNode]) -> None:
        self._database = database
        self._thread = thread
        self._clock = clock
        self._loaded = loaded
        self._nodes: dict[NodeKey, StoredNode | None] = {}
        self._small: dict[str, bytes | None] = {}
        self._reserved: int | None = None
        self._committing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self.problem = ""
        """Why the last commit failed; empty when it did not."""

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Home, *, clock: Clock | None = None) -> AsyncIterator[Store]:
        """Open the database of `home`; a torn or foreign file is set aside and said so. Raises `StoreError`, `HomeError`."""
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        loop = asyncio.get_running_loop()
        try:
            database = await loop.run_in_executor(thread, Database, home.database)
            try:
                store = cls(database, thread, clock or SystemClock(), await loop.run_in_executor(thread, database.load))
                try:
                    yield store
                finally:
                    await store._close()
            finally:
                await loop.run_in_executor(thread, database.close)
        finally:
            thread.shutdown(wait=False)  # nothing runs in it any more

    @property
    def notice(self) -> str:
        """What was set aside and why, for people; empty when nothing was."""
        return self._database.notice

    # -- what was remembered when the store was opened ----------------------------------------------------------------

    def marks(self, swarm: str) -> dict[str, Rank]:
        """Return the mark of each node of `swarm`, as they were when the store was opened."""
        return {row.node_id: (row.sequence, row.hash) for row in self._loaded if row.swarm == swarm}

    def envelopes(self, swarm: str) -> list[tuple[str, bytes, int]]:
        """Hand over `(node id, envelope, wall clock ms when heard)` as they were when the store was opened.

        Once, for they are large; so `marks` has to be asked before.
        """
        loaded, self._loaded = self._loaded, []
        return [(row.node_id, row.envelope, row.heard_ms) for row in loaded if row.swarm == swarm]

    # -- what is written ----------------------------------------------------------------------------------------------

    def put(self, swarm: str, node_id: str, rank: Rank, envelope: bytes, heard_ms: int) -> None:
        """Remember an admitted envelope, soon; an older one of the same node never replaces it."""
        key, row = (swarm, node_id), StoredNode(swarm, node_id, rank[0], rank[1], envelope, heard_ms)
        waiting = self._nodes.get(key)
        if waiting is None or (waiting.sequence, waiting.hash) <= rank:
            self._nodes[key] = row
            self._commit_soon()

    def forget(self, swarm: str, node_id: str) -> None:
        """Forget a node and its mark, soon: the view has let it go."""
        self._nodes[swarm, node_id] = None
        self._commit_soon()

    def set(self, key: str, value: bytes | None) -> None:
        """Keep a small value under `key`, soon; None removes it."""
        self._small[key] = value
        self._commit_soon()

    async def get(self, key: str) -> bytes | None:
        """Return the value under `key`, None when there is none."""
        return self._small[key] if key in self._small else await self._call(lambda: self._database.get(key))

    async def reserve_sequence(self, now_ms: int) -> int:
        """Return our next sequence, `max(now_ms, last + 1)`, on disk when this returns.

        Raises `StoreError` when it cannot be stored: it must not be used then.
        """
        self._reserved = await self._call(lambda: self._database.reserve_sequence(now_ms, self._reserved))
        return self._reserved

    async def last_sequence(self) -> int | None:
        """Return the highest sequence ever reserved; None when this home remembers none."""
        return await self._call(self._database.last_sequence) if self._reserved is None else self._reserved

    async def prune(self, before_ms: int) -> int:
        """Forget the nodes heard last before `before_ms` (wall clock); return how many there were."""
        await self.flush()
        return await self._call(lambda: self._database.prune(before_ms))

    async def flush(self) -> None:
        """Commit everything that was put; `StoreError` when the disk refuses (it is then kept and tried again)."""
        async with self._committing:
            nodes, self._nodes = self._nodes, {}
            small, self._small = self._small, {}
            if not nodes and not small:
                return
            try:
                await asyncio.shield(self._call(lambda: self._database.write(nodes, small)))
            except BaseException:
                self._nodes = {**nodes, **self._nodes}
                self._small = {**small, **self._small}
                raise

    # -- the batches --------------------------------------------------------------------------------------------------

    def _commit_soon(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._commit_batches())

    async def _commit_batches(self) -> None:
        """Commit until nothing waits."""
        pause = RETRY_FIRST
        while self._nodes or self._small:
            await self._clock.sleep(GATHER)
            try:
                await self.flush()
            except StoreError as error:
                if not self.problem:
                    log.warning("%s (%s)", error, error.hint)
                self.problem = str(error)
                await self._clock.sleep(pause)
                pause = min(2 * pause, RETRY_MOST)
            else:
                if self.problem:
                    log.info("the store works again")
                self.problem, pause = "", RETRY_FIRST

    async def _call(self, work: Callable[[], _Result]) -> _Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def _close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        try:
            await self.flush()
        except StoreError as error:
            log.warning("%s: what was heard last is not stored", error)

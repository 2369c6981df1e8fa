"""What the registry needs of a durable store; `dragon.store.Store` is one, tests have one in memory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from registry_schema import Rank


class Storage(Protocol):
    def put(self, swarm: str, node_id: str, rank: Rank, envelope: bytes, heard_ms: int) -> None:
        """Remember the newest envelope of a node and its rank; written in the background."""
        ...

    def forget(self, swarm: str, node_id: str) -> None:
        """Forget a node that the view has let go."""
        ...

    def envelopes(self, swarm: str) -> Iterable[tuple[str, bytes, int]]:
        """Hand over `(node id, envelope, when it was heard in ms)` of all that was remembered at the start, once."""
        ...

    async def last_sequence(self) -> int | None:
        """Return the last sequence of our own, None when there is none: a new home."""
        ...

    async def reserve_sequence(self, now_ms: int) -> int:
        """Return `max(now_ms, last + 1)`, on disk when it returns."""
        ...

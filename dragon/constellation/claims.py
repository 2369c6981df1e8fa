"""Who fetches which event: each is asked for once in a run, whoever has it. Pure; ids are 32 bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

REMEMBERED = 50_000
"""Events of this run that are remembered as done, at most twice as many, in 7 MB. To forget one costs a duplicate."""


class Seen:
    """A set that forgets its oldest half when it is full. Keeps 64 bits of each value, by a hash that nobody can foresee."""

    def __init__(self, bound: int = REMEMBERED) -> None:
        self._bound = bound
        self._new: set[int] = set()
        self._old: set[int] = set()

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    def __contains__(self, value: object) -> bool:
        key = hash(value)
        return key in self._new or key in self._old

    def add(self, value: bytes | str) -> None:
        if value in self:
            return
        if len(self._new) >= self._bound:
            self._old, self._new = self._new, set()
        self._new.add(hash(value))


class Claims:
    """Ids that are being fetched, and by whom. Holds no more than what all peers fetch at the moment."""

    def __init__(self, done: Seen) -> None:
        self._done = done
        self._claimed: dict[bytes, str] = {}

    def __len__(self) -> int:
        return len(self._claimed)

    def take(self, peer: str, wanted: deque[bytes], count: int) -> list[bytes]:
        """Take up to `count` ids off `wanted` for `peer` to fetch now.

        What is done is dropped; what somebody else fetches goes to the end of `wanted`, for the case that they fail. Returns
        nothing when nothing is left, or only such.
        """
        taken: list[bytes] = []
        for _ in range(len(wanted)):
            if len(taken) >= count:
                break
            each = wanted.popleft()
            if each in self._done:
                continue
            if each in self._claimed:
                wanted.append(each)
                continue
            self._claimed[each] = peer
            taken.append(each)
        return taken

    def release(self, peer: str, ids: Iterable[bytes]) -> None:
        """`peer` is through with these: those that are not done are free for others."""
        for each in ids:
            if self._claimed.get(each) == peer:
                del self._claimed[each]

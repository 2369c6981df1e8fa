"""A server of negentropy over a set in memory, written from the protocol's description, for the bridge to talk to."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterable

from dragon.constellation.negentropy import END, ID_SIZE, Bound, Mode, Range, decode, encode

BUCKETS = 16

Item = tuple[int, bytes]
"""A timestamp and an id."""


class Responder:
    """Answers as strfry does; `frame` bounds the bytes of an answer, as far as one range allows."""

    def __init__(self, items: Iterable[Item], frame: int | None = None) -> None:
        self.items = sorted(items)
        self.frame = frame
        self.asked = 0

    def answer(self, message: bytes) -> bytes:
        self.asked += 1
        said: list[Range] = []
        full = False
        for each in decode(message):
            start, stop = self._index(each.lower), self._index(each.upper)
            mine = self.items[start:stop]
            if full:
                break
            if each.mode is Mode.FINGERPRINT and each.fingerprint != fingerprint(mine):
                parts = self._split(mine, each.lower, each.upper)
                full = self.frame is not None and bool(said) and len(encode([*said, *parts])) > self.frame
                if full:  # strfry's own way: they are dropped, and the fingerprint of the rest begins behind them
                    said.append(Range(said[-1].upper, END, Mode.FINGERPRINT, fingerprint(self.items[stop:])))
                else:
                    said += parts
            elif each.mode is Mode.ID_LIST:
                room = len(mine) if self.frame is None else max((self.frame - len(encode(said))) // ID_SIZE, 1)
                upper = each.upper if room >= len(mine) else Bound(*mine[room])
                said.append(Range(each.lower, upper, Mode.ID_LIST, ids=tuple(name for _, name in mine[:room])))
                stop = start + min(room, len(mine))
            if not full and self.frame is not None and len(encode(said)) > self.frame:
                lower = said[-1].upper
                if lower < END:
                    said.append(Range(lower, END, Mode.FINGERPRINT, fingerprint(self.items[stop:])))
                full = True
        return encode(said)

    def _split(self, mine: list[Item], lower: Bound, upper: Bound) -> list[Range]:
        if len(mine) < 2 * BUCKETS:
            return [Range(lower, upper, Mode.ID_LIST, ids=tuple(name for _, name in mine))]
        size, more = divmod(len(mine), BUCKETS)
        ranges, at = list[Range](), 0
        for bucket in range(BUCKETS):
            stop = at + size + (bucket < more)
            end = upper if bucket == BUCKETS - 1 else between(mine[stop - 1], mine[stop])
            ranges.append(Range(lower, end, Mode.FINGERPRINT, fingerprint(mine[at:stop])))
            lower, at = end, stop
        return ranges

    def _index(self, bound: Bound) -> int:
        return bisect_left(self.items, (bound.timestamp, bound.prefix.ljust(ID_SIZE, b"\0")))


def fingerprint(items: list[Item]) -> bytes:
    """The sum of all ids, and their number, hashed."""
    total = sum(int.from_bytes(name, "little") for _, name in items) % 2**256
    number, digits = len(items), bytearray()
    while not digits or number:
        digits.insert(0, (number & 0x7F) | (0x80 if digits else 0))
        number >>= 7
    return hashlib.sha256(total.to_bytes(32, "little") + bytes(digits)).digest()[:16]


def between(last: Item, first: Item) -> Bound:
    """The shortest bound that parts two neighbours."""
    if last[0] != first[0]:
        return Bound(first[0])
    same = next(place for place in range(ID_SIZE) if last[1][place] != first[1][place])
    return Bound(first[0], first[1][: same + 1].rstrip(b"\0"))

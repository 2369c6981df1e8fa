"""The bridge: two relays that only answer are led to find their differences, by handing each what the other one said. Pure.

Both relays are servers of negentropy (NIP-77): neither starts, and neither tells who lacks what. The bridge asks ours with a
fingerprint that cannot be right, so that it describes itself; hands that description to the peer, whose answer goes into
those ranges that differ; and so on. Where one answers a list of ids with its own, the difference is known here, and the
range is done. Nothing of our own set is read or held for that: neither time nor memory grows with what both have.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dragon.constellation.negentropy import END, FINGERPRINT_SIZE, START, Bound, Mode, Range, decode, encode, size
from dragon.errors import ProtocolError

Side = Literal["ours", "theirs"]

BOGUS = b"\xff" * FINGERPRINT_SIZE
"""A fingerprint that nobody's set has: whoever is asked with it answers with what it holds. (Chance: 1 in 2^128.)"""

MESSAGE_SIZE = 48_000
"""Bytes of a message that we send: twice that in hex, with a filter of many authors besides, stays below the 128 KiB that
strfry accepts by default. What does not fit goes into the next message."""

MAX_PENDING = 100_000
"""Ranges that wait to be asked, in 35 MB: what sets of some millions that differ everywhere leave open. Beyond it the window is
halved."""

MAX_IDLE = 3
"""Answers in a row that only say "ask again": a relay that can answer at all answers at least one range."""


@dataclass(slots=True)
class Found:
    """Differences, as ids of 32 bytes; whoever takes them empties the lists."""

    need: list[bytes]
    """What the peer has and we lack."""
    have: list[bytes]
    """What we have and the peer lacks; incomplete unless asked for."""


class Bridge:
    """One comparison of our relay with a peer's, over one filter."""

    def __init__(self, *, want_have: bool = False, message_size: int = MESSAGE_SIZE) -> None:
        """With `want_have`, also find out what the peer lacks; costs answers of our own relay only."""
        self.found = Found([], [])
        self.ours_empty = False
        """Whether our relay holds nothing at all under this filter; known after its first answer."""
        self._want_have = want_have
        self._message_size = message_size
        self._queues: dict[Side, list[Range]] = {"ours": [Range(START, END, Mode.FINGERPRINT, BOGUS)], "theirs": []}
        self._asked: dict[Side, list[Range]] = {"ours": [], "theirs": []}
        self._idle = 0
        self._first = True

    @property
    def turn(self) -> Side | None:
        """Whom to ask next; None when all differences are known. Ours goes first: it is near."""
        if self._queues["ours"]:
            return "ours"
        return "theirs" if self._queues["theirs"] else None

    @property
    def pending(self) -> int:
        """Return how many ranges wait to be asked; to be kept below `MAX_PENDING`."""
        return sum(map(len, self._queues.values()))

    def ask(self, side: Side) -> bytes:
        """Return the next message for `side`; its answer belongs into `answer` before the next is asked for."""
        queue, chosen, said, room = self._queues[side], list[Range](), list[Range](), self._message_size
        while queue:
            # A list that no message holds is asked for without it: a server answers any list with all of its own.
            told, needed = queue[-1], size(queue[-1])
            if needed > self._message_size:
                told = replace(told, ids=())
                needed = size(told)
            if chosen and needed > room:
                break
            room -= needed
            chosen.append(queue.pop())
            said.append(told)
        chosen.sort(key=lambda each: each.lower)
        said.sort(key=lambda each: each.lower)
        self._asked[side] = chosen
        return encode(said)

    def answer(self, side: Side, data: bytes) -> None:
        """Take what `side` said to the last message; `ProtocolError` where that is no answer to it."""
        asked, self._asked[side] = self._asked[side], []
        said = decode(data)
        if self._first:
            self._first = False
            self.ours_empty = len(said) == 1 and said[0].mode is Mode.ID_LIST and not said[0].ids
        start = asked[0].lower
        onward, again = self._sort(side, asked, said)
        if again and again[0].lower == start:
            self._idle += 1
            if self._idle > MAX_IDLE:
                raise ProtocolError("the relay answers without saying anything")
        else:
            self._idle = 0
        self._queues["theirs" if side == "ours" else "ours"] += reversed(onward)
        self._queues[side] += reversed(again)

    def _sort(self, side: Side, asked: list[Range], said: list[Range]) -> tuple[list[Range], list[Range]]:
        """Return what the other side is to hear, and what this side is to be asked again; note what is settled."""
        onward: list[Range] = []
        position = 0
        for each in said:
            if each.mode is Mode.SKIP:
                continue
            while position < len(asked) and asked[position].upper <= each.lower:
                position += 1
            inside = position < len(asked) and asked[position].lower <= each.lower and each.upper <= asked[position].upper
            if each.mode is Mode.FINGERPRINT and each is said[-1] and not (inside and asked[position].mode is Mode.FINGERPRINT):
                return onward, _from(asked[position:], each.lower)  # its frame was full: the remainder is still to be said
            if not inside:
                raise ProtocolError("an answer about a range that was not asked for")
            if asked[position].mode is Mode.ID_LIST:
                asked[position] = self._settle(side, asked[position], each)
            elif each.ids or each.mode is Mode.FINGERPRINT or side == "ours" or self._want_have:
                onward.append(each)
        return onward, []

    def _settle(self, side: Side, asked: Range, said: Range) -> Range:
        """Compare two lists of one range; return what remains of the question where the answer is only its first part."""
        known, listed = set(asked.ids), set(said.ids)
        news, rest = [each for each in said.ids if each not in known], tuple(each for each in asked.ids if each not in listed)
        theirs, ours = (news, rest) if side == "theirs" else (rest, news)
        whole = said.upper == asked.upper
        if side == "theirs" or whole:
            self.found.need += theirs
        if self._want_have and (side == "ours" or whole):
            self.found.have += ours
        return replace(asked, lower=said.upper, ids=rest)


def _from(ranges: list[Range], start: Bound) -> list[Range]:
    """Return what of `ranges` lies at or above `start`."""
    return [each if each.lower >= start else replace(each, lower=start) for each in ranges]

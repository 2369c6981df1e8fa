"""Negentropy protocol version 1: the messages that find the differences of two sets (NIP-77). A codec; pure.

A set is ordered by (timestamp, id). A message is a list of adjoining ranges of that order, from zero up; each says where it
ends and what its sender holds in it: nothing is said (skip), a fingerprint, or all ids.
Source: https://github.com/hoytech/negentropy, the protocol that strfry, khatru and nostr-sdk answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from dragon.errors import ProtocolError

VERSION = 0x61
"""First byte of every message: `a` for negentropy, one for the version."""

ID_SIZE = 32
FINGERPRINT_SIZE = 16

INFINITY = 2**64 - 1
"""The timestamp above all others: a range that ends there is the last one."""

MAX_VARINT = 10
"""Bytes of the longest number: 64 bits, seven in each."""

CUT_SHORT = "a negentropy message that ends too early"


class Mode(IntEnum):
    """What a range says about what its sender holds in it."""

    SKIP = 0
    FINGERPRINT = 1
    ID_LIST = 2


class Bound(NamedTuple):
    """A point of the order: everything at or above (`timestamp`, `prefix` filled up with zeros) lies beyond it.

    A tuple: bounds are compared 100,000 times where sets of 100,000 differ in 1 %.
    """

    timestamp: int
    prefix: bytes = b""


START = Bound(0)
END = Bound(INFINITY)


@dataclass(frozen=True, slots=True)
class Range:
    """What one side holds from `lower` up to but without `upper`."""

    lower: Bound
    upper: Bound
    mode: Mode
    fingerprint: bytes = b""
    ids: tuple[bytes, ...] = ()


def encode(ranges: Iterable[Range]) -> bytes:
    """Return the message of `ranges`, which are in order and do not overlap; what lies between them is skipped."""
    out = bytearray([VERSION])
    at, clock = START, 0
    for each in ranges:
        if each.lower > at:
            clock = _put_bound(out, each.lower, clock)
            out.append(Mode.SKIP)
        clock = _put_bound(out, each.upper, clock)
        out.append(each.mode)
        if each.mode is Mode.FINGERPRINT:
            out += each.fingerprint
        elif each.mode is Mode.ID_LIST:
            out += _varint(len(each.ids))
            out += b"".join(each.ids)
        at = each.upper
    return bytes(out)


def decode(data: bytes) -> list[Range]:
    """Return the ranges of a message, skipped ones included; `ProtocolError` tells what is wrong with it."""
    if not data:
        raise ProtocolError("an empty negentropy message")
    if data[0] != VERSION:
        raise ProtocolError(f"negentropy of another version ({data[0]:#x})")
    reader, ranges, at, clock = _Reader(data, 1), [], START, 0
    while not reader.at_end:
        upper, clock = reader.bound(clock)
        if upper <= at:
            raise ProtocolError("negentropy ranges out of order")
        mode = reader.varint()
        if mode == Mode.SKIP:
            ranges.append(Range(at, upper, Mode.SKIP))
        elif mode == Mode.FINGERPRINT:
            ranges.append(Range(at, upper, Mode.FINGERPRINT, fingerprint=reader.take(FINGERPRINT_SIZE)))
        elif mode == Mode.ID_LIST:
            ids = reader.take(reader.varint() * ID_SIZE)
            listed = tuple(ids[start : start + ID_SIZE] for start in range(0, len(ids), ID_SIZE))
            ranges.append(Range(at, upper, Mode.ID_LIST, ids=listed))
        else:
            raise ProtocolError(f"negentropy range of unknown mode {mode}")
        at = upper
    return ranges


def size(each: Range) -> int:
    """Return a ceiling of the bytes that a range takes in a message, with a skip before it."""
    bounds = sum(_digits(bound.timestamp + 1) + 1 + len(bound.prefix) for bound in (each.lower, each.upper))
    count = _digits(len(each.ids)) if each.mode is Mode.ID_LIST else 0
    return bounds + 2 + count + len(each.fingerprint) + ID_SIZE * len(each.ids)


def _put_bound(out: bytearray, bound: Bound, clock: int) -> int:
    """Append a bound; timestamps are said as the distance from the one before, plus one, and zero is infinity."""
    if bound.timestamp == INFINITY:
        out += _varint(0)
        clock = INFINITY
    else:
        out += _varint(bound.timestamp - clock + 1)
        clock = bound.timestamp
    out += _varint(len(bound.prefix))
    out += bound.prefix
    return clock


def _digits(number: int) -> int:
    """Return how many bytes `_varint` needs."""
    return max(-(-number.bit_length() // 7), 1)


def _varint(number: int) -> bytes:
    """Return a number in base 128, most significant digit first, the high bit set on all but the last."""
    out = bytearray([number & 0x7F])
    while number := number >> 7:
        out.append(0x80 | (number & 0x7F))
    out.reverse()
    return bytes(out)


class _Reader:
    """Takes a message apart from left to right; every shortage is a `ProtocolError`."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at

    @property
    def at_end(self) -> bool:
        return self._at >= len(self._data)

    def take(self, count: int) -> bytes:
        if count > len(self._data) - self._at:
            raise ProtocolError(CUT_SHORT)
        start, self._at = self._at, self._at + count
        return self._data[start : self._at]

    def varint(self) -> int:
        number, digits = 0, self._data[self._at : self._at + MAX_VARINT]
        for after, digit in enumerate(digits, self._at + 1):
            number = number << 7 | digit & 0x7F
            if digit < 0x80:
                self._at = after
                return number
        raise ProtocolError("a number too long in a negentropy message" if len(digits) == MAX_VARINT else CUT_SHORT)

    def bound(self, clock: int) -> tuple[Bound, int]:
        step = self.varint()
        timestamp = INFINITY if step == 0 else min(clock + step - 1, INFINITY)
        length = self.varint()
        if length > ID_SIZE:
            raise ProtocolError("a negentropy bound longer than an id")
        prefix = self.take(length).rstrip(b"\0")  # zeros at the end mean nothing: equal bounds shall be equal values
        return Bound(timestamp, prefix), timestamp

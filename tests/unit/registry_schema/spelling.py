"""A msgpack writer that can spell one value in many ways: what a careless or hostile encoder might send."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

Choose: TypeAlias = Callable[[int], int]
"""Given the number of ways to spell the next item, returns which one: 0 is the canonical way."""


def canonical(_: int) -> int:
    return 0


def spell(value: Any, choose: Choose = canonical) -> bytes:
    """Return `value` in msgpack. Maps keep the order they have; nil, floats and `Raw` bytes are written as they are."""
    if isinstance(value, Raw):
        return value.data
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, int):
        ways = _integers(value)
        return ways[choose(len(ways))]
    if isinstance(value, str):
        return _prefixed(value.encode("utf-8", "surrogatepass"), (0xA0, 32), (0xD9, 0xDA, 0xDB), choose)
    if isinstance(value, bytes):
        return _prefixed(value, None, (0xC4, 0xC5, 0xC6), choose)
    if isinstance(value, list | tuple):
        head = _header(len(value), (0x90, 16), (None, 0xDC, 0xDD), choose)
        return head + b"".join(spell(item, choose) for item in value)
    if isinstance(value, dict):
        return spell_pairs(list(value.items()), choose)
    raise TypeError(type(value).__name__)


def spell_pairs(pairs: Sequence[tuple[Any, Any]], choose: Choose = canonical) -> bytes:
    """Return a map of `pairs` in msgpack, in this order, twice the same key included."""
    head = _header(len(pairs), (0x80, 16), (None, 0xDE, 0xDF), choose)
    return head + b"".join(spell(key, choose) + spell(item, choose) for key, item in pairs)


class Raw:
    """Bytes that stand for one value as they are."""

    def __init__(self, data: bytes) -> None:
        self.data = data


def _integers(value: int) -> list[bytes]:
    """Every msgpack form that holds `value`, the shortest (and of two, the unsigned) first."""
    ways = []
    if -32 <= value < 128:
        ways.append(struct.pack(">b", value) if value < 0 else bytes([value]))
    for power, size in enumerate((8, 16, 32, 64)):
        unsigned, signed = bytes([0xCC + power]), bytes([0xD0 + power])
        if 0 <= value < 1 << size:
            ways.append(unsigned + value.to_bytes(size // 8, "big"))
        if -(1 << size - 1) <= value < 1 << size - 1:
            ways.append(signed + value.to_bytes(size // 8, "big", signed=True))
    return ways


def _prefixed(data: bytes, short: tuple[int, int] | None, forms: tuple[int | None, ...], choose: Choose) -> bytes:
    return _header(len(data), short, forms, choose) + data


def _header(length: int, short: tuple[int, int] | None, forms: tuple[int | None, ...], choose: Choose) -> bytes:
    ways = [bytes([short[0] | length])] if short is not None and length < short[1] else []
    for form, size in zip(forms, (1, 2, 4), strict=True):
        if form is not None and length < 1 << 8 * size:
            ways.append(bytes([form]) + length.to_bytes(size, "big"))
    return ways[choose(len(ways))]

"""Canonical msgpack: every value has exactly one encoding, and only that one is read.

The rules (another language needs no more):
 1. integers, strings, binaries, lists and maps use msgpack's shortest form (integers that are not negative: the unsigned ones);
 2. strings are valid UTF-8;
 3. map keys are strings, unique, ascending by their UTF-8 bytes;
 4. no floats, no nil, no extension types; nothing after the value.

Rule 1 and the uniqueness of keys are checked by encoding the decoded value again and comparing bytes: the C encoder writes
shortest forms only, and a decoded map keeps one of two equal keys.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgpack

from registry_schema.errors import LimitExceeded, Malformed, NotCanonical
from registry_schema.limits import MAX_DEPTH, MAX_ITEMS, MAX_LENGTH, MAX_TEXT

Value: TypeAlias = "bool | int | str | bytes | list[Value] | dict[str, Value]"

_LEAVES = frozenset({str, int, bool, bytes})


def encode(value: Any) -> bytes:
    """Return the canonical bytes of `value` (maps in any order).

    `TypeError` for what the codec has no place for, `OverflowError` for an integer of more than 64 bits.
    """
    return bytes(msgpack.packb(_sorted(value), use_bin_type=True))


def encode_ordered(value: Any) -> bytes:
    """Return the canonical bytes of `value`, whose maps are already in order, as `decode` returns them."""
    return bytes(msgpack.packb(value, use_bin_type=True))


def decode(data: bytes, max_depth: int = MAX_DEPTH) -> Value:
    """Return the value in canonical `data`.

    Raises `Malformed` (not msgpack), `NotCanonical` (another spelling of its value) or `LimitExceeded`.
    """
    value = unpack(data)
    check(value, max_depth)
    compare(value, data)
    return value


# The three steps of `decode`, for a reader who knows what to expect and can take a shorter way through the second.


def unpack(data: bytes) -> Value:
    """Return the value in the msgpack `data`, with bounded memory, but not yet known to be canonical or even of our types."""
    try:
        value: Value = msgpack.unpackb(
            data, strict_map_key=False, max_str_len=MAX_TEXT, max_array_len=MAX_LENGTH, max_map_len=MAX_LENGTH
        )
    except msgpack.exceptions.StackError:
        raise LimitExceeded("nested too deep") from None
    except TypeError:
        raise NotCanonical("map keys must be strings") from None  # a list as a key: Python cannot even hold it
    except ValueError as error:
        if "exceeds max_" in str(error):
            raise LimitExceeded(str(error)) from None
        raise Malformed(f"not msgpack: {error or 'an unused type byte'}") from None
    return value


def check(value: Value, max_depth: int = MAX_DEPTH) -> None:
    """Check types, order of keys, depth and number of the values in `value`."""
    if type(value) not in _LEAVES and _check(value, max_depth) > MAX_ITEMS:
        raise LimitExceeded(f"more than {MAX_ITEMS} values")


def compare(value: Value, data: bytes) -> None:
    """Check that `data` is the shortest encoding of `value`, which has passed `check`."""
    if msgpack.packb(value, use_bin_type=True) != data:
        raise NotCanonical("not the shortest encoding of its content, or a key twice")


def _check(container: Any, depth: int) -> int:
    """Check types, depth and the order of keys in `container`; return how many values are below it.

    Looks at whole containers where it can: but for the signature this is the dearest part of reading an envelope.
    """
    kind = type(container)
    if kind is dict:
        keys = list(container)
        try:
            "".join(keys)  # the quickest way to learn that all of them are strings
        except TypeError:
            raise NotCanonical("map keys must be strings") from None
        if sorted(keys) != keys:  # by code points, which is also the order of their UTF-8 bytes
            raise NotCanonical("map keys must be ascending")
        values = container.values()
    elif kind is list:
        values = container
    else:
        raise NotCanonical(f"the contract has no {kind.__name__}")
    if depth == 0:
        raise LimitExceeded("nested too deep")
    count = len(container)
    if not _LEAVES.issuperset(map(type, values)):
        for value in values:
            if type(value) not in _LEAVES:
                count += _check(value, depth - 1)
    return count


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        if not all(type(key) is str for key in value):
            raise TypeError("map keys must be strings")
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    if isinstance(value, bool | int | str | bytes):
        return value
    raise TypeError(f"the contract has no {type(value).__name__}")

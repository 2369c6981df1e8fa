"""Canonical msgpack: every value has exactly one encoding, and only that one is read.

The rules (another language needs no more):
 1. integers, strings, binaries, lists and maps use msgpack's shortest form; strings are UTF-8;
 2. map keys are strings, unique, ascending by their UTF-8 bytes;
 3. no floats, no nil, no extension types.

Rules 1 and 3 are checked by encoding the decoded value again and comparing bytes: the C encoder writes shortest forms only.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgpack

from registry_schema.errors import LimitExceeded, Malformed, NotCanonical
from registry_schema.limits import MAX_DEPTH, MAX_ITEMS, MAX_TEXT

Value: TypeAlias = "bool | int | str | bytes | list[Value] | dict[str, Value]"


def encode(value: Any) -> bytes:
    """Return the canonical bytes of `value` (maps in any order). `TypeError` for what the codec has no place for."""
    return bytes(msgpack.packb(_sorted(value), use_bin_type=True))


def decode(data: bytes, max_depth: int = MAX_DEPTH) -> Value:
    """Return the value in canonical `data`.

    Raises `Malformed` (not msgpack), `NotCanonical` (another spelling of its value) or `LimitExceeded`.
    """
    try:
        value = msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_ascending)
    except (NotCanonical, LimitExceeded):
        raise
    except (ValueError, TypeError, UnicodeDecodeError, msgpack.exceptions.UnpackException) as error:
        raise Malformed(f"not msgpack: {error}") from None
    budget = _walk(value, max_depth, MAX_ITEMS)
    if budget < 0:
        raise LimitExceeded(f"more than {MAX_ITEMS} values")
    if msgpack.packb(value, use_bin_type=True) != data:
        raise NotCanonical("not the shortest encoding of its content")
    checked: Value = value
    return checked


def _ascending(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    previous = None
    for key, _ in pairs:
        # Comparing code points equals comparing UTF-8 bytes: the encoding keeps their order.
        if type(key) is not str or (previous is not None and key <= previous):
            raise NotCanonical("map keys must be strings, unique and ascending")
        previous = key
    return dict(pairs)


def _walk(value: Any, depth: int, budget: int) -> int:
    """Check types, depth and lengths below `value`; return how many more values the payload may hold."""
    kind = type(value)
    if kind is str:
        if len(value) > MAX_TEXT or (not value.isascii() and len(value.encode()) > MAX_TEXT):
            raise LimitExceeded(f"a text longer than {MAX_TEXT} bytes")
        return budget - 1
    if kind is dict or kind is list:
        if depth == 0:
            raise LimitExceeded("nested too deep")
        if budget < len(value):
            return -1
        for item in value.values() if kind is dict else value:
            budget = _walk(item, depth - 1, budget)
        if kind is dict:
            for key in value:
                if len(key) > MAX_TEXT:
                    raise LimitExceeded(f"a key longer than {MAX_TEXT} bytes")
        return budget - 1
    if kind is int or kind is bool or kind is bytes:
        return budget - 1
    raise NotCanonical(f"the contract has no {kind.__name__}")


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    if isinstance(value, bool | int | str | bytes):
        return value
    raise TypeError(f"the contract has no {type(value).__name__}")

"""The constellation's authors: the union of the lists that its nodes keep, each served over the exchange. Pure.

    Ask authors {page}  →  Answer {total, version, keys: 32 bytes each}      (dragon.registry.exchange, members only)

A list is ranked by its own node, people first, friends of friends last. The union is ranked by how many nodes name a key, then
by its place among the equally often named of a list, the best of all lists: a hostile member with a full list of inventions
stands behind every key that two nodes name, and for the rest takes one turn with each of the others.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dragon.constellation.keys import KEY_BYTES, pack, unpack
from registry_schema import codec

QUESTION = "authors"
"""The question's name in the exchange."""

MOST_PER_NODE = 5_000
"""Keys taken from one node: a thousand people with four friends each."""

MOST = 20_000
"""Keys of the whole constellation: 640 kB on the wire to a relay as hex, and a filter that relays still answer in batches."""

PAGE = 4_096
"""Keys in one answer: 128 KiB, half of a frame of the exchange."""

MOST_PAGES = -(-MOST_PER_NODE // PAGE)
"""Answers that one list takes at most, whatever total it claims."""

VERSION_BYTES = 8


@dataclass(frozen=True, slots=True)
class Page:
    """One answer. `version` is the hash of the whole list: pages of two different lists are not put together."""

    total: int
    version: bytes
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Told:
    """What one node said: its ranked list, or why there is none. After an error `keys` may hold what it said before."""

    node_id: str
    alias: str
    keys: tuple[str, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Union:
    """The authors in order of rank, our own first; `left_out` is how many the bound cut off."""

    keys: tuple[str, ...]
    left_out: int = 0
    told: tuple[Told, ...] = field(default=())


def page_of(keys: Sequence[str], number: int) -> codec.Value:
    """Return the body that answers for page `number` (from 0) of our list; a page beyond the end has no keys."""
    kept = keys[:MOST_PER_NODE]
    start = number * PAGE
    version = hashlib.sha256(pack(kept)).digest()[:VERSION_BYTES]
    return {"total": len(kept), "version": version, "keys": pack(kept[start : start + PAGE])}


def asked_page(body: codec.Value) -> int:
    """Return the number of the page that `body` asks for. Raises `ValueError`."""
    number = body.get("page") if isinstance(body, dict) else None
    if type(number) is not int or not 0 <= number < MOST_PAGES:
        raise ValueError(f"`page` is a number from 0 to {MOST_PAGES - 1}")
    return number


def read_page(body: codec.Value) -> Page:
    """Return the page that another node answered with. Raises `ValueError` for anything else than one."""
    match body:
        case {"total": int(total), "version": bytes(version), "keys": bytes(keys)}:
            if total >= 0 and len(version) == VERSION_BYTES and len(keys) <= PAGE * KEY_BYTES:
                return Page(total, version, tuple(unpack(keys)))
        case {"refused": str(reason)}:
            raise ValueError(reason[:80])
    raise ValueError("not a page of authors")


def union(own: Iterable[str], told: Iterable[Told], most: int = MOST) -> Union:
    """Return the authors of the constellation: `own` always, then those that most nodes name."""
    told = tuple(told)
    kept = dict.fromkeys(own)
    lists = [dict.fromkeys(one.keys[:MOST_PER_NODE]) for one in told]
    names = Counter(key for keys in lists for key in keys if key not in kept)
    place: dict[str, int] = {}
    for keys in lists:
        before: Counter[int] = Counter()
        for key in keys:
            if key not in kept:
                place[key] = min(place.get(key, MOST_PER_NODE), before[names[key]])
                before[names[key]] += 1
    others = sorted(names, key=lambda key: (-names[key], place[key], key))
    room = max(most - len(kept), 0)
    return Union((*kept, *others[:room]), max(len(others) - room, 0), told)

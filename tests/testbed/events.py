"""Signed NOSTR events of the tests' own, made from seeds: the same words give the same events.

    anna = Author("anna")
    note = anna.note("hello", created_at=1_700_000_000)
    many(1000, authors("x", 5), since=…, until=…)     # spread evenly over the window

Signing is coincurve's (26 µs an event); `many` uses every core from some thousands on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cached_property
from multiprocessing import get_context
from typing import Any

from coincurve import PrivateKey

Event = dict[str, Any]

POOL_FROM = 5000
"""Events from which starting processes costs less than it saves."""

TEXT = "The quick brown fox jumps over the lazy dog. "
"""Makes the content of `many` about 200 bytes long, as short notes are."""


def serialised(event: Event) -> bytes:
    """Return the bytes whose SHA-256 is the id (NIP-01)."""
    fields = [0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()


class Author:
    """A person with a key pair that follows from its name."""

    def __init__(self, name: str) -> None:
        self.name = name

    @cached_property
    def key(self) -> PrivateKey:
        return PrivateKey(hashlib.sha256(b"dragon test author " + self.name.encode()).digest())

    @cached_property
    def pubkey(self) -> str:
        return bytes(self.key.public_key_xonly.format()).hex()

    def event(self, kind: int, content: str = "", *, created_at: int, tags: Sequence[Sequence[str]] = ()) -> Event:
        """Return a signed event."""
        event: Event = {
            "pubkey": self.pubkey,
            "created_at": created_at,
            "kind": kind,
            "tags": [list(tag) for tag in tags],
            "content": content,
        }
        digest = hashlib.sha256(serialised(event)).digest()
        event["id"] = digest.hex()
        event["sig"] = self.key.sign_schnorr(digest, bytes(32)).hex()
        return event

    def note(self, content: str, *, created_at: int) -> Event:
        return self.event(1, content, created_at=created_at)

    def profile(self, name: str, *, created_at: int) -> Event:
        return self.event(0, json.dumps({"name": name}), created_at=created_at)

    def follows(self, others: Iterable[Author], *, created_at: int) -> Event:
        return self.event(3, created_at=created_at, tags=[("p", other.pubkey) for other in others])

    def deletion(self, *targets: Event, created_at: int) -> Event:
        return self.event(5, created_at=created_at, tags=[("e", target["id"]) for target in targets])


def authors(prefix: str, count: int) -> list[Author]:
    return [Author(f"{prefix}{number}") for number in range(count)]


def many(
    count: int, people: Sequence[Author], *, since: int, until: int, first: int = 0, size: int = 200, kind: int = 1
) -> list[Event]:
    """Return `count` notes of `people` in turn, oldest first, spread evenly over `since` (included) to `until` (left out).

    `first` is the number that the first one carries: notes of other numbers are other events.
    """
    numbers = range(first, first + count)
    if count < POOL_FROM:
        return _notes(([person.name for person in people], numbers, since, until, first, count, size, kind))
    step = -(-count // 16)
    parts = [
        ([person.name for person in people], numbers[start : start + step], since, until, first, count, size, kind)
        for start in range(0, count, step)
    ]
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return [event for part in pool.map(_notes, parts) for event in part]


def _notes(part: tuple[list[str], range, int, int, int, int, int, int]) -> list[Event]:
    names, numbers, since, until, first, count, size, kind = part
    people = [Author(name) for name in names]
    filling = (TEXT * (size // len(TEXT) + 1))[:size]
    return [
        people[number % len(people)].event(
            kind, f"{number} {filling}", created_at=since + (number - first) * (until - since) // count
        )
        for number in numbers
    ]

"""A NOSTR event (NIP-01) that was checked: shape, id and signature. Pure.

pynostr's `Event.from_dict` ignores the id that was given and its `verify` rebuilds everything twice; here the id is computed
once, compared, and the signature checked by coincurve, which is what pynostr calls too. What is kept of an event is written
anew from the checked values, so that no second reading of the peer's bytes can differ from what was verified.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from dragon.constellation.kinds import DELETION, is_addressable, is_replaceable
from dragon.errors import RemoteError

if TYPE_CHECKING:
    from coincurve import PublicKeyXOnly

MAX_EVENT_SIZE = 64 * 1024 - 1
"""Bytes of an event: with its line's end what strfry takes by default, whose `import` ends at the first longer line."""

MAX_KIND = 65_535
MAX_TIME = 2**53 - 1
"""Seconds; what JSON readers everywhere can hold."""

KEYS_REMEMBERED = 4096
"""Authors whose keys stay unpacked: unpacking takes a tenth of a verification."""

_ID: Final = re.compile(r"[0-9a-f]{64}").fullmatch
_SIGNATURE: Final = re.compile(r"[0-9a-f]{128}").fullmatch
_spell: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Unsound(RemoteError):
    """An event that is not what it says; the message is the reason under which it is counted."""


@dataclass(frozen=True, slots=True)
class Event:
    """A checked event."""

    id: str
    pubkey: str
    created_at: int
    kind: int
    data: bytes
    """Its JSON, as it is stored and sent: one line of UTF-8."""
    address: str = ""
    """`kind:pubkey:d` of an event that newer ones replace (NIP-01), else empty."""
    deletes: tuple[str, ...] = ()
    """Ids and addresses that a kind 5 names (NIP-09)."""


def checked(document: Any) -> Event:
    """Return the event of a JSON object; `Unsound` says `malformed`, `oversize`, `bad id` or `bad signature`."""
    try:
        given, pubkey, created_at = document["id"], document["pubkey"], document["created_at"]
        kind, tags, content, signature = document["kind"], document["tags"], document["content"], document["sig"]
        shaped = (
            type(created_at) is int and 0 <= created_at <= MAX_TIME and type(kind) is int and 0 <= kind <= MAX_KIND
            and type(content) is str and type(tags) is list and _ID(pubkey) and _ID(given) and _SIGNATURE(signature)
            and all(type(tag) is list and all(type(word) is str for word in tag) for tag in tags)
        )  # fmt: skip
    except (KeyError, TypeError):
        shaped = False
    if not shaped:
        raise Unsound("malformed")
    try:
        spelt_tags, spelt_content = _spell(tags), _spell(content)
        digest = hashlib.sha256(f'[0,"{pubkey}",{created_at},{kind},{spelt_tags},{spelt_content}]'.encode()).digest()
    except UnicodeEncodeError:  # half a surrogate pair: no UTF-8 can say it
        raise Unsound("malformed") from None
    if digest.hex() != given:
        raise Unsound("bad id")
    try:
        genuine = _key(pubkey).verify(bytes.fromhex(signature), digest)
    except ValueError:  # no point of the curve
        genuine = False
    if not genuine:
        raise Unsound("bad signature")
    data = (
        f'{{"id":"{given}","pubkey":"{pubkey}","created_at":{created_at},"kind":{kind},"tags":{spelt_tags},'
        f'"content":{spelt_content},"sig":"{signature}"}}'
    ).encode()
    if len(data) > MAX_EVENT_SIZE:
        raise Unsound("oversize")
    return Event(given, pubkey, created_at, kind, data, _address(kind, pubkey, tags), _deletes(kind, tags))


@lru_cache(KEYS_REMEMBERED)
def _key(pubkey: str) -> PublicKeyXOnly:
    from coincurve import PublicKeyXOnly  # where used: a node that serves never loads it

    return PublicKeyXOnly(bytes.fromhex(pubkey))


def _address(kind: int, pubkey: str, tags: list[list[str]]) -> str:
    if is_replaceable(kind):
        return f"{kind}:{pubkey}:"
    if is_addressable(kind):
        return f"{kind}:{pubkey}:{next((tag[1] for tag in tags if len(tag) > 1 and tag[0] == 'd'), '')}"
    return ""


def _deletes(kind: int, tags: list[list[str]]) -> tuple[str, ...]:
    if kind != DELETION:
        return ()
    return tuple(tag[1] for tag in tags if len(tag) > 1 and tag[0] in ("e", "a"))

"""Which SSH keys stations of the same UPlanet say are theirs, and whether each may say so. Pure.

A station says its key in a NOSTR event of kind 30850: tags `swarm_id` (the UPlanet), `station` (its node id) and `ssh_pub`.
The originals believe any such event. Here four things must hold: the event's id and signature are right; it is of our UPlanet
and at most nine days old; its author is a NOSTR key that the *signed manifest* of that node names as its own (`hex`) or as its
captain's (`captain_hex`), with which the stations' scripts sign; and the key is one bare ed25519 key: no options, one line.
Sources: NIP-01; sshd(8) on authorized_keys; ASTROPORT 1.2; RUNTIME/ECONOMY.broadcast.sh, which writes the events.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dragon.errors import RemoteError

KIND = 30850
"""A station's economic report, which carries its SSH key."""

FRESH = 9 * 86_400
"""Seconds for which an event counts: stations report weekly, so two days of grace."""

FUTURE = 900
"""Seconds by which an author's clock may be ahead of ours."""

MAX_TAGS = 256
MAX_CONTENT = 64 * 1024
"""Bounds of an event that is looked at; the reports of 2026 have forty tags and 4 kB."""

MAX_KEYS = 256
"""Stations whose keys one file holds."""

_BLOB = b"\0\0\0\x0bssh-ed25519\0\0\0\x20"
"""What the base64 of an ed25519 key begins with; 32 bytes of key follow. Source: RFC 8709 §4."""

_HEX_64 = re.compile(r"[0-9a-f]{64}")
_HEX_128 = re.compile(r"[0-9a-f]{128}")
_LINE = re.compile(r"ssh-ed25519 (?P<blob>[A-Za-z0-9+/]{68})(?: [ -~]{0,256})?")


class KeyRefused(RemoteError):
    """An event from which no key is taken; the message is the reason, the same for every event of its sort."""


@dataclass(frozen=True, slots=True, order=True)
class StationKey:
    """A key that its station may name. `blob` is the base64 of the public key."""

    node_id: str
    blob: str

    @property
    def line(self) -> str:
        """The line of `authorized_keys`: the comment is ours, nothing of it came from the network but the key itself."""
        return f"ssh-ed25519 {self.blob} dragon:{self.node_id}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The keys to let in, by node id, and how many events were refused for which reason."""

    keys: tuple[StationKey, ...]
    refused: Mapping[str, int]


def speakers(station: Mapping[str, object]) -> frozenset[str]:
    """Return the NOSTR keys that speak for a node, by the `station` map of its signed manifest: its own and its captain's."""
    said = (station.get(name) for name in ("hex", "captain_hex"))
    return frozenset(key for key in said if isinstance(key, str) and _HEX_64.fullmatch(key))


def select(events: Iterable[object], *, nodes: Mapping[str, frozenset[str]], uplanet: str, own_id: str, now: int) -> Selection:
    """Return the keys that `events` may name at `now` (Unix seconds).

    `nodes`: node id → NOSTR keys that may speak for it (`speakers`); `uplanet`: the public key that names ours (UPLANETG1PUB).
    Of several events of a station the newest counts, the lower id of two with the same time (NIP-01).
    """
    newest: dict[str, tuple[int, str, StationKey]] = {}
    refused: Counter[str] = Counter()
    for event in events:
        try:
            created, event_id, key = _read(event, nodes, uplanet, own_id, now)
        except KeyRefused as error:
            refused[str(error)] += 1
            continue
        known = newest.get(key.node_id)
        if known is None or (-created, event_id) < (-known[0], known[1]):
            newest[key.node_id] = (created, event_id, key)
    keys = sorted(key for _, _, key in newest.values())
    if len(keys) > MAX_KEYS:
        refused["more stations than one file holds"] += len(keys) - MAX_KEYS
    return Selection(tuple(keys[:MAX_KEYS]), dict(refused))


def parse_key(text: str) -> str:
    """Return the base64 of the one bare ed25519 public key that `text` is. Raises `KeyRefused`."""
    match = _LINE.fullmatch(text.removesuffix("\n"))
    if match is None:
        raise KeyRefused("ssh_pub is not one bare ssh-ed25519 key")
    try:
        raw = base64.b64decode(match["blob"], validate=True)
    except binascii.Error:
        raise KeyRefused("ssh_pub is not one bare ssh-ed25519 key") from None
    if not raw.startswith(_BLOB) or len(raw) != len(_BLOB) + 32:
        raise KeyRefused("ssh_pub is not one bare ssh-ed25519 key")
    return match["blob"]


def _read(
    event: object, nodes: Mapping[str, frozenset[str]], uplanet: str, own_id: str, now: int
) -> tuple[int, str, StationKey]:
    """Return (time, id, key) of one event; cheap questions first, the signature last."""
    shaped = _shaped(event)
    tags = {tag[0]: tag[1] for tag in reversed(shaped["tags"]) if len(tag) > 1}  # the first of a name counts
    created = shaped["created_at"]
    if shaped["kind"] != KIND:
        raise KeyRefused(f"not of kind {KIND}")
    if tags.get("swarm_id") != uplanet:
        raise KeyRefused("of another UPlanet")
    if created < now - FRESH:
        raise KeyRefused("older than nine days")
    if created > now + FUTURE:
        raise KeyRefused("from the future")
    node_id = tags.get("station", "")
    if node_id == own_id:
        raise KeyRefused("of this station itself")
    if node_id not in nodes:
        raise KeyRefused("for a node without a signed manifest that names a NOSTR key")
    if shaped["pubkey"] not in nodes[node_id]:
        raise KeyRefused("by an author who does not speak for that station")
    if "ssh_pub" not in tags:
        raise KeyRefused("without an SSH key")
    key = StationKey(node_id, parse_key(tags["ssh_pub"]))
    _verify(shaped)
    return created, shaped["id"], key


def _shaped(event: object) -> dict[str, Any]:
    """Return `event` when it has the fields and types of NIP-01 within our bounds."""
    if not isinstance(event, Mapping):
        raise KeyRefused("not an event")
    match event:
        case {
            "id": str(event_id),
            "pubkey": str(author),
            "created_at": int(created),
            "kind": int(),
            "tags": list(tags),
            "content": str(content),
            "sig": str(signature),
        } if (
            _HEX_64.fullmatch(event_id)
            and _HEX_64.fullmatch(author)
            and _HEX_128.fullmatch(signature)
            and not isinstance(created, bool)
            and 0 <= created < 1 << 53
            and len(content) <= MAX_CONTENT
            and len(tags) <= MAX_TAGS
            and all(isinstance(tag, list) and tag and all(isinstance(part, str) for part in tag) for tag in tags)
        ):
            return {str(name): value for name, value in event.items()}
    raise KeyRefused("not an event")


def _verify(event: Mapping[str, Any]) -> None:
    """Raise `KeyRefused` unless the id is the event's hash and the signature its author's (NIP-01, BIP-340)."""
    from coincurve import PublicKeyXOnly  # loads libsecp256k1: only where keys are kept

    words = [0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]
    try:
        text = json.dumps(words, separators=(",", ":"), ensure_ascii=False).encode()
        digest = hashlib.sha256(text).digest()
        right = digest.hex() == event["id"] and PublicKeyXOnly(bytes.fromhex(event["pubkey"])).verify(
            bytes.fromhex(event["sig"]), digest
        )
    except ValueError:  # a lone surrogate, or 32 bytes that are no point of the curve
        right = False
    if not right:
        raise KeyRefused("with a wrong id or signature")

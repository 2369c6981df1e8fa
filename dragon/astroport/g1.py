"""Ğ1 public keys and the peer ids of the same Ed25519 keys: how a station shows that an id is its own (UPSYNC). Pure.

Two spellings of one key: base58 of the bare 32 bytes (Duniter v1), and an SS58 address `g1…` (Duniter v2): base58 of prefix,
key and checksum. Sources: Substrate's SS58 specification (registry: prefix 4450 is Ğ1); the libp2p peer-id specification;
ASTROPORT facts 2.6.
"""

from __future__ import annotations

import hashlib
from typing import Final

from registry_schema.ids import base58_decode, ed25519_node_id, is_node_id

PREFIX: Final = bytes((0x58, 0x91))
"""SS58's two-byte spelling of 4450, Ğ1's number in its registry."""

_LONGEST: Final = 64
"""Characters: both spellings are shorter, and base58 takes quadratic time."""


def node_id_of(g1pub: str) -> str | None:
    """Return the peer id of the key that `g1pub` spells; None when it is no such key, or one that nobody can verify."""
    key = _key(g1pub)
    if key is None:
        return None
    node_id = ed25519_node_id(key)
    return node_id if is_node_id(node_id) else None


def _key(text: str) -> bytes | None:
    if not 0 < len(text) <= _LONGEST:
        return None
    try:
        data = base58_decode(text)
    except ValueError:
        return None
    if len(data) == 32:
        return data
    if len(data) != 36 or not data.startswith(PREFIX):
        return None
    body, checksum = data[:-2], data[-2:]
    return data[2:34] if hashlib.blake2b(b"SS58PRE" + body).digest()[:2] == checksum else None

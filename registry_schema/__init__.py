"""The contract of a Dragon swarm: what a node says, how it is encoded, signed and believed.

Pure: no I/O, no clock, no event loop, nothing of `dragon`. Another language could be written from it (docs/protocol.md).
The errors and the merge are here at once; the rest is imported on first use, because every command of the CLI needs the
error tree and none needs pydantic and a cryptography library (0.3 s).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from registry_schema.errors import (
    BadIdentity,
    BadSignature,
    DragonError,
    FromTheFuture,
    InvalidField,
    LimitExceeded,
    LocalError,
    Malformed,
    NotCanonical,
    Rejection,
    RemoteError,
    TooLarge,
    UnsupportedVersion,
    WrongSwarm,
)
from registry_schema.merge import Rank, equivocates, merge, newer

if TYPE_CHECKING:
    from registry_schema.codec import decode, encode
    from registry_schema.envelope import DOMAIN, Draft, Parsed, check_bounds, open_envelope, parse, seal
    from registry_schema.ids import LIBP2P_PREFIX, NodeKey, ed25519_node_id, is_node_id, key_of, rsa_node_id
    from registry_schema.manifest import Agent, Manifest, Offer, make_offer, protocol_name
    from registry_schema.texts import clean_alias, clean_label, clean_text

__all__ = [
    "DOMAIN",
    "LIBP2P_PREFIX",
    "Agent",
    "BadIdentity",
    "BadSignature",
    "Draft",
    "DragonError",
    "FromTheFuture",
    "InvalidField",
    "LimitExceeded",
    "LocalError",
    "Malformed",
    "Manifest",
    "NodeKey",
    "NotCanonical",
    "Offer",
    "Parsed",
    "Rank",
    "Rejection",
    "RemoteError",
    "TooLarge",
    "UnsupportedVersion",
    "WrongSwarm",
    "check_bounds",
    "clean_alias",
    "clean_label",
    "clean_text",
    "decode",
    "ed25519_node_id",
    "encode",
    "equivocates",
    "is_node_id",
    "key_of",
    "make_offer",
    "merge",
    "newer",
    "open_envelope",
    "parse",
    "protocol_name",
    "rsa_node_id",
    "seal",
]

_HOME = {
    "decode": "codec",
    "encode": "codec",
    "DOMAIN": "envelope",
    "Draft": "envelope",
    "Parsed": "envelope",
    "check_bounds": "envelope",
    "open_envelope": "envelope",
    "parse": "envelope",
    "seal": "envelope",
    "LIBP2P_PREFIX": "ids",
    "NodeKey": "ids",
    "ed25519_node_id": "ids",
    "is_node_id": "ids",
    "key_of": "ids",
    "rsa_node_id": "ids",
    "Agent": "manifest",
    "Manifest": "manifest",
    "Offer": "manifest",
    "make_offer": "manifest",
    "protocol_name": "manifest",
    "clean_alias": "texts",
    "clean_label": "texts",
    "clean_text": "texts",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

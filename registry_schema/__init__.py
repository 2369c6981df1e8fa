"""The contract of a Dragon swarm: what a node says, how it is encoded, signed and believed.

Pure: no I/O, no clock, no event loop, nothing of `dragon`. Another language could be written from it (docs/protocol.md).
"""

from registry_schema.codec import decode, encode
from registry_schema.envelope import DOMAIN, Draft, Parsed, check_bounds, open_envelope, parse, seal
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
from registry_schema.ids import NodeKey, ed25519_node_id, is_node_id, key_of, rsa_node_id
from registry_schema.manifest import Agent, Manifest, Offer, make_offer, protocol_name
from registry_schema.merge import Rank, equivocates, merge, newer

__all__ = [
    "DOMAIN",
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

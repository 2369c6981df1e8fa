"""Envelopes of nodes that have no daemon: a key pair that signs what a test wants said."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_schema import Manifest, ed25519_node_id, make_offer, seal
from registry_schema.ids import LIBP2P_PREFIX


class Stranger:
    """A node that is nothing but its key; `seed` makes it repeatable."""

    def __init__(self, seed: int) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big"))
        self.id = ed25519_node_id(self._key.public_key().public_bytes_raw())

    def envelope(self, sequence: int, *slugs: str, swarm: str = "test", **fields: object) -> bytes:
        values = {
            "node": self.id,
            "swarm": swarm,
            "sequence": sequence,
            "ttl": 90,
            "alias": "stranger",
            "version": "0.1.0",
            "offers": [make_offer(slug, self.id, 1234).model_dump() for slug in sorted(slugs)],
            "labels": {},
            "capacity": {},
            "load": 0,
            "agents": [],
            "digest": [],
            "station": {},
            "leaving": False,
            **fields,
        }
        return seal(Manifest.read(values), lambda message: self._key.sign(LIBP2P_PREFIX + message))

"""Identities with real Ed25519 keys, made from seeds, and the envelopes they sign. For unit tests and the simulator."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from registry_schema import LIBP2P_PREFIX, Manifest, Offer, ed25519_node_id, make_offer, seal

SWARM = "testing"
NOW_MS = 1_800_000_000_000
"""A wall clock for tests: some day in 2027."""


class Signer:
    """One node: an id and the key behind it."""

    def __init__(self, seed: object) -> None:
        self.seed = seed

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"signer {self.seed}".encode()).digest())

    @cached_property
    def node_id(self) -> str:
        return ed25519_node_id(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """As Kubo's `key/sign` does."""
        return self._key.sign(LIBP2P_PREFIX + message)

    def offer(self, slug: str, labels: Mapping[str, str] | None = None, **fields: Any) -> Offer:
        return make_offer(slug, self.node_id, 11434, labels=dict(labels or {}), **fields)

    def manifest(self, sequence: int, offers: Iterable[Offer | str] = (), **fields: Any) -> Manifest:
        made = [self.offer(offer) if isinstance(offer, str) else offer for offer in offers]
        defaults: dict[str, Any] = {
            "swarm": SWARM,
            "ttl": 90,
            "alias": f"node-{self.seed}",
            "version": "0.1.0",
            "labels": {},
            "capacity": {},
            "load": 0,
            "agents": (),
            "digest": (),
            "station": {},
            "leaving": False,
        }
        ordered = tuple(sorted(made, key=lambda offer: offer.slug))
        return Manifest(node=self.node_id, sequence=sequence, offers=ordered, **{**defaults, **fields})

    def envelope(self, sequence: int = NOW_MS, offers: Iterable[Offer | str] = (), **fields: Any) -> bytes:
        return seal(self.manifest(sequence, offers, **fields), self.sign)

"""The envelope: the signed bytes of a manifest, and the steps from bytes to a manifest one may believe.

    wire     = canonical msgpack {v: 1, payload: bytes, sig: bytes, key?: bytes}
    payload  = canonical msgpack of the manifest
    sig      = the node's identity over LIBP2P_PREFIX + DOMAIN + payload

The steps are separate because admission puts cheap ones before dear ones (DESIGN §5): `parse` costs a few tens of microseconds,
`Parsed.verify` a signature check. `open_envelope` is all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from registry_schema import codec
from registry_schema.errors import (
    FromTheFuture,
    InvalidField,
    Malformed,
    NotCanonical,
    TooLarge,
    UnsupportedVersion,
    WrongSwarm,
)
from registry_schema.ids import is_ed25519_id, key_of
from registry_schema.limits import MAX_ENVELOPE, MAX_SKEW_MS
from registry_schema.manifest import Manifest

DOMAIN = b"dragon-manifest-v1\0"
"""Domain separation: a signature made for anything else is worth nothing here, and the other way round."""

ENVELOPE_VERSION = 1


@dataclass(frozen=True, slots=True)
class Draft:
    """A manifest encoded and waiting for its signature: sans-I/O, because the key lives in Kubo."""

    manifest: Manifest
    payload: bytes

    @classmethod
    def of(cls, manifest: Manifest) -> Draft:
        """Return `manifest` encoded; the `Rejection` that others would raise (for a copy made without validation)."""
        payload = codec.encode(manifest.fields())
        _read(payload)
        return cls(manifest, payload)

    @property
    def message(self) -> bytes:
        """The bytes to hand to `key/sign` (which adds `LIBP2P_PREFIX` itself)."""
        return DOMAIN + self.payload

    def sealed(self, signature: bytes, key: bytes | None = None) -> bytes:
        """Return the envelope's bytes. `key` is the protobuf public key of an RSA identity, None for Ed25519.

        Raises `TooLarge`, as others would, when the manifest does not fit.
        """
        fields: dict[str, Any] = {"v": ENVELOPE_VERSION, "payload": self.payload, "sig": signature}
        if key is not None:
            fields["key"] = key
        data = codec.encode(fields)
        if len(data) > MAX_ENVELOPE:
            raise TooLarge(f"the manifest needs {len(data)} bytes, an envelope holds {MAX_ENVELOPE}")
        return data


def seal(manifest: Manifest, sign: Callable[[bytes], bytes], key: bytes | None = None) -> bytes:
    """Return the envelope of `manifest`; `sign` returns the identity's signature over its argument as `key/sign` does."""
    draft = Draft.of(manifest)
    return draft.sealed(sign(draft.message), key)


@dataclass(frozen=True)
class Parsed:
    """A well-formed, canonical envelope whose signature has not been checked: nothing in it may be believed yet."""

    data: bytes
    """The whole envelope, as received and as relayed."""
    payload: bytes
    signature: bytes
    key: bytes | None
    manifest: Manifest
    plain: bool = False
    """True when there is nothing in the payload beside what `manifest` holds; False may mean that nobody looked closer."""

    @cached_property
    def raw(self) -> Mapping[str, Any]:
        """The decoded payload with the fields that this version does not know."""
        value = codec.unpack(self.payload)
        assert isinstance(value, dict)
        return value

    @cached_property
    def hash(self) -> bytes:
        """SHA-256 of the payload, 32 bytes: the tie-break between two bodies of one sequence."""
        return hashlib.sha256(self.payload).digest()

    @cached_property
    def content_hash(self) -> bytes:
        """SHA-256 over the content but for sequence, loads and digest, 32 bytes: equal for successive plain beats.

        Exactly: of the canonical encoding of the decoded payload, unknown fields included, in which the top-level `sequence`
        and `load` and each offer's `load` are 0 and the `digest` is empty.
        """
        offers = [{**offer, "load": 0} for offer in self.raw["offers"]]
        content = {**self.raw, "sequence": 0, "load": 0, "digest": (), "offers": offers}  # the order of keys stays
        return hashlib.sha256(codec.encode_ordered(content)).digest()

    @cached_property
    def rank(self) -> tuple[int, bytes]:
        """What decides between two envelopes of one node: the higher `(sequence, hash)` is the newer."""
        return (self.manifest.sequence, self.hash)

    def verify(self) -> Manifest:
        """Return the manifest when its node signed it; raise `BadIdentity` or `BadSignature`."""
        key_of(self.manifest.node, self.key).verify(self.signature, DOMAIN + self.payload)
        return self.manifest


def parse(data: bytes) -> Parsed:
    """Return the envelope in `data`, checked for size, shape and canonical form, but not for its signature.

    Raises `TooLarge`, `Malformed`, `NotCanonical`, `LimitExceeded`, `UnsupportedVersion` or `InvalidField`.
    """
    if len(data) > MAX_ENVELOPE:
        raise TooLarge(f"{len(data)} bytes, an envelope holds {MAX_ENVELOPE}")
    outer = codec.decode(data, max_depth=1)
    if not isinstance(outer, dict):
        raise Malformed("an envelope is a map")
    version = outer.get("v")
    if type(version) is not int:
        raise Malformed("an envelope has a version `v`")
    if version != ENVELOPE_VERSION:
        raise UnsupportedVersion(f"envelope version {version}; this node reads {ENVELOPE_VERSION}")
    payload, signature, key = outer.get("payload"), outer.get("sig"), outer.get("key")
    if not isinstance(payload, bytes) or not isinstance(signature, bytes) or not isinstance(key, bytes | None):
        raise Malformed("payload, sig and key are byte strings")
    if len(outer) != 3 + (key is not None):
        raise Malformed("an envelope has v, payload, sig and, for RSA ids, key; nothing else")
    raw, manifest, plain = _read(payload)
    if key is not None and is_ed25519_id(manifest.node):
        raise NotCanonical("an Ed25519 id carries its own key; the envelope must not")
    parsed = Parsed(data, payload, signature, key, manifest, plain)
    parsed.__dict__["raw"] = raw  # a cached property: it is decoded already
    return parsed


def _read(payload: bytes) -> tuple[dict[str, Any], Manifest, bool]:
    """Return a canonical payload, decoded and as a manifest, and whether that plainly is all there is.

    It is `codec.decode` with a shorter way for what is nearly always there.

    A payload with exactly the fields of this version needs no walk over its values: the strict model has checked their types.
    """
    raw = codec.unpack(payload)
    if not isinstance(raw, dict):
        codec.check(raw)
        raise Malformed("a payload is a map")
    try:
        manifest = Manifest.read(raw)
    except InvalidField:
        codec.check(raw)  # of two faults the more general one is the reason, whichever way was taken
        codec.compare(raw, payload)
        raise
    plain = manifest.says_all(raw)
    if not plain:
        codec.check(raw)
    codec.compare(raw, payload)
    return raw, manifest, plain


def check_bounds(manifest: Manifest, *, swarm: str, now_ms: int, max_skew_ms: int = MAX_SKEW_MS) -> None:
    """Raise `WrongSwarm` or `FromTheFuture` when `manifest` is not for this swarm and this moment."""
    if manifest.swarm != swarm:
        raise WrongSwarm(f"swarm {manifest.swarm!r}, this node is in {swarm!r}")
    if manifest.sequence > now_ms + max_skew_ms:
        ahead = (manifest.sequence - now_ms) / 1000
        raise FromTheFuture(f"{ahead:.0f} s ahead of this node's clock, {max_skew_ms // 1000} s are allowed")


def open_envelope(data: bytes, *, swarm: str, now_ms: int) -> Manifest:
    """Return the manifest in `data`, fully checked: size, canonical form, grammar, swarm, time, signature.

    Raises the `Rejection` that applies. Freshness against earlier envelopes is the view's business (`merge.newer`).
    """
    parsed = parse(data)
    check_bounds(parsed.manifest, swarm=swarm, now_ms=now_ms)
    return parsed.verify()

"""The short way through the most common message: a beat repeats its node's last envelope but for sequence, loads and digest.

A canonical payload has exactly one encoding, so the bytes between those values are known beforehand: where they are the same,
nothing in them has to be decoded or validated again, and the few values are read where they stand. What does not match in every
byte is not a beat (or not plainly one), and goes the long way through `parse`. Both ways lead to equal values; a property test
holds that. It costs a fifth of `parse`.
"""

from __future__ import annotations

from dataclasses import dataclass

from registry_schema import codec
from registry_schema.envelope import Parsed
from registry_schema.limits import DIGEST_BUCKETS, DIGEST_BYTES, MAX_ENVELOPE, MAX_SEQUENCE
from registry_schema.manifest import Manifest, Offer

_HEAD = b"\x83\xa7payload\xc5"  # a payload of 256 bytes or more; shorter ones go the long way
_BEFORE_SIGNATURE, _AFTER_SIGNATURE = b"\xa3sig\xc4\x40", b"\xa1v\x01"
_SIGNATURE = 64  # an Ed25519 signature; RSA envelopes carry a key and go the long way

_STEP = 2 + DIGEST_BYTES  # a bucket with its header
_BUCKETS = DIGEST_BUCKETS * _STEP
_DIGEST_HEAD = b"\xdc" + DIGEST_BUCKETS.to_bytes(2, "big")

_FIELDS = tuple(sorted(Manifest.model_fields))
_OFFER_FIELDS = tuple(sorted(Offer.model_fields))


@dataclass(frozen=True, slots=True)
class Pattern:
    """What successive beats of one node have in common."""

    manifest: Manifest
    content_hash: bytes
    pieces: tuple[bytes, ...]
    """The bytes before the digest, the load, each offer's load and the sequence, and those after it."""

    @classmethod
    def of(cls, manifest: Manifest, content_hash: bytes) -> Pattern:
        """Return the pattern of `manifest`, which must have been read from a `Parsed.plain` envelope."""
        pieces, piece = [], bytearray(_map(len(_FIELDS)))
        for name in _FIELDS:
            piece += codec.encode(name)
            if name == "offers":
                piece += _list(len(manifest.offers))
                for offer in manifest.offers:
                    piece += _map(len(_OFFER_FIELDS))
                    for key in _OFFER_FIELDS:
                        piece += codec.encode(key)
                        if key == "load":
                            pieces.append(bytes(piece))
                            piece.clear()
                        else:
                            piece += codec.encode(getattr(offer, key))
            elif name in ("digest", "load", "sequence"):
                pieces.append(bytes(piece))
                piece.clear()
            else:
                piece += codec.encode(getattr(manifest, name))
        return cls(manifest, content_hash, (*pieces, bytes(piece)))

    def read(self, data: bytes) -> Parsed | None:
        """Return what `parse(data)` returns if `data` is a beat of this pattern, else None. The signature is not checked."""
        if not data.startswith(_HEAD) or len(data) > MAX_ENVELOPE:
            return None
        start = len(_HEAD) + 2
        length = int.from_bytes(data[start - 2 : start], "big")
        end = start + length
        signed = end + len(_BEFORE_SIGNATURE)
        if length < 256 or data[end:signed] != _BEFORE_SIGNATURE or data[signed + _SIGNATURE :] != _AFTER_SIGNATURE:
            return None
        payload = data[start:end]
        manifest = self._manifest(payload)
        if manifest is None:
            return None
        parsed = Parsed(data, payload, data[signed : signed + _SIGNATURE], None, manifest, plain=True)
        parsed.__dict__["content_hash"] = self.content_hash  # a cached property: the content is the one of the pattern
        return parsed

    def _manifest(self, payload: bytes) -> Manifest | None:
        before_digest, before_load, *before_loads, before_sequence, last = self.pieces
        if not payload.startswith(before_digest):
            return None
        place = len(before_digest)
        digest: tuple[bytes, ...] = ()
        if payload.startswith(_DIGEST_HEAD, place):
            place += len(_DIGEST_HEAD)
            buckets = payload[place : place + _BUCKETS]
            if buckets[0::_STEP] != b"\xc4" * DIGEST_BUCKETS or buckets[1::_STEP] != b"\x08" * DIGEST_BUCKETS:
                return None
            digest = tuple([buckets[bucket : bucket + DIGEST_BYTES] for bucket in range(2, _BUCKETS, _STEP)])
            place += _BUCKETS
        elif payload.startswith(b"\x90", place):
            place += 1
        else:
            return None
        loads = []
        for piece in (before_load, *before_loads):
            if not payload.startswith(piece, place):
                return None
            load, place = _thousandths(payload, place + len(piece))
            if load < 0:
                return None
            loads.append(load)
        place += len(before_sequence)
        sequence = int.from_bytes(payload[place + 1 : place + 9], "big")
        if (
            not payload.startswith(before_sequence, place - len(before_sequence))
            or payload[place : place + 1] != b"\xcf"
            or not 2**32 <= sequence <= MAX_SEQUENCE
            or payload[place + 9 :] != last
        ):
            return None
        changed = {"sequence": sequence, "digest": digest, "load": loads[0], "offers": self._offers(loads[1:])}
        return _changed(self.manifest, changed)

    def _offers(self, loads: list[int]) -> tuple[Offer, ...]:
        offers = self.manifest.offers
        if [offer.load for offer in offers] == loads:
            return offers
        return tuple(offer.model_copy(update={"load": load}) for offer, load in zip(offers, loads, strict=True))


def _changed(manifest: Manifest, values: dict[str, object]) -> Manifest:
    """Return what `model_copy(update=values)` returns, for a model without private or extra values, at a third of its cost."""
    copy = Manifest.__new__(Manifest)
    object.__setattr__(copy, "__dict__", {**manifest.__dict__, **values})
    object.__setattr__(copy, "__pydantic_fields_set__", manifest.__pydantic_fields_set__)
    object.__setattr__(copy, "__pydantic_extra__", None)
    object.__setattr__(copy, "__pydantic_private__", None)
    return copy


def _thousandths(payload: bytes, place: int) -> tuple[int, int]:
    """Return the number from 0 to 1000 at `place` and the place after it; −1 for anything else, and for longer spellings."""
    first = payload[place : place + 1]
    if first < b"\x80":
        return (first[0], place + 1) if first else (-1, place)
    if first == b"\xcc":
        number = int.from_bytes(payload[place + 1 : place + 2], "big")
        return (number if number >= 128 else -1, place + 2)
    number = int.from_bytes(payload[place + 1 : place + 3], "big")
    return (number if first == b"\xcd" and 256 <= number <= 1000 else -1, place + 3)


def _map(length: int) -> bytes:
    return bytes([0x80 | length])  # of this version's fields there are fewer than 16


def _list(length: int) -> bytes:
    return bytes([0x90 | length]) if length < 16 else b"\xdc" + length.to_bytes(2, "big")

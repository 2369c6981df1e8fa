"""Node ids (libp2p peer ids) and the public keys behind them.

Source: the libp2p peer-id specification: a peer id is the base58btc text of a multihash of the protobuf `PublicKey`
`{1: KeyType, 2: Data}`; keys whose protobuf is at most 42 bytes (Ed25519) are inlined by the identity multihash, larger ones
(RSA) are hashed with SHA2-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key

from registry_schema.errors import BadIdentity, BadSignature

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGIT = {character: value for value, character in enumerate(_ALPHABET)}

_ED25519_ID = bytes.fromhex("002408011220")  # identity multihash of 36 bytes: KeyType 1, 32 bytes of data
_SHA256_ID = bytes.fromhex("1220")  # SHA2-256 multihash, 32 bytes
_RSA_KEY = bytes.fromhex("080012")  # KeyType 0, then the length-prefixed PKIX DER
_ID_LENGTHS = (46, 52)  # characters of every RSA and every Ed25519 id: the fixed first bytes fix the length in base58 too

LIBP2P_PREFIX = b"libp2p-key signed message:"
"""What Kubo's `key/sign` puts before the data it signs; the verifier adds the same."""

MIN_RSA_BITS, MAX_RSA_BITS = 2048, 8192
"""libp2p's own bounds for RSA identities."""

RSA_EXPONENT = 65537
"""The only exponent that libp2p implementations generate; a huge one would make each verification dear."""

_FIELD = 2**255 - 19  # the prime of Curve25519
_ORDER_8 = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
_SMALL_ORDER = frozenset((0, 1, _FIELD - 1, _ORDER_8, _FIELD - _ORDER_8))
"""The y coordinates of the eight points of small order. A signature of such a "key" fits many messages: anybody could speak
for that node (Chalkias et al., *Taming the Many EdDSAs*, 2020)."""


def base58_encode(data: bytes) -> str:
    """Return `data` in base58btc (the Bitcoin alphabet), leading zero bytes as `1`."""
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, rest = divmod(number, 58)
        text = _ALPHABET[rest] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def base58_decode(text: str) -> bytes:
    """Return the bytes behind base58btc `text`; `ValueError` for a foreign character."""
    number = 0
    for character in text:
        if character not in _DIGIT:
            raise ValueError(f"not base58: {character!r}")
        number = number * 58 + _DIGIT[character]
    zeros = len(text) - len(text.lstrip("1"))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


@dataclass(frozen=True, slots=True)
class NodeKey:
    """The public key of a node id, ready to verify. Made by `key_of`."""

    node_id: str
    _key: Ed25519PublicKey | RSAPublicKey

    def verify(self, signature: bytes, message: bytes) -> None:
        """Return when `signature` is this node's over `message`, as `key/sign` makes it; else raise `BadSignature`."""
        signed = LIBP2P_PREFIX + message
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, signed)
            else:
                self._key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise BadSignature(f"not signed by {self.node_id}") from None


def is_node_id(text: str) -> bool:
    """Tell whether `text` is a node id we can verify: Ed25519 (`12D3KooW…`) or legacy RSA (`Qm…`), in its one spelling."""
    return len(text) in _ID_LENGTHS and _is_node_id(text)


@lru_cache(maxsize=16384)  # ids recur with every beat; one entry is about 300 bytes
def _is_node_id(text: str) -> bool:
    try:
        raw = base58_decode(text)
    except ValueError:
        return False
    if base58_encode(raw) != text:
        return False
    if raw.startswith(_ED25519_ID):
        return len(raw) == 38 and _is_sound(raw[-32:])
    return raw.startswith(_SHA256_ID) and len(raw) == 34


def _is_sound(public_key: bytes) -> bool:
    """Tell whether an Ed25519 public key is in its one encoding and not of small order."""
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    return y < _FIELD and y not in _SMALL_ORDER


def is_ed25519_id(node_id: str) -> bool:
    """Tell whether the id carries its own key, so that an envelope must not carry one."""
    return node_id.startswith("12D3KooW")


def ed25519_node_id(public_key: bytes) -> str:
    """Return the node id of 32 raw Ed25519 public key bytes."""
    return base58_encode(_ED25519_ID + public_key)


def rsa_node_id(key: bytes) -> str:
    """Return the node id of a protobuf-encoded RSA public key, the `key` of an envelope."""
    return base58_encode(_SHA256_ID + hashlib.sha256(key).digest())


def key_of(node_id: str, key: bytes | None = None) -> NodeKey:
    """Return the public key of `node_id`.

    `key` is the protobuf `PublicKey` that an RSA envelope carries; it must be absent for Ed25519, whose id holds the key.
    Raises `BadIdentity` when id and key do not belong together.
    """
    if is_ed25519_id(node_id):
        if key is not None:
            raise BadIdentity("an Ed25519 id carries its own key; the envelope must not")
        return _ed25519_key(node_id)
    if key is None:
        raise BadIdentity(f"the RSA id {node_id} needs its key in the envelope")
    if not is_node_id(node_id) or rsa_node_id(key) != node_id:
        raise BadIdentity(f"the key is not the one of {node_id}")
    return NodeKey(node_id, _rsa_key(key))


@lru_cache(maxsize=16384)
def _ed25519_key(node_id: str) -> NodeKey:
    if not is_node_id(node_id):
        raise BadIdentity(f"not a node id: {node_id!r}")
    return NodeKey(node_id, Ed25519PublicKey.from_public_bytes(base58_decode(node_id)[-32:]))


@lru_cache(maxsize=256)  # legacy ids are few; loading costs as much as verifying
def _rsa_key(key: bytes) -> RSAPublicKey:
    try:
        loaded = load_der_public_key(_rsa_der(key))
    except (ValueError, UnsupportedAlgorithm):
        raise BadIdentity("the key is not a public key in PKIX form") from None
    if not isinstance(loaded, RSAPublicKey) or not MIN_RSA_BITS <= loaded.key_size <= MAX_RSA_BITS:
        raise BadIdentity(f"not an RSA key of {MIN_RSA_BITS} to {MAX_RSA_BITS} bits")
    if loaded.public_numbers().e != RSA_EXPONENT:
        raise BadIdentity(f"an RSA key whose exponent is not {RSA_EXPONENT}")
    return loaded


def _rsa_der(key: bytes) -> bytes:
    """Take the DER out of the deterministic protobuf `08 00 12 <shortest varint of its length> <DER>`."""
    der = key[len(_RSA_KEY) + 2 :]  # a DER of 128 to 16,383 bytes, as all keys within the bounds have, takes two bytes
    if key != _RSA_KEY + bytes((len(der) & 0x7F | 0x80, len(der) >> 7 & 0x7F)) + der or not 0x80 <= len(der) < 0x4000:
        raise BadIdentity("not a libp2p RSA key")
    return der

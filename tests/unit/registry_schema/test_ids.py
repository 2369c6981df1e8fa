"""Node ids and keys: one spelling, sound keys, libp2p's own signature."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from registry_schema import BadIdentity, BadSignature, Rejection, ed25519_node_id, is_node_id, key_of, rsa_node_id
from registry_schema.ids import base58_decode, base58_encode
from tests.unit.registry_schema.identities import ALICE, BOB, RSA, Identity, protobuf_key

PRIME = 2**255 - 19
GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493


def test_known_ids() -> None:
    # RFC 8032 §7.1, test 1, as libp2p names it.
    key = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert ed25519_node_id(key) == base58_encode(bytes.fromhex("002408011220") + key)
    assert base58_encode(b"\0\0Hello World!") == "112NEpo7TZRRrLZSi2U"
    assert base58_decode("112NEpo7TZRRrLZSi2U") == b"\0\0Hello World!"


@given(st.binary(max_size=60))
def test_base58_round_trip(data: bytes) -> None:
    assert base58_decode(base58_encode(data)) == data


@given(st.binary(min_size=32, max_size=32))
def test_every_ed25519_id_looks_alike(key: bytes) -> None:
    node_id = ed25519_node_id(key)
    assert len(node_id) == 52
    assert node_id.startswith("12D3KooW")
    assert is_node_id(node_id) == (int.from_bytes(key, "little") % 2**255 < PRIME and key not in SMALL_ORDER)


@given(st.binary(max_size=1200))
def test_every_rsa_id_looks_alike(key: bytes) -> None:
    assert len(rsa_node_id(key)) == 46
    assert rsa_node_id(key).startswith("Qm")
    assert is_node_id(rsa_node_id(key))


NOT_IDS = [
    "",
    "12D3KooW",
    ALICE.node_id[:-1],
    ALICE.node_id + "1",
    "1" + ALICE.node_id,
    ALICE.node_id[:-1] + "0",
    ALICE.node_id[:-1] + "l",
    ALICE.node_id.swapcase(),
    " " + ALICE.node_id[1:],
    RSA.node_id[:-1],
    "Qm" + "z" * 44,
    "k51qzi5uqu5dlvj2baxnqndepeb86cbk3ng7n3i46uzyxzyqj2xjonzllnv0v8",  # the same kind of key in base36
    "bafzaajaiaejcbzdibmxyzdjbbehgvizh6g5tikvy47mshdy6gwbruvgwvd24seje",  # as a CID
    "é" * 52,
]


@pytest.mark.parametrize("text", NOT_IDS)
def test_what_is_not_a_node_id(text: str) -> None:
    assert not is_node_id(text)
    with pytest.raises(BadIdentity):
        key_of(text)


def _points_of_small_order() -> list[bytes]:
    """The encodings of the eight points whose order divides 8, from the curve's own arithmetic (RFC 8032 §5.1)."""
    root_of_minus_one = pow(2, (PRIME - 1) // 4, PRIME)
    d = -121665 * pow(121666, -1, PRIME) % PRIME

    def x_of(y: int) -> int:
        square = (y * y - 1) * pow(d * y * y + 1, -1, PRIME) % PRIME
        x = pow(square, (PRIME + 3) // 8, PRIME)
        return x if (x * x - square) % PRIME == 0 else x * root_of_minus_one % PRIME

    def add(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
        (x1, y1), (x2, y2) = one, other
        cross = d * x1 * x2 * y1 * y2
        x = (x1 * y2 + x2 * y1) * pow(1 + cross, -1, PRIME)
        y = (y1 * y2 + x1 * x2) * pow(1 - cross, -1, PRIME)
        return x % PRIME, y % PRIME

    y = int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little")
    generator = (x_of(y), y)
    points, point = [], (0, 1)
    for _ in range(8):
        points.append((point[1] | (point[0] & 1) << 255).to_bytes(32, "little"))
        point = add(point, generator)
    assert point == (0, 1)
    return points


SMALL_ORDER = frozenset(_points_of_small_order())


def test_keys_that_sign_for_everybody_are_no_identities() -> None:
    assert len(SMALL_ORDER) == 8
    for key in SMALL_ORDER:
        assert not is_node_id(ed25519_node_id(key))
        with pytest.raises(BadIdentity):
            key_of(ed25519_node_id(key))


@pytest.mark.parametrize("excess", range(19))
def test_a_key_has_one_encoding(excess: int) -> None:
    assert not is_node_id(ed25519_node_id((PRIME + excess).to_bytes(32, "little")))


@pytest.mark.parametrize("identity", [ALICE, RSA], ids=["ed25519", "rsa"])
def test_signatures_carry_libp2ps_prefix(identity: Identity) -> None:
    key = key_of(identity.node_id, identity.key)
    key.verify(identity.sign(b"message"), b"message")
    right = identity.sign(b"message")
    for signature in (identity.raw_sign(b"message"), identity.sign(b"other"), b"", b"\0" * 64, right[:-1], right + b"\0"):
        with pytest.raises(BadSignature):
            key.verify(signature, b"message")


def test_ed25519_signatures_cannot_be_varied() -> None:
    signature = ALICE.sign(b"message")
    scalar = int.from_bytes(signature[32:], "little")
    varied = signature[:32] + (scalar + GROUP_ORDER).to_bytes(32, "little")
    with pytest.raises(BadSignature):
        key_of(ALICE.node_id).verify(varied, b"message")


def test_id_and_key_belong_together() -> None:
    assert RSA.key is not None
    for node_id, key in ((RSA.node_id, None), (ALICE.node_id, RSA.key), (rsa_node_id(b"other"), RSA.key), (BOB.node_id, b"")):
        with pytest.raises(BadIdentity):
            key_of(node_id, key)


def _spki(body: bytes) -> bytes:
    return b"\x08\x00\x12" + bytes((len(body) & 0x7F | 0x80, len(body) >> 7)) + body


def _unusable_keys() -> dict[str, bytes]:
    assert RSA.key is not None
    der = RSA.key[5:]
    modulus = (1 << 2047) + 1
    curve = ec.derive_private_key(7, ec.SECP256R1()).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return {
        "empty": b"",
        "header only": b"\x08\x00\x12",
        "another type": b"\x08\x01" + RSA.key[2:],
        "a varint of three bytes": b"\x08\x00\x12" + bytes((RSA.key[3], RSA.key[4] | 0x80, 0)) + der,
        "a varint that says too much": b"\x08\x00\x12" + bytes((RSA.key[3] + 1, RSA.key[4])) + der,
        "bytes behind": RSA.key + b"\0",
        "an unknown field": RSA.key + b"\x18\x01",
        "not DER": _spki(b"\0" * 294),
        "cut DER": _spki(der[:-1]),
        "a curve's key": _spki(curve + b"\0" * 60),
        "short modulus": protobuf_key(RSAPublicNumbers(65537, (1 << 2046) + 1).public_key()),
        "exponent 3": protobuf_key(RSAPublicNumbers(3, modulus).public_key()),
        "a huge exponent": protobuf_key(RSAPublicNumbers((1 << 2040) + 1, modulus).public_key()),
        "long modulus": protobuf_key(RSAPublicNumbers(65537, (1 << 8192) + 1).public_key()),
    }


@pytest.mark.parametrize("key", _unusable_keys().values(), ids=_unusable_keys().keys())
def test_keys_that_libp2p_would_not_make(key: bytes) -> None:
    with pytest.raises(BadIdentity):
        key_of(rsa_node_id(key), key)


@given(st.binary(max_size=400), st.integers(0, 293))
def test_any_key_bytes_are_used_or_refused(noise: bytes, cut: int) -> None:
    assert RSA.key is not None
    for key in (noise, _spki(noise), RSA.key[: 5 + cut] + noise):
        with pytest.raises(Rejection):
            key_of(rsa_node_id(key), key).verify(b"\0" * 256, b"message")

"""Ğ1 keys as peer ids: one key in its two spellings, and whatever is none."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.astroport.g1 import PREFIX, node_id_of
from registry_schema.ids import base58_decode, base58_encode, ed25519_node_id, is_node_id

V1 = "DCovzCEnQm9GUWe6mr8u42JR1JAuoj3HbQUGdCkfTzSr"
V2 = "g1P5WrGVpqGaEYuGkD4osfxPscfk6uBUqeYh44i2nW65oGGaK"
"""One public key in both spellings; that every address of prefix 4450 begins with g1 shows that the prefix is right."""


def test_both_spellings_of_a_key_are_one_node() -> None:
    expected = ed25519_node_id(base58_decode(V1))
    assert is_node_id(expected)
    assert node_id_of(V1) == node_id_of(V2) == expected


@given(st.binary(min_size=32, max_size=32))
def test_any_key_reads_the_same_in_both_spellings(key: bytes) -> None:
    body = PREFIX + key
    address = base58_encode(body + hashlib.blake2b(b"SS58PRE" + body).digest()[:2])
    assert address.startswith("g1")
    assert node_id_of(address) == (node_id_of(base58_encode(key)) if len(base58_decode(base58_encode(key))) == 32 else None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(V2[:-1] + "2", id="wrong checksum"),
        pytest.param(V2[:-1], id="cut"),
        pytest.param(V1 + "1", id="too long"),
        pytest.param("0OIl", id="not base58"),
        pytest.param("1" * 32, id="a key of small order: anybody could speak for it"),
        pytest.param("5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", id="another chain's address"),
        pytest.param("z" * 100_000, id="huge"),
        pytest.param(base58_encode(b"\x00\x24\x08\x01\x12\x20" + base58_decode(V1)), id="a peer id itself"),
    ],
)
def test_what_is_no_key_is_nobody(text: str) -> None:
    assert node_id_of(text) is None

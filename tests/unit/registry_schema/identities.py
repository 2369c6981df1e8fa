"""Identities that sign as Kubo's `key/sign` does, always the same ones: good for vectors and tests, for nothing else."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_private_key

from registry_schema import LIBP2P_PREFIX, ed25519_node_id, rsa_node_id


@dataclass(frozen=True, slots=True)
class Identity:
    """A node id and its signature; `key` is what an RSA envelope carries, None for Ed25519."""

    node_id: str
    sign: Callable[[bytes], bytes]
    key: bytes | None
    raw_sign: Callable[[bytes], bytes]
    """Signs without libp2p's prefix: what no node does."""


def ed25519(seed: bytes) -> Identity:
    """Return the identity whose Ed25519 private key is the 32 bytes `seed`."""
    private = Ed25519PrivateKey.from_private_bytes(seed)
    node_id = ed25519_node_id(private.public_key().public_bytes_raw())
    return Identity(node_id, lambda message: private.sign(LIBP2P_PREFIX + message), None, private.sign)


def protobuf_key(public: RSAPublicKey) -> bytes:
    """Return libp2p's protobuf of an RSA public key: KeyType 0, the length as a varint of two bytes, the PKIX DER."""
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return b"\x08\x00\x12" + bytes((len(der) & 0x7F | 0x80, len(der) >> 7)) + der


def rsa(pkcs8: bytes) -> Identity:
    """Return the RSA identity of a private key in PKCS #8 DER."""
    private = load_der_private_key(pkcs8, None)
    assert isinstance(private, RSAPrivateKey)

    def raw_sign(message: bytes) -> bytes:
        return private.sign(message, padding.PKCS1v15(), hashes.SHA256())

    key = protobuf_key(private.public_key())
    return Identity(rsa_node_id(key), lambda message: raw_sign(LIBP2P_PREFIX + message), key, raw_sign)


ALICE_SEED, BOB_SEED = bytes(range(32)), bytes(range(32, 64))
RSA_PKCS8 = base64.b64decode(
    "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCefgT1zsIBxw7j3n6SAte719swzb2yKp3Y5woLBTssdbYVJ/+hR7wP4ma33A"
    "JUaNTJLvOObq2BgvdwOGfDq5bViNcZmx6XKYJ45ao9DJLC5C+S31jKEROCxOOE6Cc7MaOuqmJYJlTtJDxvRHLo1KiHL+pzaId8QUm46dpwF5Uy"
    "rBXgTTW73sud+pZGhYbC4zoOo+e3INNfoUdM5osIA/7qDtqTDEXyPR1xO37me5Umlhj5bUXOapKnh/BGrVGhp0GbDIjLWYih2rwMOWdRLHFJ01"
    "wI5DkW9jqSuWbI4bbWIZuKQ11oAMygx5tciGFEArVqbcd6YVaMy7JhmrcFFpLjAgMBAAECggEAQrcjWWFOMzdaojrvJoFB1JV5c+K3Hj9oMHyY"
    "sqjiDsYB/ofWyEoM9NbFjFF1PZjfMUytQ2B9cs3xYHCt5STemkY+3U15pAHaJQ/wCEC5qoYpLHcNxglIIDzG1RRwJy+vCgA444hHKYeeVOwIPs"
    "/9nOJjm2790SUeZlMyGwsiR7CU7v3yq+UgqG5WLloC1tqu0K15KAxuPnBKxf+/G5IVVqz3uA7xuHyqy4lMLpnA7XS+Dn7IqQ39TAgr2LcQH9P2"
    "fe23Qc3AXe6gRV3t1iX22/OSKP6kqAp7vNoGGjGadOLJctWyDKRpRbefY07SZkm6v2S5nehJiCw9DhkblBSRmQKBgQDMgCP0yqrQCcArnKXnQE"
    "iARVIg22Jo9Q14u30LXrcCL6n8IqZ8l1ekrFT5jCiVRcI/Ns5G0CE7dL2KBHMMIgA8iJ8aNEq/9usoxMc948ErbHhl3SWrzLgBgJ4pzrnGzr62"
    "btOpqWd3pxWIPvZAYynR7nPF7s6bwDPquMkxqx77/QKBgQDGZ8pJu0fH0h1iS8/3Zle/aBVuplCf3AkjTG5XeiYM4Ifnz7Qeaxq+fGNFXrkxPD"
    "VIdxqlpkffBDFXNUFhmUOAQI4arYre8SfYgYaj609LYKs4kkcnH4Iy88hOPqcG3Jq/HpSxNUEvPic2NkyingNtNCNF3bMfBBs8CJCyGLhQXwKB"
    "gGUcGisHJWtU1tn5SqHKy833+EJclgyU1MNT1+COROfkzyPlsfE6FtBJkH4NyWb8pa0BmP20HCo8bxZVWtit2vYTCq83GZpOKDjxCh3UhQbGS8"
    "T5kY2e23+Kqyi6mGnugKbMpwRkyM6FIwVJNBHjtaKhRkaf6zFg14p/MKLJG7m1AoGAdKqJZ+vJXLWv86ISyy6SAIpqt+LyW94ePXRvGd9Iyp+p"
    "KuWWy6A9XK92DE+T5GC8ED2BHND3SCuF+/rj1Ek0SREsvoE3vLrfrE8V5gOzX+abKCvTzSyY+e8h5OiwfLdyA1ovIzjmeKo6koVBcQorh6Z161"
    "pfPqjCfv2mYCNrFk8CgYBuvipHLCTOQKqAnTwMb2CCvdT1QWfeRAYiofxVUgeQoGsRmVgI7Cfj2vm9qb/7puJshfuNF+Ht33oZgSEkbwY1Zt2E"
    "+sVqEbSUx4Hoj+qem6qwzpUi36MNCvMj8dbHB+Sruw3d1LiZ7LLc693XVsZ5NwXPfCyLLovoKqwaxaX/ew=="
)

ALICE, BOB = ed25519(ALICE_SEED), ed25519(BOB_SEED)
RSA = rsa(RSA_PKCS8)

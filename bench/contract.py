"""What believing an envelope costs beside the one thing nobody can avoid: checking its Ed25519 signature.

Three offers, as the figure of issue 3 asks. Envelopes are all different and of different nodes, as they arrive in a swarm; the
bare verification gets the same keys, signatures and messages from `cryptography` alone. Seconds are of this process's CPU time.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench.harness import Row, side_by_side
from registry_schema import DOMAIN, LIBP2P_PREFIX, Manifest, ed25519_node_id, make_offer, open_envelope, parse, seal

NODES = 500
"""Different signers: more than any cache of a CPU holds on its own, fewer than the contract's caches of ids."""

NOW_MS = 1_800_000_000_000


def run() -> list[Row]:
    """Measure and return the rows."""
    keys = [Ed25519PrivateKey.from_private_bytes(number.to_bytes(32, "big")) for number in range(1, NODES + 1)]
    envelopes = [_envelope(key, number) for number, key in enumerate(keys)]
    parsed = [parse(data) for data in envelopes]
    bare = [
        (key.public_key(), one.signature, LIBP2P_PREFIX + DOMAIN + one.payload) for key, one in zip(keys, parsed, strict=True)
    ]
    seen = {hashlib.blake2b(data, digest_size=16).digest() for data in envelopes}
    turn = itertools.cycle(range(NODES))

    def verify_bare() -> None:
        public, signature, message = bare[next(turn)]
        public.verify(signature, message)

    def hashes() -> None:
        one = parsed[next(turn)]
        one.__dict__.pop("hash", None)
        one.__dict__.pop("content_hash", None)
        _ = one.hash, one.content_hash

    works: dict[str, Callable[[], object]] = {
        "bare Ed25519 verification": verify_bare,
        "parse": lambda: parse(envelopes[next(turn)]),
        "hashes (payload, content)": hashes,
        "parse + verify": lambda: open_envelope(envelopes[next(turn)], swarm="dragon", now_ms=NOW_MS),
        "parse + verify + hashes": lambda: _all(envelopes[next(turn)]),
        "duplicate (hash + set)": lambda: hashlib.blake2b(envelopes[next(turn)], digest_size=16).digest() in seen,
    }
    seconds = side_by_side(works, NODES, clock=time.process_time)
    return list(_rows(seconds))


def _rows(seconds: dict[str, float]) -> Iterator[Row]:
    reference = "bare Ed25519 verification"
    bare = seconds[reference]
    yield Row(reference, 1 / bare, "/s")
    for name, target in (("parse", "<= 0.5"), ("hashes (payload, content)", ""), ("duplicate (hash + set)", "<= 0.05")):
        yield Row(name, seconds[name] * 1e6, "µs", f"time of a {reference}", seconds[name] / bare, target)
    for name, target in (("parse + verify", ">= 0.6"), ("parse + verify + hashes", ">= 0.6")):
        yield Row(name, 1 / seconds[name], "/s", f"rate of a {reference}", bare / seconds[name], target)


def _all(data: bytes) -> None:
    one = parse(data)
    one.verify()
    _ = one.hash, one.content_hash


def _envelope(key: Ed25519PrivateKey, number: int) -> bytes:
    node_id = ed25519_node_id(key.public_key().public_bytes_raw())
    manifest = Manifest(
        node=node_id,
        swarm="dragon",
        sequence=NOW_MS + number,
        ttl=90,
        alias=f"station-{number}",
        version="0.1.0",
        offers=(
            make_offer("comfyui", node_id, 8188, scheme="http", labels={"gpu": "NVIDIA GeForce RTX 4090"}, sticky=True),
            make_offer("ollama", node_id, 11434, scheme="http", labels={"model": "llama3.2:latest", "model.2": "mistral:7b"}),
            make_offer("ssh", node_id, 22, scheme="ssh"),
        ),
        labels={"city": "Toulouse"},
        capacity={"cores": 16, "memory_mb": 65536},
        load=number % 1000,
        agents=(),
        digest=tuple(hashlib.sha256(bytes([bucket])).digest()[:8] for bucket in range(16)),
        station={},
        leaving=False,
    )
    return seal(manifest, lambda message: key.sign(LIBP2P_PREFIX + message))

"""The digest: equal views have equal ones, differences show in the right bucket, and beats change nothing."""

from __future__ import annotations

import hashlib
import random

from dragon.registry.digest import EMPTY, BucketedDigest, bucket_of, differing
from registry_schema.limits import DIGEST_BUCKETS, DIGEST_BYTES
from tests.simulator.signers import NOW_MS, Signer
from tests.unit.registry.world import World

A, B = Signer("a"), Signer("b")


def test_a_digest_is_as_the_protocol_describes_it() -> None:
    """Another language could be written from this."""
    digest = BucketedDigest()
    contents = {f"node {number}": hashlib.sha256(bytes([number])).digest() for number in range(40)}
    for node_id, content_hash in contents.items():
        digest.put(bucket_of(node_id), node_id, content_hash)
    for number, value in enumerate(digest.value()):
        members = [name for name in contents if hashlib.sha256(name.encode()).digest()[0] >> 4 == number]
        entries = sorted(hashlib.sha256(name.encode()).digest() + contents[name] for name in members)
        assert value == (hashlib.sha256(b"".join(entries)).digest()[:DIGEST_BYTES] if entries else EMPTY)


def test_the_way_to_a_content_leaves_no_trace() -> None:
    """Whatever came and went before, and in which order."""
    rng = random.Random(5)
    names = [f"node {number}" for number in range(30)]
    direct, detour = BucketedDigest(), BucketedDigest()
    for name in names:
        direct.put(bucket_of(name), name, name.encode())
    for _ in range(200):
        name = rng.choice(names)
        if rng.random() < 0.3:
            detour.remove(bucket_of(name), name)
        else:
            detour.put(bucket_of(name), name, rng.randbytes(4))
        if rng.random() < 0.1:
            detour.value()
    rng.shuffle(names)
    for name in names:
        detour.put(bucket_of(name), name, name.encode())
    assert direct.value() == detour.value()
    for name in names:
        detour.remove(bucket_of(name), name)
    assert detour.value() == (EMPTY,) * DIGEST_BUCKETS


def test_beats_alone_change_nothing_and_a_content_changes_one_bucket() -> None:
    """DESIGN §5: sequences, loads and digests are not covered."""
    world = World()
    world.beat(A, offers=["ollama"])
    world.beat(B)
    before = world.view.digest(world.at)
    world.wait(30)
    world.beat(A, offers=[A.offer("ollama", load=900)], load=3, digest=before)
    world.beat(B)
    assert world.view.digest(world.at) == before
    world.wait(1)
    world.beat(A, offers=["comfyui"])
    assert world.view.differing(before, world.at) == (bucket_of(A.node_id),)


def test_only_the_live_are_covered() -> None:
    world = World()
    empty = world.view.digest(world.at)
    world.beat(A)
    assert world.view.digest(world.at) != empty
    world.hear(B.envelope(NOW_MS + 3_600_000))
    assert world.view.differing(empty, world.at) == (bucket_of(A.node_id),)
    world.wait(90)
    assert world.view.digest(world.at) == empty


def test_a_peer_without_a_digest_differs_in_nothing() -> None:
    assert differing((EMPTY,) * 16, ()) == ()
    assert differing((EMPTY,) * 16, (EMPTY,) * 15 + (b"12345678",)) == (15,)


def test_ids_spread_over_all_buckets() -> None:
    """Ed25519 ids begin alike as text; their hashes do not."""
    counts = [0] * DIGEST_BUCKETS
    for number in range(1600):
        counts[bucket_of(f"12D3KooW{number}")] += 1
    assert min(counts) > 50


def test_a_bucket_hands_out_envelopes_with_their_ages() -> None:
    world = World()
    first = A.envelope(world.now_ms)
    world.hear(first)
    world.wait(7)
    second = B.envelope(world.now_ms)
    world.hear(second)
    assert sorted(world.view.bucket(range(16), world.at)) == sorted([(first, 7.0), (second, 0.0)])
    assert next(iter(world.view.bucket([bucket_of(A.node_id)], world.at)))[0] in (first, second)
    assert list(world.view.bucket([], world.at)) == []

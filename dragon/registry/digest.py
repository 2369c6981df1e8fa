"""The digest of a view: one short hash for each of 16 buckets, over who is live with what content. DESIGN §5.

    bucket of a node  = the first four bits of SHA-256(node id as text)
    bucket's hash     = the first 8 bytes of SHA-256 over the ascending 64-byte entries SHA-256(node id) ‖ content hash;
                        8 zero bytes for an empty bucket

Sequences and loads are not covered, so beats alone never change it. Only buckets that changed are hashed again (a bucket of a
view of 10,000 nodes takes about 0.1 ms): a sum or XOR of hashes would be cheaper to maintain, but lets somebody who controls a
few entries choose them so that a difference cancels out.
"""

from __future__ import annotations

import hashlib
from typing import TypeAlias

from registry_schema.limits import DIGEST_BUCKETS, DIGEST_BYTES

Digest: TypeAlias = tuple[bytes, ...]
"""16 hashes of 8 bytes."""

EMPTY = bytes(DIGEST_BYTES)


def bucket_of(node_id: str) -> int:
    """Return the bucket of `node_id`, 0 to 15. Hashed, because the text of every Ed25519 id begins alike."""
    return hashlib.sha256(node_id.encode()).digest()[0] >> 4


def differing(ours: Digest, theirs: Digest) -> tuple[int, ...]:
    """Return the numbers of the buckets that differ; none when the other side says nothing."""
    if len(theirs) != len(ours):
        return ()
    return tuple(number for number, (one, other) in enumerate(zip(ours, theirs, strict=True)) if one != other)


class BucketedDigest:
    """Kept up to date by `put` and `remove`; `value` hashes what changed since the last look."""

    def __init__(self) -> None:
        self._entries: tuple[dict[str, bytes], ...] = tuple({} for _ in range(DIGEST_BUCKETS))
        self._hashes: list[bytes] = [EMPTY] * DIGEST_BUCKETS
        self._dirty: set[int] = set()

    def put(self, number: int, node_id: str, content_hash: bytes) -> bool:
        """Cover `node_id` with this content, and tell whether that is news; the same again costs nothing."""
        entries = self._entries[number]
        held = entries.get(node_id)
        if held is not None and held.endswith(content_hash):
            return False
        entries[node_id] = hashlib.sha256(node_id.encode()).digest() + content_hash
        self._dirty.add(number)
        return True

    def remove(self, number: int, node_id: str) -> None:
        if self._entries[number].pop(node_id, None) is not None:
            self._dirty.add(number)

    def members(self, number: int) -> tuple[str, ...]:
        """Return the node ids of one bucket."""
        return tuple(self._entries[number])

    def value(self) -> Digest:
        for number in self._dirty:
            entries = self._entries[number].values()
            self._hashes[number] = hashlib.sha256(b"".join(sorted(entries))).digest()[:DIGEST_BYTES] if entries else EMPTY
        self._dirty.clear()
        return tuple(self._hashes)

"""Public keys as text and as bytes: one grammar, 64 hex digits, for every place that names people.

Nothing but the grammar is asked of a key: rules about its digits reject valid ones (the scripts' own lost 20 of 600 keys,
those that look like a date or begin with eight decimals).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

KEY_BYTES = 32
"""Of a public key: the x coordinate of a secp256k1 point (BIP-340, NIP-01)."""

_KEY = re.compile(r"[0-9a-f]{64}")


def pubkey(text: str) -> str | None:
    """Return the key that `text` is, in lower case; None when it is none."""
    word = text.strip().lower()
    return word if _KEY.fullmatch(word) else None


def pubkeys(lines: Iterable[str]) -> Iterator[str]:
    """Yield the keys among `lines`, each once, in their order; what is no key is passed over."""
    seen: set[str] = set()
    for line in lines:
        key = pubkey(line)
        if key is not None and key not in seen:
            seen.add(key)
            yield key


def pack(keys: Iterable[str]) -> bytes:
    """Return the keys one after the other, 32 bytes each."""
    return bytes.fromhex("".join(keys))


def unpack(data: bytes) -> list[str]:
    """Return the keys in `data`. Raises `ValueError` when it ends within one."""
    if len(data) % KEY_BYTES:
        raise ValueError(f"{len(data)} bytes are no whole number of keys")
    text = data.hex()
    return [text[start : start + 2 * KEY_BYTES] for start in range(0, len(text), 2 * KEY_BYTES)]

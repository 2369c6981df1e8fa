"""The local port that Astroport scripts give a tunnel: the same for everybody who knows the node id and the slug.

Source: the stations' `x_<slug>.sh` files: `21220 + (cksum(ID) mod 500) + (cksum(SLUG) mod 100)`, where `cksum` is the POSIX
utility's CRC of the bytes without a newline. Two nodes can share a port, so it is a preference, never a promise.
"""

from __future__ import annotations

from functools import lru_cache

BASE = 21220
NODE_RANGE = 500
SLUG_RANGE = 100

_POLYNOMIAL = 0x04C11DB7  # IEEE 802.3, most significant bit first, as POSIX 1003.1 `cksum` says


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = ((crc << 1) ^ _POLYNOMIAL if crc & 0x80000000 else crc << 1) & 0xFFFFFFFF
        table.append(crc)
    return tuple(table)


_TABLE = _table()


def cksum(data: bytes) -> int:
    """Return the CRC that POSIX `cksum` prints: over the bytes, then over their count, least significant byte first."""
    crc = 0
    length = len(data)
    count = length.to_bytes((length.bit_length() + 7) // 8, "little")
    for byte in data + count:
        crc = ((crc << 8) & 0xFFFFFFFF) ^ _TABLE[(crc >> 24) ^ byte]
    return crc ^ 0xFFFFFFFF


@lru_cache(maxsize=1024)  # pure Python over 52 bytes of id; the same few pairs come back with every forward
def station_port(node_id: str, slug: str) -> int:
    """Return the port, 21220 to 21818, under which a station's scripts reach `slug` of `node_id`."""
    return BASE + cksum(node_id.encode()) % NODE_RANGE + cksum(slug.encode()) % SLUG_RANGE

"""A station's own list of first peers: `MY_boostrap_nodes.txt`, else the one that came with its programs. As data."""

from __future__ import annotations

import re
from typing import Final

from dragon.astroport.zen import Zen

MAX_LIST: Final = 64 * 1024
"""Bytes read of a list; the shipped one has a few lines."""

MAX_ADDRESSES: Final = 64
"""Addresses taken from it."""

_ADDRESS = re.compile(r"/(?:ip4|ip6|dns|dns4|dns6|dnsaddr)/[A-Za-z0-9.:-]+(?:/[a-z0-9-]+)*/p2p/[1-9A-HJ-NP-Za-km-z]{46,52}")


def bootstrap_addresses(zen: Zen) -> list[str]:
    """Return the multiaddrs of the list, in its order; none where there is no list. Blocks."""
    for file in (zen.game / "MY_boostrap_nodes.txt", zen.programs / "A_boostrap_nodes.txt"):
        try:
            with file.open("rb") as stream:
                text = stream.read(MAX_LIST).decode(errors="replace")
        except OSError:
            continue
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        if found := [line for line in lines if _ADDRESS.fullmatch(line)]:
            return found[:MAX_ADDRESSES]
    return []

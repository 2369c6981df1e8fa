"""A protocol name as a lock: who holds it on a daemon, and is that program still there? (DESIGN §5: two Dragons on one Kubo)"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from dragon.errors import KuboBusy
from dragon.kubo.types import LOOPBACK, Kubo, P2PEntry

ANSWER_LIMIT = 1.0
"""Seconds to see whether a program listens on a port of this machine."""


async def holder_of(kubo: Kubo, protocol: str) -> P2PEntry | None:
    """Return the listener that has `protocol` on this daemon, None when the name is free."""
    return next((each for each in await kubo.p2p_ls() if each.is_listener and each.protocol == protocol), None)


def busy(protocol: str, holder: P2PEntry) -> KuboBusy:
    """Return the error for a name whose holder answers."""
    return KuboBusy(
        f"another Dragon uses this Kubo: {protocol} leads to {holder.target}, which answers",
        f"stop that node or give this one its own Kubo; if it is none, run `ipfs p2p close --protocol={protocol}`",
    )


async def answers(port: int | None) -> bool:
    """Tell whether a program accepts connections on a port of this machine."""
    if port is None:
        return False
    try:
        async with asyncio.timeout(ANSWER_LIMIT):
            _, writer = await asyncio.open_connection(LOOPBACK, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
    return True

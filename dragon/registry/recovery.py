"""What did I say last? A node that lost its home asks others before it speaks (DESIGN §5, THREATS 2).

Its sequence would otherwise begin at its clock, which may be behind what it signed before: everything it says would be refused
as old until the clock has caught up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from dragon.clock import Clock
from dragon.errors import DragonError
from registry_schema import Rejection, parse

log = logging.getLogger(__name__)

ANSWERS = 2
"""Peers that are enough: one may have been away when we spoke last."""

ASKED = 8
"""Peers asked at most: enough for two to answer, whatever the others do."""

LOOK_EVERY = 0.1
"""Seconds between looks for further peers."""

SECOND_OPINION = 0.5
"""Seconds that a first answer waits for another one: a swarm of two has no third."""

BOUND = 2.0
"""Seconds after which a node speaks that nobody answers: a first node has nobody to ask, and people wait for it."""


async def last_word(
    node_id: str,
    swarm: str,
    peers: Callable[[], Awaitable[list[str]]],
    fetch: Callable[[str, str], Awaitable[bytes | None]],
    clock: Clock,
    bound: float = BOUND,
) -> int:
    """Return the highest sequence that peers hold of us in this swarm, 0 when there is none to be had within `bound` seconds.

    `fetch(peer, node_id)` returns an envelope as the peer has it; only our own signature makes it count.
    """
    answers: list[int] = []
    asking: dict[str, asyncio.Task[None]] = {}

    async def ask(peer: str) -> None:
        try:
            answers.append(_own_sequence(await fetch(peer, node_id), node_id, swarm))
        except DragonError as error:
            log.debug("%s does not tell what we said last: %s", peer, error)

    deadline = clock.monotonic() + bound
    try:
        while clock.monotonic() < deadline and len(answers) < ANSWERS:
            try:
                fresh = [peer for peer in await peers() if peer not in asking]
            except DragonError:
                fresh = []
            for peer in fresh[: ASKED - len(asking)]:
                asking[peer] = asyncio.create_task(ask(peer))
            await clock.sleep(LOOK_EVERY)
            if answers:
                deadline = min(deadline, clock.monotonic() + SECOND_OPINION)
    finally:
        for task in asking.values():
            task.cancel()
        await asyncio.gather(*asking.values(), return_exceptions=True)
    return max(answers, default=0)


def _own_sequence(found: bytes | None, node_id: str, swarm: str) -> int:
    """Return the sequence in an envelope that we signed, however far ahead of our clock; 0 for any other."""
    if found is None:
        return 0
    try:
        parsed = parse(found)
        manifest = parsed.manifest
        if (manifest.node, manifest.swarm) != (node_id, swarm):
            return 0
        parsed.verify()
    except Rejection:
        return 0
    return manifest.sequence

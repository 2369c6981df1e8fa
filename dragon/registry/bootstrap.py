"""Getting to the first peers, and back to them: `join` addresses, then nodes that we remember.

Kubo's own ways (its bootstrap list, topic discovery, mDNS, peering) work beside this; here is only what they do not know.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from dragon.clock import Clock
from dragon.errors import ConfigError, KuboError
from dragon.kubo.types import Kubo
from dragon.registry.backoff import Backoff
from registry_schema import is_node_id

log = logging.getLogger(__name__)

RETRY_FIRST, RETRY_MOST = 0.2, 15.0
"""Seconds between attempts to reach a `join` address. Kubo's own peering waits 5 s before its second attempt."""

CHECK_EVERY = 5.0
"""Seconds between looks at whether the `join` peers are still connected: a daemon that restarted has forgotten its peering."""

LONELY_AFTER = 5.0
"""Seconds without a peer on the topic before remembered nodes are looked for: Kubo finds its own within a few."""

REMEMBERED_AT_ONCE = 4
"""Remembered nodes looked for in one round: each is a DHT walk on the public network."""

LONELY_FIRST, LONELY_MOST = 10.0, 300.0
"""Seconds between two such rounds."""


@dataclass(frozen=True, slots=True)
class JoinAddress:
    """An address to connect to, and the node it must turn out to be."""

    address: str
    node_id: str

    @classmethod
    def parse(cls, text: str) -> JoinAddress:
        """Return the address in `text`; `ConfigError` with an example when it is none."""
        head, mark, node_id = text.rpartition("/p2p/")
        if not mark or not is_node_id(node_id) or not head.startswith(("/ip4/", "/ip6/", "/dns")):
            raise ConfigError(
                f"join: {text!r} is not the address of a node",
                "write it as `dragon status` prints it there: /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW…",
            )
        return cls(text, node_id)


class Bootstrap:
    """Keeps `join` peers connected; when nobody follows the topic, looks for `remembered()` nodes.

    `contact(node_id, connected)` is awaited for each one looked for, whether or not it could be dialled; it does not raise.
    """

    def __init__(
        self,
        kubo: Kubo,
        topic: str,
        join: Iterable[str],
        clock: Clock,
        rng: random.Random,
        *,
        remembered: Callable[[], list[str]],
        contact: Callable[[str, bool], Awaitable[None]],
    ) -> None:
        self._kubo = kubo
        self._topic = topic
        self._join = [JoinAddress.parse(text) for text in join]
        self._clock = clock
        self._rng = rng
        self._remembered = remembered
        self._contact = contact
        self.counters: Counter[str] = Counter()
        self.problems: dict[str, str] = {}
        """By address: why a `join` peer is not connected."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for address in self._join:
                tasks.create_task(self._keep(address))
            tasks.create_task(self._look_around())

    async def _keep(self, join: JoinAddress) -> None:
        """Have Kubo hold a connection to one address; dial it ourselves until it stands."""
        backoff = Backoff(RETRY_FIRST, RETRY_MOST, self._rng)
        while True:
            try:
                if not any(peer.node_id == join.node_id for peer in await self._kubo.peers()):
                    await self._kubo.peering_add(join.address)
                    await self._kubo.connect(join.address)
                    self.counters["joined"] += 1
                    log.info("connected to %s", join.address)
            except KuboError as error:
                self.counters["join-failures"] += 1
                if join.address not in self.problems:
                    log.warning("cannot connect to %s yet: %s", join.address, error)
                self.problems[join.address] = str(error)
                await self._clock.sleep(backoff.wait())
                continue
            self.problems.pop(join.address, None)
            backoff.reset()
            await self._clock.sleep(CHECK_EVERY)

    async def _look_around(self) -> None:
        """While nobody is on the topic, ask for nodes of former days; any one of them leads to the rest."""
        backoff = Backoff(LONELY_FIRST, LONELY_MOST, self._rng)
        await self._clock.sleep(LONELY_AFTER)
        while True:
            try:
                lonely = not await self._kubo.topic_peers(self._topic)
            except KuboError:
                lonely = False  # no daemon: nothing to ask it
            if not lonely:
                backoff.reset()
                await self._clock.sleep(CHECK_EVERY)
                continue
            known = self._remembered()
            for node_id in self._rng.sample(known, min(REMEMBERED_AT_ONCE, len(known))):
                await self._find(node_id)
            await self._clock.sleep(backoff.wait())

    async def _find(self, node_id: str) -> None:
        self.counters["looked-for"] += 1
        connected = False
        try:
            await self._kubo.connect(f"/p2p/{node_id}")
            connected = True
        except KuboError as error:
            log.debug("%s is not where we knew it: %s", node_id, error)
        await self._contact(node_id, connected)

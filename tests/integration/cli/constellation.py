"""A node whose peers' relays are real ones on this machine, behind the real control API: for commands of the sync."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from dragon.api import Document
from dragon.errors import NoProvider
from dragon.kubo.types import LOOPBACK
from registry_schema import ed25519_node_id
from tests.testbed.backend import PlainBackend, a_constellation, a_peer
from tests.testbed.events import Author
from tests.testbed.relays import Relay


def node_id(name: str) -> str:
    return ed25519_node_id(hashlib.sha256(name.encode()).digest())


@contextmanager
def relays(folder: Path, number: int) -> Iterator[list[Relay]]:
    """Run relays of nostr-sdk, which speak NIP-77."""
    made = [Relay("sdk", folder / f"relay{each}") for each in range(number)]
    with ExitStack() as stack, ThreadPoolExecutor(number) as pool:
        for relay in made:
            stack.callback(relay.stop)
        yield list(pool.map(Relay.start, made))


def a_relay_node(alias: str) -> Document:
    return a_peer(node_id(alias), alias, offers=[{"slug": "strfry", "port": 7777}])


class RelayBackend(PlainBackend):
    """`peers`: alias → port of its relay; a port of 0 is a tunnel that does not open."""

    def __init__(
        self, peers: Mapping[str, int], local: str | None, people: Sequence[Author], tool: Path | None = None, **fields: Any
    ) -> None:
        super().__init__()
        self.ports = {node_id(alias): port for alias, port in peers.items()}
        keys = [person.pubkey for person in people]
        self.known_constellation = a_constellation(
            authors={"own": len(keys), "total": len(keys), "left_out": 0, "nodes": []},
            people=keys,
            hexes=keys,
            peers=[{"id": node_id(alias), "alias": alias, "trust": "signed", "relay": ""} for alias in peers],
            local={"url": local, "tool": str(tool) if tool else None},
        )
        self.known_constellation.update(fields)
        self.known_peers = [a_relay_node(alias) for alias in peers]
        self.standing: set[int] = set()

    def join(self, alias: str, port: int) -> None:
        """A further node offers its relay from now on."""
        self.ports[node_id(alias)] = port
        peer = {"id": node_id(alias), "alias": alias, "trust": "signed", "relay": ""}
        self.known_constellation = {**self.known_constellation, "peers": [*self.known_constellation["peers"], peer]}
        self.known_peers = [*self.known_peers, a_relay_node(alias)]

    async def forward(
        self,
        slug: str,
        *,
        target: str,
        where: Mapping[str, str],
        via: str | None,
        spread: bool,
        port: int | None,
        raw: bool,
        strategy: str | None = None,
        pool: int | Literal["auto"] | None = None,
    ) -> Document:
        self._step("forward", slug, target)
        there = self.ports.get(target, 0)
        if not there:
            raise NoProvider(f"{target} is not reached", "see dragon explain strfry")
        reused, where_to = there in self.standing, f"ws://{LOOPBACK}:{there}"
        self.standing.add(there)
        opened = {"slug": slug, "provider": target, "route": "p2p", "host": LOOPBACK, "port": there, "url": where_to}
        return {**opened, "reused": reused}

    async def off(self, slug: str | None, port: int | None = None) -> int:
        self._step("off", slug, port)
        self.standing.discard(port or 0)
        return 1

"""A node whose peers' relays are real ones on this machine, behind the real control API: for commands of the sync."""

from __future__ import annotations

import asyncio
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from aiohttp import ClientSession

from dragon.api import Document
from dragon.errors import NoProvider
from dragon.kubo.types import LOOPBACK
from registry_schema import ed25519_node_id
from tests.testbed.backend import PlainBackend, a_constellation, a_peer
from tests.testbed.events import Author, Event
from tests.testbed.ports import free_port


def node_id(name: str) -> str:
    return ed25519_node_id(hashlib.sha256(name.encode()).digest())


class Relay:
    """A relay of nostr-sdk in a process of its own."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"ws://{LOOPBACK}:{self.port}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.testbed.relay_process", "--port", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ready(self) -> Relay:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("listening")
        return self

    def put(self, *events: Event) -> None:
        asyncio.run(_put(self.url, events))

    def ids(self) -> set[str]:
        return set(asyncio.run(_ids(self.url)))

    def close(self) -> None:
        self._process.communicate("", timeout=30)


@contextmanager
def relays(number: int) -> Iterator[list[Relay]]:
    started = [Relay() for _ in range(number)]
    try:
        yield [relay.ready() for relay in started]
    finally:
        for relay in started:
            relay.close()


def a_relay_node(alias: str) -> Document:
    return a_peer(node_id(alias), alias, offers=[{"slug": "strfry", "port": 7777}])


class RelayBackend(PlainBackend):
    """`peers`: alias → port of its relay; a port of 0 is a tunnel that does not open."""

    def __init__(self, peers: Mapping[str, int], local: str | None, people: Sequence[Author], **fields: Any) -> None:
        super().__init__()
        self.ports = {node_id(alias): port for alias, port in peers.items()}
        keys = [person.pubkey for person in people]
        self.known_constellation = a_constellation(
            authors={"own": len(keys), "total": len(keys), "left_out": 0, "nodes": []},
            people=keys,
            hexes=keys,
            peers=[{"id": node_id(alias), "alias": alias, "trust": "signed", "relay": ""} for alias in peers],
            local={"url": local, "tool": None},
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


async def _put(url: str, events: Sequence[Event]) -> None:
    async with ClientSession() as session, session.ws_connect(url) as socket:
        for event in events:
            await socket.send_json(["EVENT", event])
            told = await socket.receive_json()
            assert told[2] is True, told


async def _ids(url: str) -> list[str]:
    found: list[str] = []
    async with ClientSession() as session, session.ws_connect(url) as socket:
        await socket.send_json(["REQ", "all", {"limit": 500}])
        while (message := json.loads(await socket.receive_str()))[0] == "EVENT":
            found.append(message[2]["id"])
    return found

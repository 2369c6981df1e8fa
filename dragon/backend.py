"""What a running node answers: the values of its rooms in the JSON shapes of DESIGN §8.

The only place that knows both; rooms never shape JSON and the API never looks into rooms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from dragon import __version__
from dragon.api import Document
from dragon.clock import Clock
from dragon.config import Settings
from dragon.connect import ForwardRequest, Forwards, Serving, numbered
from dragon.connect.checking import Checker
from dragon.connect.lookup import slugs_of
from dragon.connect.offering import Offering
from dragon.constellation.node_side import Constellation
from dragon.doctor import Doctor, document
from dragon.errors import KuboError
from dragon.kubo import Kubo, Peer
from dragon.kubo.engine import Engine
from dragon.probe import Catalogue
from dragon.registry.entry import NodeView, Provider
from dragon.registry.service import Registry
from dragon.registry.view import View
from registry_schema import Offer

PEER_FACTS_AGE = 2.0
"""Seconds for which the latencies of `swarm/peers` are shown again: a `--watch` must not ask Kubo for each line."""


class NodeBackend:
    """The node as the control API sees it (`dragon.api.Backend`)."""

    def __init__(
        self,
        *,
        node_id: str,
        settings: Settings,
        engine: Engine,
        view: View,
        registry: Registry,
        serving: Serving,
        offering: Offering,
        forwards: Forwards,
        catalogue: Callable[[], Catalogue],
        doctor: Doctor,
        constellation: Constellation,
        reload: Callable[[], Awaitable[list[str]]],
        renew: Callable[[], Awaitable[None]],
        refresh: Callable[[], Awaitable[None]],
        clock: Clock,
    ) -> None:
        self._node_id = node_id
        self._settings = settings
        self._engine = engine
        self._kubo: Kubo = engine.kubo
        self._view = view
        self._registry = registry
        self._serving = serving
        self._offering = offering
        self._forwards = forwards
        self._catalogue = catalogue
        self._doctor = doctor
        self._constellation = constellation
        self._reload = reload
        self._renew = renew
        self._refresh = refresh
        self._clock = clock
        self._started = clock.monotonic()
        self._checker = Checker(
            node_id, forwards, self._kubo, catalogue, lambda: view.slugs(clock.monotonic()), settings.connect.test_timeout
        )
        self._peers: dict[str, Peer] = {}
        self._peers_at = float("-inf")
        self._listeners: list[Callable[[], None]] = []
        view.subscribe(lambda change: self._changed())
        serving.on_change(self._changed)
        forwards.on_change(self._changed)

    async def status(self) -> Document:
        at = self._clock.monotonic()
        nodes = self._view.nodes(at)
        try:
            identity = await self._kubo.identity()
            addresses, version, kubo_problem = list(identity.addresses), identity.version, ""
        except KuboError as error:
            addresses, version, kubo_problem = [], "", str(error)
        return {
            "id": self._node_id,
            "alias": self._settings.node.alias,
            "swarm": self._settings.node.swarm,
            "addresses": addresses,
            "peers": sum(node.state == "live" and not node.is_self for node in nodes),
            "offers": len(self._serving.offers()),
            "offering": self._offering.on,
            "kubo": {
                "api": str(self._engine.kubo.address),
                "version": version,
                "managed": self._engine.managed is not None,
                "problem": kubo_problem,
            },
            "dashboard": None,
            "version": __version__,
            "uptime": round(at - self._started, 1),
            "registry": self._registry.status(),
            "gate": self._gate(nodes),
        }

    def _gate(self, nodes: Sequence[NodeView]) -> Document:
        """Return who uses our services; callers by the names that the view knows."""
        info = asdict(self._serving.gate())
        aliases = {node.node_id: node.alias for node in nodes}
        return {**info, "callers": [{**each, "alias": aliases.get(each["id"], "")} for each in info["callers"]]}

    async def peers(self) -> list[Document]:
        measured = await self._measured()
        return [
            {
                "id": node.node_id,
                "alias": node.alias,
                "state": node.state,
                "trust": node.trust,
                "last_seen": round(node.last_seen, 3),
                "sequence": node.sequence,
                "source": node.source,
                "rtt_ms": _rtt_ms(measured.get(node.node_id)),
                "self": node.is_self,
                "relayed": (peer := measured.get(node.node_id)) is not None and peer.relayed,
                "reason": node.reason,
                "equivocated": node.equivocated,
                "version": node.manifest.version,
                "station": dict(node.manifest.station),
                "offers": [_offer(offer) for offer in node.manifest.offers],
            }
            for node in sorted(self._view.nodes(self._clock.monotonic()), key=_self_first)
        ]

    async def refresh(self) -> None:
        await self._refresh()

    async def services(self, slug: str | None) -> list[Document]:
        at = self._clock.monotonic()
        offered = set(self._view.slugs(at))
        wanted = sorted(offered) if slug is None else slugs_of(slug, self._catalogue(), offered)
        measured = await self._measured()
        return [
            {
                "slug": name,
                "providers": [
                    _provider(number, provider, measured.get(provider.node_id)) for number, provider in self._numbered(name, at)
                ],
            }
            for name in wanted
            if slug is None or name in offered or len(wanted) == 1
        ]

    def _numbered(self, slug: str, at: float) -> list[tuple[int, Provider]]:
        """Return the providers of `slug` with the numbers that `forward SLUG N` takes: it counts its aliases too."""
        numbers = {node_id: number for number, node_id in reversed(self._forwards.numbered(slug))}
        return [(numbers[provider.node_id], provider) for provider in numbered(self._view.providers(slug, at=at))]

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
        strategy: str | None,
        pool: int | Literal["auto"] | None = None,
    ) -> Document:
        request = ForwardRequest(
            slug=slug, target=target, where=where, via=via, spread=spread, port=port, raw=raw, strategy=strategy, pool=pool
        )
        return asdict(await self._forwards.forward(request))

    async def forwards(self) -> list[Document]:
        return [_flat(asdict(forward)) for forward in self._forwards.list()]

    async def providers(self, slug: str) -> list[Document]:
        return [_flat(asdict(line)) for line in self._forwards.providers(slug)]

    async def off(self, slug: str | None, port: int | None) -> int:
        return await self._forwards.off(slug, port)

    async def check(self, slug: str, *, port: int | None, via: str | None) -> Document:
        return asdict(await self._checker.check(slug, port=port, via=via))

    async def explain(self, slug: str) -> Document:
        return self._forwards.explain(slug).document()

    async def env(self, slug: str) -> Document:
        """An open forward of `slug` says where it is; without one, the local service or a new forward does."""
        opened = await self._forwards.forward(ForwardRequest(slug=slug))
        entry = self._catalogue().get(slug) if slug in self._catalogue() else None
        variables = entry.environment(opened.url, opened.host, opened.port) if entry is not None else {}
        if not variables:
            name = opened.slug.upper().replace("-", "_")
            variables = {f"{name}_URL": opened.url, f"{name}_PORT": str(opened.port)}
        return {"slug": opened.slug, "variables": variables}

    async def constellation(self) -> Document:
        return await self._constellation.document()

    async def doctor(self) -> list[Document]:
        return [document(finding) for finding in await self._doctor.examine()]

    async def repair(self, names: Sequence[str]) -> list[Document]:
        return [document(finding) for finding in await self._doctor.repair(names)]

    async def offering(self, on: bool) -> Document:
        if on:  # a station's programs write what is private, and then ask to start
            await self._renew()
        await self._offering.turn(on)
        return {"offering": self._offering.on, "offers": len(self._serving.offers())}

    async def reload(self) -> Document:
        keys = await self._reload()
        applied = [key for key in keys if key.startswith("catalogue.")]
        return {"changed": applied, "restart": [key for key in keys if key not in applied]}

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback)

    def _changed(self) -> None:
        for listener in tuple(self._listeners):
            listener()

    async def _measured(self) -> Mapping[str, Peer]:
        """Return the direct connections with their latencies; what was known before when Kubo does not answer."""
        at = self._clock.monotonic()
        if at - self._peers_at > PEER_FACTS_AGE:
            self._peers_at = at
            try:
                self._peers = {peer.node_id: peer for peer in await asyncio.wait_for(self._kubo.peers(), 1.0)}
            except (KuboError, TimeoutError):
                self._peers = {}
        return self._peers


def _flat(document: Document) -> Document:
    """Return `document` with its figures among its own fields."""
    return {**{key: value for key, value in document.items() if key != "figures"}, **document["figures"]}


def _offer(offer: Offer) -> dict[str, Any]:
    return {
        "slug": offer.slug,
        "protocol": offer.protocol,
        "port": offer.port,
        "scheme": offer.scheme,
        "labels": offer.labels,
        "health": offer.health,
        "load": offer.load / 1000,
    }


def _provider(number: int, provider: Provider, peer: Peer | None) -> dict[str, Any]:
    return {
        "n": number,
        "id": provider.node_id,
        "alias": provider.alias,
        "state": provider.state,
        "trust": provider.trust,
        "health": provider.offer.health,
        "load": provider.offer.load / 1000,
        "rtt_ms": _rtt_ms(peer),
        "labels": provider.offer.labels,
        "self": provider.is_self,
    }


def _rtt_ms(peer: Peer | None) -> float | None:
    return None if peer is None or peer.latency is None else round(peer.latency * 1000, 3)


def _self_first(node: NodeView) -> tuple[bool, str, str]:
    return (not node.is_self, node.alias.casefold(), node.node_id)

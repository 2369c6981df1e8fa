"""What `dragon serve` would publish on this machine now, shown before anything is said (`--dry-run`, THREATS 24)."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dragon import __version__
from dragon.astroport.facts import read_facts
from dragon.astroport.fields import manifest_fields
from dragon.astroport.identity import on_station, station_of
from dragon.capacity import capacity, machine_load
from dragon.clock import SystemClock
from dragon.config import Settings
from dragon.connect import offer_of
from dragon.errors import KuboError
from dragon.home import Home
from dragon.kubo.client import KuboClient
from dragon.kubo.engine import existing_api, is_managed
from dragon.probe import Prober, catalogue_of
from dragon.registry.publisher import Description, compose
from registry_schema import ed25519_node_id


def placeholder() -> str:
    """Return what stands for the node id while there is none: an identity is made by Kubo at the first start."""
    seed = hashlib.sha256(b"dragon: no identity yet").digest()
    return ed25519_node_id(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())


async def preview(settings: Settings, home: Home) -> dict[str, Any]:
    """Return the fields of the manifest that `serve` would publish now; nothing is started, opened or sent.

    Its sequence is this moment and its digest empty: both are a publication's own. Bytes are shown as hex.
    """
    clock = SystemClock()
    settings = await asyncio.to_thread(on_station, settings, os.environ)
    catalogue = catalogue_of(settings.catalogue)
    node_id = await _node_id(settings, home)
    prober = Prober(catalogue, clock=clock, excluded_ports=frozenset, own_pids=lambda: frozenset({os.getpid()}))
    survey = await prober.survey()
    offers = (offer_of(catalogue.get(finding.slug), finding, node_id) for finding in survey.found)
    description = Description(
        alias=settings.node.alias,
        version=__version__,
        offers=tuple(sorted(offers, key=lambda offer: offer.slug)),
        labels=settings.node.labels,
        capacity=capacity(),
        load=machine_load(),
        station=await asyncio.to_thread(_station_fields, settings, node_id),
    )
    ttl = round(settings.registry.lease)
    return compose(description, node_id, settings.node.swarm, clock.now_ms(), ttl, ()).fields()


def _station_fields(settings: Settings, node_id: str) -> dict[str, str | int]:
    zen = station_of(settings, os.environ)
    if zen is None:
        return {}
    return manifest_fields(read_facts(zen, os.environ, node_id), captain=settings.astroport.captain)


async def _node_id(settings: Settings, home: Home) -> str:
    if not is_managed(settings):
        try:
            async with KuboClient(existing_api(settings), settings.kubo.auth) as client:
                return (await client.identity()).node_id
        except KuboError:
            return placeholder()
    try:
        config = json.loads(await asyncio.to_thread((home.kubo_repo / "config").read_bytes))
        return str(config["Identity"]["PeerID"])
    except (OSError, ValueError, KeyError, TypeError):
        return placeholder()

"""The engine: one Kubo daemon as an async client, its tunnels, the daemon we manage, and where its binary comes from.

Nothing enters here that knows services, manifests or swarms: this room speaks of protocols, ports, topics and node ids.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dragon.kubo.types import (
    LOOPBACK,
    MAX_MESSAGE,
    Identity,
    Kubo,
    P2PEntry,
    P2PStream,
    Peer,
    PubsubMessage,
    loopback_target,
    peer_of,
    tcp_port,
)

if TYPE_CHECKING:
    from dragon.kubo.checks import Finding, examine
    from dragon.kubo.client import KuboClient
    from dragon.kubo.daemon import ManagedDaemon
    from dragon.kubo.engine import Engine, open_kubo
    from dragon.kubo.plan import Listener
    from dragon.kubo.tunnels import Leg, Tunnels

_LAZY = {
    # the CLI and the pure rooms import this package for its types; aiohttp alone costs them 0.2 s and 20 MB
    "Engine": "dragon.kubo.engine",
    "Finding": "dragon.kubo.checks",
    "KuboClient": "dragon.kubo.client",
    "Leg": "dragon.kubo.tunnels",
    "Listener": "dragon.kubo.plan",
    "ManagedDaemon": "dragon.kubo.daemon",
    "Tunnels": "dragon.kubo.tunnels",
    "examine": "dragon.kubo.checks",
    "open_kubo": "dragon.kubo.engine",
}

__all__ = [
    "LOOPBACK",
    "MAX_MESSAGE",
    "Engine",
    "Finding",
    "Identity",
    "Kubo",
    "KuboClient",
    "Leg",
    "Listener",
    "ManagedDaemon",
    "P2PEntry",
    "P2PStream",
    "Peer",
    "PubsubMessage",
    "Tunnels",
    "examine",
    "loopback_target",
    "open_kubo",
    "peer_of",
    "tcp_port",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)

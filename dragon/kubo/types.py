"""What the engine says, as values, and the protocol that every room sees.

`KuboClient` talks to a real daemon; `fake.FakeKubo` is the same in memory. Rooms import `Kubo`, never one of the two.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

LOOPBACK = "127.0.0.1"
"""Where every listener points to and every leg listens: nothing of a tunnel is ever bound elsewhere (THREATS 12)."""

MAX_MESSAGE = (1 << 20) - 4096
"""Bytes of one pubsub message: Kubo's limit of 1 MiB counts what it wraps around the data."""

_TCP = re.compile(r"/ip[46]/[0-9a-f.:]+/tcp/(\d{1,5})")
_PEER = re.compile(r"/(?:p2p|ipfs)/([1-9A-HJ-NP-Za-km-z]+)")


def loopback_target(port: int) -> str:
    """Return the multiaddr of a port of this machine; the only form of target that this room can express."""
    if not 0 <= port <= 65535:
        raise ValueError(f"not a port: {port}")
    return f"/ip4/{LOOPBACK}/tcp/{port}"


def tcp_port(multiaddr: str) -> int | None:
    """Return the port of a `/ip4/…/tcp/…` or `/ip6/…/tcp/…` multiaddr, None for any other."""
    match = _TCP.fullmatch(multiaddr)
    return int(match[1]) if match else None


def peer_of(multiaddr: str) -> str | None:
    """Return the node id at the end of a multiaddr, None where there is none."""
    found = _PEER.findall(multiaddr)
    return str(found[-1]) if found else None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who the daemon is. `public_key` is the libp2p protobuf `PublicKey`; `addresses` end in `/p2p/<node_id>`."""

    node_id: str
    public_key: bytes
    version: str
    addresses: tuple[str, ...]
    protocols: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PubsubMessage:
    """One message of a topic. `sender` is the node that signed it, verified by Kubo."""

    sender: str
    data: bytes
    seqno: bytes
    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class P2PEntry:
    """One line of `ipfs p2p ls`: a listener (remote nodes → a port here) or a forward (a port here → a remote node)."""

    protocol: str
    listen: str
    target: str

    @property
    def is_listener(self) -> bool:
        return self.listen.startswith(("/p2p/", "/ipfs/")) and not self.target.startswith(("/p2p/", "/ipfs/"))

    @property
    def listener_port(self) -> int | None:
        """The local port a listener leads to; None for a forward."""
        return tcp_port(self.target) if self.is_listener else None

    @property
    def leg_port(self) -> int | None:
        """The local port a forward listens on; None for a listener and for a forward on a unix socket."""
        return None if self.is_listener else tcp_port(self.listen)

    @property
    def remote(self) -> str | None:
        """The node id a forward leads to; None for a listener."""
        return None if self.is_listener else peer_of(self.target)


@dataclass(frozen=True, slots=True)
class P2PStream:
    """One running connection through a tunnel. `id` is Kubo's handle, valid until the daemon restarts."""

    id: str
    protocol: str
    origin: str
    target: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A direct connection. `latency` in seconds, None while Kubo has not measured it."""

    node_id: str
    address: str
    latency: float | None

    @property
    def relayed(self) -> bool:
        """Tunnel streams do not run over such a connection (circuit relay v2 is limited)."""
        return "/p2p-circuit" in self.address


class Kubo(Protocol):
    """One Kubo daemon.

    Every call raises `KuboUnreachable` when the daemon does not answer in time and `KuboRefused` with Kubo's own words when
    it answers with an error.
    """

    async def identity(self) -> Identity:
        """Return who the daemon is; asked anew each time, since addresses change."""
        ...

    async def sign(self, data: bytes) -> bytes:
        """Return the identity's signature over `LIBP2P_PREFIX + data` (64 bytes for Ed25519)."""
        ...

    async def publish(self, topic: str, data: bytes) -> None:
        """Publish at most `MAX_MESSAGE` bytes; returning is not delivery. One publication of a node at a time."""
        ...

    def subscribe(self, topic: str) -> AbstractAsyncContextManager[AsyncIterator[PubsubMessage]]:
        """Open a subscription; when entered, it stands. The iterator ends with `KuboUnreachable` within 1 s of its death."""
        ...

    async def peers(self) -> list[Peer]: ...

    async def topic_peers(self, topic: str) -> list[str]:
        """Return the ids of the nodes known to follow `topic`."""
        ...

    async def connect(self, multiaddr: str) -> None:
        """Dial a `…/p2p/<id>` address now."""
        ...

    async def peering_add(self, multiaddr: str) -> None:
        """Keep a connection to a `…/p2p/<id>` address until the daemon stops."""
        ...

    async def ping(self, node_id: str, timeout: float) -> float:
        """Return a round trip in seconds; `KuboRefused` or `KuboUnreachable` where there is none within `timeout` s."""
        ...

    async def p2p_listen(self, protocol: str, target: str, *, report_peer_id: bool = False) -> None:
        """Lead what dials `protocol` to the multiaddr `target`; `report_peer_id` puts the caller's id on a first line."""
        ...

    async def p2p_forward(self, protocol: str, listen: str, node_id: str) -> None:
        """Lead connections to the multiaddr `listen` to `protocol` of a node. Dials only with the first connection."""
        ...

    async def p2p_close(self, *, protocol: str | None = None, listen: str | None = None, target: str | None = None) -> int:
        """Close the listeners and forwards that match all that is given (at least one); return how many."""
        ...

    async def p2p_ls(self) -> list[P2PEntry]: ...

    async def p2p_streams(self) -> list[P2PStream]: ...

    async def p2p_stream_close(self, id: str) -> None: ...

    async def add_directory(self, files: Mapping[str, bytes | Path]) -> str:
        """Add one directory, pinned: relative path → bytes, or the file on disk that holds them; return its CID."""
        ...

    async def unpin(self, cid: str) -> None:
        """Let Kubo forget what `add_directory` added when it collects garbage; nothing where it is not pinned."""
        ...

    async def key_id(self, name: str) -> str:
        """Return the IPNS name of the daemon's key called `name`, which is made where there is none."""
        ...

    async def name_publish(self, cid: str, *, lifetime: str, ttl: str, key: str = "self") -> None:
        """Point the IPNS name of `key` (`self`: the node's own) at `/ipfs/<cid>`; durations as `48h`, `1m`."""
        ...

    async def name_resolve(self, name: str, *, nocache: bool = False) -> str:
        """Return the `/ipfs/<cid>` path that a node id's IPNS name points at."""
        ...

    async def cat(self, path: str, *, limit: int) -> bytes:
        """Return at most `limit` bytes of the file at an `/ipfs/…` or `/ipns/…` path."""
        ...

    async def ls(self, path: str, *, limit: int) -> list[str]:
        """Return at most `limit` names of the directory at an `/ipfs/…` or `/ipns/…` path, unchecked."""
        ...

    async def close(self) -> None:
        """End subscriptions and connections to the daemon; the daemon itself goes on."""
        ...

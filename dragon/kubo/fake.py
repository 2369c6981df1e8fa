"""The engine in memory, for pure tests of every room: pubsub, tunnels, IPNS and signatures without a daemon.

Tunnels are real loopback sockets with Kubo's own manners (no half-close, the peer-id line); signatures are real Ed25519.
`FakeKubo.stop` and `start` are a daemon that dies and comes back: tunnels are forgotten, subscriptions end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dragon.errors import KuboRefused, KuboUnreachable
from dragon.kubo.fake_tunnels import FakeTunnels, Tunnel
from dragon.kubo.types import (
    LOOPBACK,
    MAX_MESSAGE,
    Identity,
    P2PEntry,
    P2PStream,
    Peer,
    PubsubMessage,
    peer_of,
)
from registry_schema.ids import LIBP2P_PREFIX, base58_encode, ed25519_node_id


class FakeNetwork:
    """The wire between fakes. Nodes are linked with all others as they appear, unless `mesh` is False.

    `lose` decides per delivery (sender, receiver, topic) whether a message is lost; nothing is by default.
    """

    def __init__(self, *, mesh: bool = True) -> None:
        self.mesh = mesh
        self.nodes: dict[str, FakeKubo] = {}
        self.lose: Callable[[str, str, str], bool] = lambda sender, receiver, topic: False
        self._links: set[frozenset[str]] = set()

    def add(self, node: FakeKubo) -> None:
        if self.mesh:
            for other in self.nodes:
                self.link(node.node_id, other)
        self.nodes[node.node_id] = node

    def link(self, one: str, other: str) -> None:
        self._links.add(frozenset((one, other)))

    def cut(self, one: str, other: str) -> None:
        self._links.discard(frozenset((one, other)))

    def neighbours(self, node_id: str) -> list[str]:
        """Return the running nodes that `node_id` has a direct connection with, in order of appearance."""
        return [other for other, node in self.nodes.items() if node.running and frozenset((node_id, other)) in self._links]

    def reached_by(self, node_id: str) -> list[FakeKubo]:
        """Return all nodes that gossip from `node_id` gets to, itself included."""
        seen, edge = {node_id}, [node_id]
        while edge:
            edge = [other for node in edge for other in self.neighbours(node) if other not in seen]
            seen.update(edge)
        return [self.nodes[other] for other in self.nodes if other in seen]


@dataclass(slots=True, eq=False)
class _Subscription:
    topic: str
    queue: asyncio.Queue[PubsubMessage | None] = field(default_factory=asyncio.Queue)


class FakeKubo:
    """One daemon of a `FakeNetwork`; see `dragon.kubo.types.Kubo` for the calls. `seed` makes its identity repeatable."""

    def __init__(self, network: FakeNetwork, seed: int | None = None) -> None:
        secret = hashlib.sha256(b"fake-kubo-%d" % seed).digest() if seed is not None else None
        self._key = Ed25519PrivateKey.from_private_bytes(secret) if secret else Ed25519PrivateKey.generate()
        self._public = self._key.public_key().public_bytes_raw()
        self.node_id = ed25519_node_id(self._public)
        self.network = network
        self.running = True
        self.calls: list[str] = []
        self.signed = 0
        self.peered: list[str] = []
        self.names: dict[str, str] = {}
        self.directories: dict[str, dict[str, bytes]] = {}
        self._tunnels = FakeTunnels(self.node_id, self._dial)
        self._subscriptions: set[_Subscription] = set()
        self._sequence = 0
        network.add(self)

    # -- life ---------------------------------------------------------------------------------------------------------

    async def stop(self) -> None:
        """Die as a daemon does: calls fail, tunnels and streams are gone, subscriptions end."""
        self.running = False
        for subscription in self._subscriptions:
            subscription.queue.put_nowait(None)
        await self.forget_tunnels()

    def start(self) -> None:
        """Come back with the same identity and nothing else."""
        self.running = True

    async def forget_tunnels(self) -> None:
        """What `ipfs p2p close --all` by somebody else does, and the end of all streams."""
        await self._tunnels.forget()

    async def close(self) -> None:
        for subscription in self._subscriptions:
            subscription.queue.put_nowait(None)
        await self.forget_tunnels()

    def _called(self, name: str) -> None:
        if not self.running:
            raise KuboUnreachable("Kubo does not answer", "start the daemon")
        self.calls.append(name)

    # -- identity -----------------------------------------------------------------------------------------------------

    async def identity(self) -> Identity:
        self._called("identity")
        key = bytes.fromhex("08011220") + self._public
        return Identity(self.node_id, key, "0.43.0", (f"/ip4/{LOOPBACK}/tcp/4001/p2p/{self.node_id}",), ("/x/",))

    async def sign(self, data: bytes) -> bytes:
        self._called("sign")
        self.signed += 1
        return self._key.sign(LIBP2P_PREFIX + data)

    # -- pubsub -------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, data: bytes) -> None:
        self._called("publish")
        if len(data) > MAX_MESSAGE:
            raise KuboRefused(f"message of {len(data)} bytes is too large", f"at most {MAX_MESSAGE} bytes")
        self._sequence += 1
        message = PubsubMessage(self.node_id, bytes(data), self._sequence.to_bytes(8, "big"), (topic,))
        for node in self.network.reached_by(self.node_id):
            if node.running and not self.network.lose(self.node_id, node.node_id, topic):
                for subscription in node._subscriptions:
                    if subscription.topic == topic:
                        subscription.queue.put_nowait(message)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[PubsubMessage]]:
        self._called("subscribe")
        subscription = _Subscription(topic)
        self._subscriptions.add(subscription)

        async def messages() -> AsyncIterator[PubsubMessage]:
            while (message := await subscription.queue.get()) is not None:
                yield message
            raise KuboUnreachable("the subscription ended", "start the daemon")

        stream = messages()
        try:
            yield stream
        finally:
            self._subscriptions.discard(subscription)

    async def topic_peers(self, topic: str) -> list[str]:
        self._called("topic_peers")
        nodes = (self.network.nodes[peer] for peer in self.network.neighbours(self.node_id))
        return [node.node_id for node in nodes if any(each.topic == topic for each in node._subscriptions)]

    # -- swarm --------------------------------------------------------------------------------------------------------

    async def peers(self) -> list[Peer]:
        self._called("peers")
        return [Peer(other, f"/ip4/{LOOPBACK}/tcp/4001", 0.001) for other in self.network.neighbours(self.node_id)]

    async def connect(self, multiaddr: str) -> None:
        self._called("connect")
        other = peer_of(multiaddr)
        if other is None or other not in self.network.nodes or not self.network.nodes[other].running:
            raise KuboRefused(f"connect {other} failure: failed to dial")
        self.network.link(self.node_id, other)

    async def peering_add(self, multiaddr: str) -> None:
        self._called("peering_add")
        self.peered.append(multiaddr)
        with suppress(KuboRefused):
            await self.connect(multiaddr)

    async def ping(self, node_id: str, timeout: float) -> float:
        self._called("ping")
        if node_id not in self.network.neighbours(self.node_id):
            raise KuboRefused(f"ping failed: no route to {node_id}")
        return 0.001

    # -- tunnels ------------------------------------------------------------------------------------------------------

    async def p2p_listen(self, protocol: str, target: str, *, report_peer_id: bool = False) -> None:
        self._called("p2p_listen")
        self._tunnels.listen(protocol, target, report_peer_id=report_peer_id)

    async def p2p_forward(self, protocol: str, listen: str, node_id: str) -> None:
        self._called("p2p_forward")
        await self._tunnels.forward(protocol, listen, node_id)

    async def p2p_close(self, *, protocol: str | None = None, listen: str | None = None, target: str | None = None) -> int:
        self._called("p2p_close")
        return await self._tunnels.close(protocol=protocol, listen=listen, target=target)

    async def p2p_ls(self) -> list[P2PEntry]:
        self._called("p2p_ls")
        return self._tunnels.ls()

    async def p2p_streams(self) -> list[P2PStream]:
        self._called("p2p_streams")
        return self._tunnels.streams()

    async def p2p_stream_close(self, id: str) -> None:
        self._called("p2p_stream_close")
        await self._tunnels.stream_close(id)

    def _dial(self, node_id: str, protocol: str) -> Tunnel | None:
        remote = self.network.nodes.get(node_id)
        return remote._tunnels.listener(protocol) if remote and node_id in self.network.neighbours(self.node_id) else None

    # -- files and names ----------------------------------------------------------------------------------------------

    async def add_directory(self, files: Mapping[str, bytes | Path]) -> str:
        self._called("add_directory")
        held = {
            name: content if isinstance(content, bytes) else await asyncio.to_thread(content.read_bytes)
            for name, content in files.items()
        }
        digest = hashlib.sha256(repr(sorted(held.items())).encode()).digest()
        cid = base58_encode(b"\x12\x20" + digest)
        self.directories[cid] = held
        return cid

    async def unpin(self, cid: str) -> None:
        self._called("unpin")
        self.directories.pop(cid, None)

    async def key_id(self, name: str) -> str:
        self._called("key_id")
        return self.node_id if name == "self" else f"k51-{name}"

    async def name_publish(self, cid: str, *, lifetime: str, ttl: str, key: str = "self") -> None:
        self._called("name_publish")
        self.names[await self.key_id(key)] = f"/ipfs/{cid}"

    async def name_resolve(self, name: str, *, nocache: bool = False) -> str:
        self._called("name_resolve")
        node_id = name.removeprefix("/ipns/")
        for node in self.network.reached_by(self.node_id):
            if node_id in node.names:
                return node.names[node_id]
        raise KuboRefused("could not resolve name")

    async def ls(self, path: str, *, limit: int) -> list[str]:
        self._called("ls")
        if path.startswith("/ipns/"):
            path = await self.name_resolve(path)
        cid, _, folder = path.removeprefix("/ipfs/").partition("/")
        for node in self.network.reached_by(self.node_id):
            if cid in node.directories:
                inside = [file.removeprefix(f"{folder}/") for file in node.directories[cid] if file.startswith(f"{folder}/")]
                names = {file.partition("/")[0] for file in (inside if folder else node.directories[cid])}
                return sorted(names)[:limit]
        raise KuboUnreachable("Kubo did not answer in time", "nobody who is reachable holds the directory")

    async def cat(self, path: str, *, limit: int) -> bytes:
        self._called("cat")
        if path.startswith("/ipns/"):
            name, _, rest = path.removeprefix("/ipns/").partition("/")
            path = f"{await self.name_resolve(name)}/{rest}"
        cid, _, file = path.removeprefix("/ipfs/").partition("/")
        for node in self.network.reached_by(self.node_id):
            if cid in node.directories:
                if file not in node.directories[cid]:
                    raise KuboRefused(f'no link named "{file}" under {cid}')
                return node.directories[cid][file][:limit]
        raise KuboUnreachable("Kubo did not answer in time", "nobody who is reachable holds the file")

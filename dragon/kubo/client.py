"""The client of a real daemon: what is frequent goes through aiohttp, the rest through `administration`."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from dragon.clock import Clock, SystemClock
from dragon.errors import KuboRefused
from dragon.kubo import multibase
from dragon.kubo.address import authorization, parse_address
from dragon.kubo.diagnosis import refused, unreachable
from dragon.kubo.duration import parse_duration
from dragon.kubo.line import Line, request
from dragon.kubo.pulse import LIMIT as PULSE_LIMIT
from dragon.kubo.pulse import Pulse
from dragon.kubo.stream import MessageDecoder
from dragon.kubo.types import MAX_MESSAGE, Identity, P2PEntry, P2PStream, Peer, PubsubMessage
from dragon.kubo.wire import Wire, reason_of

if TYPE_CHECKING:
    from dragon.kubo.administration import Administration

DIAL_LIMIT = 20.0
"""Seconds for a call that dials a peer; libp2p gives up after 15."""

SLOW_LIMIT = 120.0
"""Seconds for what may walk the public DHT: resolving names, fetching files. Whoever waits less gives up earlier."""

PUBLISH_SPACING = 0.010
"""Seconds between two publications. Kubo drops a message whose sequence number is not above the last one of its peer, over
all topics; closer together they overtake one another: 8 bare writers lose half, one writer with this spacing loses none."""


class KuboClient:
    """One daemon at `api` (multiaddr or URL); `auth` is a secret as in `API.Authorizations`. See `Kubo` for the calls."""

    def __init__(self, api: str, auth: str | None = None, *, clock: Clock | None = None) -> None:
        self.address = parse_address(api)
        self._auth = authorization(auth)
        self._wire = Wire(self.address, self._auth)
        self._clock: Clock = clock or SystemClock()
        self._pulse = Pulse(self._ask_pulse, self._clock)
        self._pulse_request = request(self.address, "pubsub/ls", self._auth)
        self._line: Line | None = None
        self._administration: Administration | None = None
        self._administration_lock = asyncio.Lock()
        self._slow: set[asyncio.Timeout] = set()
        self._publishing = asyncio.Lock()
        self._naming = asyncio.Lock()
        self._published_at = float("-inf")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End subscriptions (their iterators raise `KuboUnreachable`) and all connections; the daemon goes on."""
        self._wire.closed = True
        await self._pulse.close()
        if self._line:
            self._line.close()
        await self._wire.close()
        administration, self._administration = self._administration, None
        if administration:
            await administration.close()

    # -- identity -----------------------------------------------------------------------------------------------------

    async def identity(self) -> Identity:
        answer = await self._wire.json("id")
        version = re.match(r"(?:kubo|go-ipfs)/([^/]+)", answer.get("AgentVersion", ""))
        return Identity(
            node_id=answer["ID"],
            public_key=base64.b64decode(answer["PublicKey"]),
            version=version[1] if version else answer.get("AgentVersion", "unknown"),
            addresses=tuple(answer.get("Addresses") or ()),
            protocols=tuple(answer.get("Protocols") or ()),
        )

    async def sign(self, data: bytes) -> bytes:
        return await (await self.administration()).sign(data)

    # -- pubsub -------------------------------------------------------------------------------------------------------

    async def publish(self, topic: str, data: bytes) -> None:
        if len(data) > MAX_MESSAGE:
            raise KuboRefused(f"message of {len(data)} bytes is too large", f"at most {MAX_MESSAGE} bytes")
        async with self._publishing:
            await self._spaced()
            try:
                await self._wire.call("pubsub/pub", [multibase.encode(topic.encode())], body=data)
            finally:
                self._published_at = self._clock.monotonic()

    async def _spaced(self) -> None:
        wait = self._published_at + PUBLISH_SPACING - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(wait)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[PubsubMessage]]:
        async with self._wire.endless("pubsub/sub", [multibase.encode(topic.encode())], {}) as response:
            with self._pulse.watching(topic, response.content.set_exception):
                async with aclosing(self._messages(response.content)) as messages:
                    yield messages

    async def _messages(self, content: aiohttp.StreamReader) -> AsyncGenerator[PubsubMessage, None]:
        decoder = MessageDecoder()
        while True:
            try:
                piece = await content.readany()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._wire.unreachable(error) from error
            if not piece:
                raise unreachable(self.address, "the subscription ended")
            for message in decoder.feed(piece):
                yield message

    async def _ask_pulse(self) -> frozenset[str]:
        """Return the topics that the daemon follows, asked over the pulse's own connection."""
        try:
            async with asyncio.timeout(PULSE_LIMIT):
                if self._line is None or not self._line.is_open:
                    self._line = await Line.connect(self.address, self._stopping)
                status, body = await self._line.ask(self._pulse_request)
        except (OSError, TimeoutError) as error:
            if self._line:
                self._line.close()
            raise self._wire.unreachable(error) from error
        if status != 200:
            raise refused(reason_of(body), status)
        return frozenset(multibase.decode(topic).decode() for topic in self._wire.parsed(body)["Strings"] or ())

    async def topic_peers(self, topic: str) -> list[str]:
        answer = await self._wire.json("pubsub/peers", [multibase.encode(topic.encode())])
        return list(answer["Strings"] or ())

    # -- swarm --------------------------------------------------------------------------------------------------------

    async def peers(self) -> list[Peer]:
        answer = await self._wire.json("swarm/peers", options={"latency": "true"})
        return [Peer(peer["Peer"], peer["Addr"], parse_duration(peer.get("Latency", ""))) for peer in answer.get("Peers") or ()]

    async def connect(self, multiaddr: str) -> None:
        await self._wire.call("swarm/connect", [multiaddr], limit=DIAL_LIMIT)

    async def peering_add(self, multiaddr: str) -> None:
        await self._wire.call("swarm/peering/add", [multiaddr])

    async def ping(self, node_id: str, timeout: float) -> float:
        # Kubo ends its answer a second after the pong, whatever the count: read no further than the pong.
        said = f"no answer from {node_id}"
        async with self._wire.streaming("ping", [node_id], {"count": "1"}, limit=timeout) as content:
            async for text in content:
                line = self._wire.parsed(text)
                if line.get("Success") and line.get("Time"):
                    return float(line["Time"]) / 1e9
                said = line.get("Text") or said
                if not line.get("Success"):
                    break
        raise refused(said)

    # -- tunnels ------------------------------------------------------------------------------------------------------

    async def p2p_listen(self, protocol: str, target: str, *, report_peer_id: bool = False) -> None:
        await self._wire.call("p2p/listen", [protocol, target], {"report-peer-id": "true"} if report_peer_id else {})

    async def p2p_forward(self, protocol: str, listen: str, node_id: str) -> None:
        await self._wire.call("p2p/forward", [protocol, listen, f"/p2p/{node_id}"])

    async def p2p_close(self, *, protocol: str | None = None, listen: str | None = None, target: str | None = None) -> int:
        given = {"protocol": protocol, "listen-address": listen, "target-address": target}
        options = {name: value for name, value in given.items() if value is not None}
        if not options:
            raise ValueError("name what is to be closed")  # Kubo would close what is not ours, too
        return int(await self._wire.call("p2p/close", options=options))

    async def p2p_ls(self) -> list[P2PEntry]:
        answer = await self._wire.json("p2p/ls")
        return [P2PEntry(each["Protocol"], each["ListenAddress"], each["TargetAddress"]) for each in answer["Listeners"] or ()]

    async def p2p_streams(self) -> list[P2PStream]:
        answer = await self._wire.json("p2p/stream/ls")
        return [
            P2PStream(str(each["HandlerID"]), each["Protocol"], each["OriginAddress"], each["TargetAddress"])
            for each in answer["Streams"] or ()
        ]

    async def p2p_stream_close(self, id: str) -> None:
        await self._wire.call("p2p/stream/close", [id])

    # -- files and names ----------------------------------------------------------------------------------------------

    async def add_directory(self, files: Mapping[str, bytes | Path]) -> str:
        return await (await self.administration()).add_directory(files)

    async def unpin(self, cid: str) -> None:
        await (await self.administration()).unpin(cid)

    async def key_id(self, name: str) -> str:
        return await (await self.administration()).key_id(name)

    async def name_publish(self, cid: str, *, lifetime: str, ttl: str, key: str = "self") -> None:
        """As `Kubo.name_publish`. It starts in the order of publications, with their spacing, but does not hold them up
        (on the public DHT it takes minutes): a message published meanwhile may be lost and is to be sent again after it."""
        administration = await self.administration()
        async with self._naming:
            async with self._publishing:
                await self._spaced()
                self._published_at = self._clock.monotonic()
            await administration.name_publish(cid, lifetime=lifetime, ttl=ttl, key=key)

    async def name_resolve(self, name: str, *, nocache: bool = False) -> str:
        options = {"nocache": "true"} if nocache else {}
        async with self._ends_with_the_daemon():
            return str((await self._wire.json("name/resolve", [name], options=options, limit=SLOW_LIMIT))["Path"])

    async def cat(self, path: str, *, limit: int) -> bytes:
        held = bytearray()
        async with (
            self._ends_with_the_daemon(),
            self._wire.streaming("cat", [path], {"length": str(limit)}, limit=SLOW_LIMIT) as content,
        ):
            while len(held) < limit and (piece := await content.read(limit - len(held))):
                held += piece
        return bytes(held)

    async def ls(self, path: str, *, limit: int) -> list[str]:
        # Without types and sizes: to know them Kubo would fetch a block of every file.
        options = {"stream": "true", "resolve-type": "false", "size": "false"}
        names: list[str] = []
        async with self._ends_with_the_daemon(), self._wire.streaming("ls", [path], options, limit=SLOW_LIMIT) as content:
            while len(names) < limit and (line := await content.readline()):
                links = [link for each in self._wire.parsed(line).get("Objects") or () for link in each.get("Links") or ()]
                names += [str(link["Name"]) for link in links]
        return names[:limit]

    @asynccontextmanager
    async def _ends_with_the_daemon(self) -> AsyncIterator[None]:
        """A call that may take minutes: given up the moment the daemon stops, which would wait 30 s for it."""
        async with asyncio.timeout(None) as limit:
            self._slow.add(limit)
            try:
                yield
            except asyncio.CancelledError:
                if limit.expired():
                    raise unreachable(self.address, "it was stopped") from None
                raise
            finally:
                self._slow.discard(limit)

    def _stopping(self) -> None:
        """The daemon has closed the pulse's connection: it stops, or was killed."""
        while self._slow:
            self._slow.pop().reschedule(asyncio.get_running_loop().time())
        self._pulse.lost()

    async def administration(self) -> Administration:
        """Return the part that speaks ipfshttpclient, loaded with its first use."""
        async with self._administration_lock:
            if self._administration is None:
                if self._wire.closed:
                    raise unreachable(self.address, "the client is closed")
                module = await asyncio.to_thread(__import__, "dragon.kubo.administration", fromlist=["Administration"])
                self._administration = module.Administration(self.address, self._auth)
            return self._administration

    async def ask(self, command: str) -> dict[str, Any]:
        """Return the JSON answer of a call without arguments that has no method here (`name/pubsub/state`)."""
        return await self._wire.json(command)

"""The client of a real daemon: what is frequent goes through aiohttp, the rest through `administration`."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import aiohttp

from dragon.clock import Clock, SystemClock
from dragon.errors import KuboRefused, KuboUnreachable
from dragon.kubo import multibase
from dragon.kubo.address import authorization, parse_address
from dragon.kubo.diagnosis import refused, unreachable
from dragon.kubo.duration import parse_duration
from dragon.kubo.line import Line, request
from dragon.kubo.pulse import LIMIT as PULSE_LIMIT
from dragon.kubo.pulse import Pulse
from dragon.kubo.stream import MessageDecoder
from dragon.kubo.types import MAX_MESSAGE, Identity, P2PEntry, P2PStream, Peer, PubsubMessage

if TYPE_CHECKING:
    from dragon.kubo.administration import Administration

log = logging.getLogger(__name__)

LIMIT = 5.0
"""Seconds for a call that needs only the daemon."""

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
        self._clock: Clock = clock or SystemClock()
        self._boundary = secrets.token_hex(16)
        self._session: aiohttp.ClientSession | None = None
        self._pulse = Pulse(self._ask_pulse, self._clock)
        self._pulse_request = request(self.address, "pubsub/ls", self._auth)
        self._line: Line | None = None
        self._administration: Administration | None = None
        self._administration_lock = asyncio.Lock()
        self._slow: set[asyncio.Timeout] = set()
        self._publishing = asyncio.Lock()
        self._naming = asyncio.Lock()
        self._published_at = float("-inf")
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End subscriptions (their iterators raise `KuboUnreachable`) and all connections; the daemon goes on."""
        self._closed = True
        await self._pulse.close()
        if self._line:
            self._line.close()
        if self._session:
            await self._session.close()
        administration, self._administration = self._administration, None
        if administration:
            await administration.close()

    # -- identity -----------------------------------------------------------------------------------------------------

    async def identity(self) -> Identity:
        answer = await self._json("id")
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
                await self._call("pubsub/pub", [multibase.encode(topic.encode())], body=data)
            finally:
                self._published_at = self._clock.monotonic()

    async def _spaced(self) -> None:
        wait = self._published_at + PUBLISH_SPACING - self._clock.monotonic()
        if wait > 0:
            await self._clock.sleep(wait)

    @asynccontextmanager
    async def subscribe(self, topic: str) -> AsyncIterator[AsyncIterator[PubsubMessage]]:
        url, arguments = self._request("pubsub/sub", [multibase.encode(topic.encode())], {})
        forever = aiohttp.ClientTimeout(total=None, sock_connect=LIMIT)
        try:
            async with asyncio.timeout(LIMIT):  # Kubo sends the headers at once; the messages come when they come
                response = await self._open_session().post(url, params=arguments, timeout=forever)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            if response.status != 200:
                raise refused(_message(await response.read()), response.status)
            with self._pulse.watching(topic, response.content.set_exception):
                async with aclosing(self._messages(response)) as messages:
                    yield messages
        finally:
            response.close()

    async def _messages(self, response: aiohttp.ClientResponse) -> AsyncGenerator[PubsubMessage, None]:
        decoder = MessageDecoder()
        while True:
            try:
                piece = await response.content.readany()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise self._unreachable(error) from error
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
            raise self._unreachable(error) from error
        if status != 200:
            raise refused(_message(body), status)
        return frozenset(multibase.decode(topic).decode() for topic in _parsed(body, self.address)["Strings"] or ())

    async def topic_peers(self, topic: str) -> list[str]:
        answer = await self._json("pubsub/peers", [multibase.encode(topic.encode())])
        return list(answer["Strings"] or ())

    # -- swarm --------------------------------------------------------------------------------------------------------

    async def peers(self) -> list[Peer]:
        answer = await self._json("swarm/peers", options={"latency": "true"})
        return [Peer(peer["Peer"], peer["Addr"], parse_duration(peer.get("Latency", ""))) for peer in answer.get("Peers") or ()]

    async def connect(self, multiaddr: str) -> None:
        await self._call("swarm/connect", [multiaddr], limit=DIAL_LIMIT)

    async def peering_add(self, multiaddr: str) -> None:
        await self._call("swarm/peering/add", [multiaddr])

    async def ping(self, node_id: str, timeout: float) -> float:
        # Kubo ends its answer a second after the pong, whatever the count: read no further than the pong.
        url, parameters = self._request("ping", [node_id], {"count": "1"})
        said = f"no answer from {node_id}"
        try:
            limit = aiohttp.ClientTimeout(total=timeout)
            async with self._open_session().post(url, params=parameters, timeout=limit) as response:
                if response.status != 200:
                    raise refused(_message(await response.read()), response.status)
                async for text in response.content:
                    line = json.loads(text)
                    if line.get("Success") and line.get("Time"):
                        return float(line["Time"]) / 1e9
                    said = line.get("Text") or said
                    if not line.get("Success"):
                        break
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        raise refused(said)

    # -- tunnels ------------------------------------------------------------------------------------------------------

    async def p2p_listen(self, protocol: str, target: str, *, report_peer_id: bool = False) -> None:
        await self._call("p2p/listen", [protocol, target], {"report-peer-id": "true"} if report_peer_id else {})

    async def p2p_forward(self, protocol: str, listen: str, node_id: str) -> None:
        await self._call("p2p/forward", [protocol, listen, f"/p2p/{node_id}"])

    async def p2p_close(self, *, protocol: str | None = None, listen: str | None = None, target: str | None = None) -> int:
        given = {"protocol": protocol, "listen-address": listen, "target-address": target}
        options = {name: value for name, value in given.items() if value is not None}
        if not options:
            raise ValueError("name what is to be closed")  # Kubo would close what is not ours, too
        return int(await self._call("p2p/close", options=options))

    async def p2p_ls(self) -> list[P2PEntry]:
        answer = await self._json("p2p/ls")
        return [P2PEntry(each["Protocol"], each["ListenAddress"], each["TargetAddress"]) for each in answer["Listeners"] or ()]

    async def p2p_streams(self) -> list[P2PStream]:
        answer = await self._json("p2p/stream/ls")
        return [
            P2PStream(str(each["HandlerID"]), each["Protocol"], each["OriginAddress"], each["TargetAddress"])
            for each in answer["Streams"] or ()
        ]

    async def p2p_stream_close(self, id: str) -> None:
        await self._call("p2p/stream/close", [id])

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
            return str((await self._json("name/resolve", [name], options=options, limit=SLOW_LIMIT))["Path"])

    async def cat(self, path: str, *, limit: int) -> bytes:
        held = bytearray()
        async with self._ends_with_the_daemon(), self._streaming("cat", [path], {"length": str(limit)}) as content:
            while len(held) < limit and (piece := await content.read(limit - len(held))):
                held += piece
        return bytes(held)

    async def ls(self, path: str, *, limit: int) -> list[str]:
        # Without types and sizes: to know them Kubo would fetch a block of every file.
        options = {"stream": "true", "resolve-type": "false", "size": "false"}
        names: list[str] = []
        async with self._ends_with_the_daemon(), self._streaming("ls", [path], options) as content:
            while len(names) < limit and (line := await content.readline()):
                links = [link for each in _parsed(line, self.address).get("Objects") or () for link in each.get("Links") or ()]
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

    @asynccontextmanager
    async def _streaming(
        self, command: str, arguments: Sequence[str], options: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """An answer that is read as it comes; leaving it early ends it, and Kubo's search for what is still missing."""
        url, parameters = self._request(command, arguments, options)
        limit = aiohttp.ClientTimeout(total=SLOW_LIMIT, sock_connect=LIMIT)
        try:
            response = await self._open_session().post(url, params=parameters, timeout=limit)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        try:
            if response.status != 200:
                raise refused(_message(await response.read()), response.status)
            yield response.content
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # also a line longer than any that Kubo means
            raise KuboRefused(f"{self.address} does not answer as Kubo does", "check [kubo] api in the config") from error
        finally:
            response.close()

    async def administration(self) -> Administration:
        """Return the part that speaks ipfshttpclient, loaded with its first use."""
        async with self._administration_lock:
            if self._administration is None:
                if self._closed:
                    raise unreachable(self.address, "the client is closed")
                module = await asyncio.to_thread(__import__, "dragon.kubo.administration", fromlist=["Administration"])
                self._administration = module.Administration(self.address, self._auth)
            return self._administration

    async def ask(self, command: str) -> dict[str, Any]:
        """Return the JSON answer of a call without arguments that has no method here (`name/pubsub/state`)."""
        return await self._json(command)

    # -- the wire -----------------------------------------------------------------------------------------------------

    async def _json(self, command: str, arguments: Sequence[str] = (), **keywords: Any) -> dict[str, Any]:
        return _parsed(await self._call(command, arguments, **keywords), self.address)

    async def _call(
        self,
        command: str,
        arguments: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        limit: float = LIMIT,
    ) -> bytes:
        url, parameters = self._request(command, arguments, options or {})
        form = None if body is None else self._multipart(body)
        headers = {"Content-Type": f"multipart/form-data; boundary={self._boundary}"} if form is not None else None
        try:
            async with self._open_session().post(
                url, params=parameters, data=form, headers=headers, timeout=aiohttp.ClientTimeout(total=limit)
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from error
        if response.status != 200:
            raise refused(_message(answer), response.status)
        return answer

    def _request(self, command: str, arguments: Sequence[str], options: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
        return f"{self.address.url}/api/v0/{command}", [*(("arg", each) for each in arguments), *options.items()]

    def _multipart(self, body: bytes) -> bytes:
        edge = self._boundary.encode()
        disposition = b'Content-Disposition: form-data; name="file"; filename="data"\r\n'
        kind = b"Content-Type: application/octet-stream\r\n"
        return b"--%b\r\n%b%b\r\n%b\r\n--%b--\r\n" % (edge, disposition, kind, body, edge)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._closed:
            raise unreachable(self.address, "the client is closed")
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self.address.socket:
                connector = aiohttp.UnixConnector(self.address.socket, limit=0)
            else:
                connector = aiohttp.TCPConnector(limit=0)
            headers = {"Authorization": self._auth} if self._auth else None
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def _unreachable(self, error: Exception) -> KuboUnreachable:
        if isinstance(error, TimeoutError):
            return unreachable(self.address, "no answer in time")
        return unreachable(self.address, getattr(error, "strerror", None) or str(error) or type(error).__name__)


def _parsed(answer: bytes, address: object) -> dict[str, Any]:
    try:
        value = json.loads(answer)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise KuboRefused(f"{address} does not answer as Kubo does", "check [kubo] api in the config")
    return value


def _message(answer: bytes) -> str:
    """Kubo's own words out of an error answer, which is JSON or plain text."""
    try:
        value = json.loads(answer)
    except ValueError:
        return answer[:300].decode("utf-8", "replace")
    return str(value.get("Message", "")) if isinstance(value, dict) else str(value)[:300]

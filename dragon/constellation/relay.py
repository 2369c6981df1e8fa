"""One WebSocket to a relay: what is said and heard, counted and bounded."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from dragon.constellation.frames import PROGRESS, Frame, Limits, limits, parse
from dragon.errors import PeerUnreachable

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes of a message that is read: a full negentropy frame of khatru is 1 MiB, twice that in hex, and the next power."""

MAX_DOCUMENT = 64 * 1024
"""Bytes of an information document (NIP-11) that are read."""


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds that a relay is waited for. Tests shorten them."""

    connect: float = 10.0
    """For the connection: a tunnel through a relay takes seconds."""
    document: float = 3.0
    """For its information document; without one the usual limits are assumed."""
    negentropy: float = 8.0
    """For the first answer to NIP-77, after which it is taken to lack it: it reads its whole set before it answers."""
    progress: float = 30.0
    """Between two messages that answer something; afterwards the relay is given up."""
    notice: float = 4.0
    """After a NOTICE, which mostly says why no answer will come."""
    stop: float = 20.0
    """For our own store to take what was received, when the run is stopped."""


COARSE = 0.05
"""Share of its patience by which a deadline may be late: moving it for every one of 10,000 messages a second costs more than
reading them."""


class RelayFailed(PeerUnreachable):
    """The relay cannot be reached, went away, stalls or refuses; the message is a few words."""


class Relay:
    """An open connection. One task at a time asks and listens on it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, limits: Limits, patience: Patience) -> None:
        self.limits = limits
        self.patience = patience
        self.bytes_in = 0
        self.bytes_out = 0
        self._notice = ""
        self._socket = socket
        self._names = 0
        self._mark = secrets.token_hex(4)

    def name(self) -> str:
        """Return a new name for a subscription, which no other connection has: khatru keeps NIP-77 sessions of all under it."""
        self._names += 1
        return f"{self._mark}-{self._names}"

    async def send(self, *words: Any) -> None:
        """Say one message; waits while the relay does not take it."""
        await self.send_text(json.dumps(words, ensure_ascii=False, separators=(",", ":")))

    async def send_text(self, text: str) -> None:
        """Say a message that is spelt already."""
        self.bytes_out += len(text)
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, OSError) as error:
            raise RelayFailed(f"connection lost ({error})") from None

    @asynccontextmanager
    async def asked(self, patience: float | None = None) -> AsyncIterator[Callable[[], Awaitable[Frame]]]:
        """Ask something in the block, and take its messages from the function that this gives.

        `RelayFailed` when it closes; `RelaySilent` when it neither reads nor says anything that counts for `patience` seconds.
        """
        patience, loop = patience or self.patience.progress, asyncio.get_running_loop()
        try:
            async with asyncio.timeout(patience) as scope:
                noted = loop.time()

                async def answer() -> Frame:
                    nonlocal noted
                    frame = await self.listen()
                    if frame.verb in PROGRESS:
                        if (now := loop.time()) > noted + patience * COARSE:
                            scope.reschedule(now + patience)
                            noted = now
                    elif frame.verb == "NOTICE":
                        scope.reschedule(min(scope.when() or 0.0, loop.time() + self.patience.notice))
                        noted = 0.0  # whatever counts gives the whole time again
                    return frame

                yield answer
        except TimeoutError:
            raise RelaySilent(f"stalls{self._last_words()}") from None

    async def next(self, patience: float | None = None) -> Frame:
        """Return its next message, as `asked` does: for questions with few answers."""
        async with self.asked(patience) as answer:
            return await answer()

    async def listen(self) -> Frame:
        """Return its next message, whenever that comes; `RelayFailed` when it closes."""
        message = await self._socket.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise RelayFailed(_ended(message, self._socket) + self._last_words())
        text: str = message.data
        self.bytes_in += len(text)
        frame = parse(text)
        if frame.verb == "NOTICE":
            self._notice = frame.reason
        return frame

    def _last_words(self) -> str:
        return f" (it says: {self._notice})" if self._notice else ""


class RelaySilent(RelayFailed):
    """Nothing came in time; the connection still stands."""


@asynccontextmanager
async def connected(url: str, patience: Patience | None = None, heartbeat: float | None = None) -> AsyncIterator[Relay]:
    """Connect to the relay at `url` and ask for its limits; `RelayFailed` where that fails.

    With a `heartbeat`, seconds between two pings, a connection that died silently is noticed without a question.
    """
    patience = patience or Patience()
    async with aiohttp.ClientSession(auto_decompress=True) as session:
        try:
            async with asyncio.timeout(patience.connect):
                socket = await session.ws_connect(url, max_msg_size=MAX_MESSAGE, heartbeat=heartbeat)
        except TimeoutError:
            raise RelayFailed("does not answer") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise RelayFailed(f"cannot be reached ({error})") from None
        try:
            yield Relay(socket, await _limits(session, url, patience.document), patience)
        finally:
            await socket.close()


async def _limits(session: aiohttp.ClientSession, url: str, patience: float) -> Limits:
    """Return what the relay's information document says; the usual where it has none."""
    address = "http" + url.removeprefix("ws")  # ws → http, wss → https
    try:
        async with (
            asyncio.timeout(patience),
            session.get(address, headers={"Accept": "application/nostr+json"}, allow_redirects=False) as answer,
        ):
            body = await answer.content.read(MAX_DOCUMENT)
            return limits(json.loads(body))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RecursionError):
        return Limits()


def _ended(message: aiohttp.WSMessage, socket: aiohttp.ClientWebSocketResponse) -> str:
    if message.type is aiohttp.WSMsgType.BINARY:
        return "sends something else than text"
    if message.type is aiohttp.WSMsgType.ERROR:
        return f"connection lost ({message.data})"
    return f"closed the connection ({socket.close_code})"

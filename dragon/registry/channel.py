"""One connection of the exchange: whole messages in and out, every wait bounded.

Kubo tunnels set the manners (KUBO.md): an end-of-file in one direction ends both, a dial may hang for 30 s, and a reply may
arrive short when the other side closes first. So nothing is framed by its end, nobody waits longer than their own patience, and
what is cut short is an error of its own, which callers retry once.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from dragon.errors import PeerUnreachable, ProtocolError
from dragon.registry.framing import LENGTH_BYTES, Message, Refusal, body_length, frame, message_of
from registry_schema import is_node_id

CALLER_LINE = 64
"""Bytes of the line that names the caller: node ids have 46 to 52 characters."""


class CutShort(PeerUnreachable):
    """The connection ended inside a reply, or instead of it: a tunnel does that now and then, so asking again is fair."""


class Refused(PeerUnreachable):
    """The peer answers, but not this or not now; `reason` is its word for why."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"refused: {reason}")
        self.reason = reason


class Channel:
    """Messages over a pair of streams. `patience` bounds, in seconds, each single message in either direction."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, patience: float) -> None:
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self.received = 0
        self.sent = 0

    async def caller(self) -> str:
        """Read the line that Kubo puts before a tunnel's first byte; return the node id of who called.

        Raises `ProtocolError` when it is none (somebody on this machine connected to the port), `PeerUnreachable` when
        nothing came.
        """
        line = b""
        try:
            async with asyncio.timeout(self._patience):
                while not line.endswith(b"\n") and len(line) < CALLER_LINE:
                    line += await self._reader.readexactly(1)
        except TimeoutError:
            raise PeerUnreachable(f"a connection that said nothing for {self._patience:g} s") from None
        except (asyncio.IncompleteReadError, OSError):
            raise CutShort("a connection that ended before it named its caller") from None
        node_id = line.removesuffix(b"\n").decode("ascii", "replace")
        if not line.endswith(b"\n") or not is_node_id(node_id):
            raise ProtocolError("a connection that does not come from a tunnel")
        return node_id

    async def receive(self, patience: float | None = None) -> Message | None:
        """Return the next message, None when the other side is done.

        Raises `ProtocolError` for what is no message, `CutShort` for half of one, `PeerUnreachable` when none came in time.
        """
        bound = self._patience if patience is None else patience
        started = False
        try:
            async with asyncio.timeout(bound):
                prefix = await self._reader.readexactly(1)
                started = True
                prefix += await self._reader.readexactly(LENGTH_BYTES - 1)
                body = await self._reader.readexactly(body_length(prefix))
        except TimeoutError:
            raise PeerUnreachable(f"no message within {bound:g} s") from None
        except asyncio.IncompleteReadError:
            if started:
                raise CutShort("the connection ended inside a message") from None
            return None
        except OSError as error:
            raise CutShort(f"the connection broke: {error.strerror or error}") from None
        self.received += LENGTH_BYTES + len(body)
        return message_of(body)

    async def reply(self) -> Message:
        """Return the next message of an answer; `Refused` when it is a refusal, `CutShort` when there is none."""
        match await self.receive():
            case None:
                raise CutShort("the connection ended instead of an answer")
            case Refusal(reason):
                raise Refused(reason)
            case message:
                return message

    async def send(self, message: Message) -> None:
        """Hand `message` to the connection; `PeerUnreachable` when the other side does not take it in time."""
        data = frame(message)
        try:
            async with asyncio.timeout(self._patience):
                self._writer.write(data)
                await self._writer.drain()
        except TimeoutError:
            raise PeerUnreachable(f"took no message for {self._patience:g} s") from None
        except OSError as error:
            raise CutShort(f"the connection broke: {error.strerror or error}") from None
        self.sent += len(data)

    async def close(self) -> None:
        """End the connection now; what was not taken yet is dropped."""
        self._writer.transport.abort()
        with suppress(OSError):
            await self._writer.wait_closed()

"""The first moments of a connection: until the provider's first byte, nothing is lost yet and the client may be moved on.

Kubo accepts before it dials, so a leg says nothing about the provider until it answers or ends. What the client sends meanwhile
goes through at once, and a copy is kept while it is small. After the first byte the relay takes over and the copy is dropped.
"""

from __future__ import annotations

import asyncio
import enum
import re
import socket

HELD_BYTES = 64 * 1024
"""Copy kept of an unanswered client: larger than nearly every HTTP request; beyond it the relay takes over unanswered."""

CHUNK = 16 * 1024

_IDEMPOTENT = re.compile(rb"(GET|HEAD|OPTIONS|TRACE|PUT|DELETE) [!-~]+ HTTP/1\.[01]\r\n")
_HEAD_ENDS = re.compile(rb"\n\r?\n")
_LENGTH = re.compile(rb"(?im)^content-length:[ \t]*([0-9]{1,12})[ \t]*\r?$")


class Outcome(enum.Enum):
    ANSWERED = "the provider's first byte is there to be read"
    LARGE = "the client said more than is kept, or ended its direction"
    LOST = "the provider's side ended without a byte"
    LEFT = "the client is gone"


def may_resend(held: bytes | bytearray) -> bool:
    """Tell whether an unanswered client may be moved to another provider (or to the same again) with what it said.

    Nothing said: always. Otherwise only one HTTP request whose method is idempotent (RFC 9110 §9.2.2), since the first provider
    may have acted on it; where more was said than that request, what follows may be one that is not (pipelining).
    """
    if not held:
        return True
    if _IDEMPOTENT.match(held) is None:
        return False
    end = _HEAD_ENDS.search(held)
    if end is None:
        return True
    lengths = _LENGTH.findall(held, 0, end.end())
    body = int(lengths[0]) if len(lengths) == 1 else 0  # in chunks: nobody knows here where it ends
    return len(held) - end.end() <= body


async def open_conversation(near: socket.socket, far: socket.socket, held: bytearray) -> tuple[Outcome, float | None]:
    """Carry the client's first words from `near` to `far` until something is decided.

    `held` is what an earlier provider was told already and is sent first; it grows by what the client says. Returns the outcome
    and, when answered, the seconds between the last word sent and the answer's first byte (which is not consumed).
    """
    loop = asyncio.get_running_loop()
    began = loop.time()
    try:
        if held:
            await loop.sock_sendall(far, held)
        while True:
            near_ready, far_ready = await _readable(loop, near, far)
            if far_ready:
                try:
                    first = far.recv(1, socket.MSG_PEEK)
                except BlockingIOError:
                    pass
                else:
                    return (Outcome.ANSWERED, loop.time() - began) if first else (Outcome.LOST, None)
            if near_ready:
                try:
                    said = near.recv(CHUNK)
                except BlockingIOError:
                    continue
                except OSError:
                    return Outcome.LEFT, None
                if not said:
                    return (Outcome.LARGE if held else Outcome.LEFT), None
                held += said
                began = loop.time()
                await loop.sock_sendall(far, said)
                if len(held) > HELD_BYTES:
                    return Outcome.LARGE, None
    except OSError:  # of `far`: errors of `near` are caught where they arise
        return Outcome.LOST, None


async def _readable(loop: asyncio.AbstractEventLoop, near: socket.socket, far: socket.socket) -> tuple[bool, bool]:
    """Return which of the two have something to read (an end counts), when at least one has."""
    ready: asyncio.Future[None] = loop.create_future()
    seen: set[socket.socket] = set()

    def note(which: socket.socket) -> None:
        seen.add(which)
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(near, note, near)
    loop.add_reader(far, note, far)
    try:
        await ready
    finally:
        loop.remove_reader(near)
        loop.remove_reader(far)
    return near in seen, far in seen

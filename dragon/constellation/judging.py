"""Verification in a process of its own: it takes most of the time of a backfill, and a thread would fight for the interpreter.

Run as a program, this module is that process: batches of relay messages come in, checked events or reasons go out, each as a
length and a msgpack list. What comes back was built by our own code from checked values.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import struct
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO

import msgpack

from dragon.constellation.event import MAX_EVENT_SIZE, Event, Unsound, checked
from dragon.constellation.frames import document
from dragon.errors import LocalError

MAX_MESSAGE_SIZE = 6 * MAX_EVENT_SIZE
"""Bytes of an EVENT message that is looked into: the longest spelling (each letter as \\uXXXX) of an event that may pass."""

MODULE = "dragon.constellation.judging"

_LENGTH = struct.Struct(">I")


def judge(text: str) -> Event | str:
    """Return the checked event of an EVENT message, or the reason why there is none."""
    if len(text) > MAX_MESSAGE_SIZE:
        return "oversize"
    try:
        return checked(document(text))
    except Unsound as error:
        return str(error)


class Judges:
    """The process; batches are answered in the order in which they come."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    async def judge(self, texts: Sequence[str]) -> list[Event | str]:
        """Return, for each message, the checked event or the reason why there is none."""
        # Lone halves of surrogate pairs cannot be sent, and no sound event has one: the message is malformed without them.
        request = msgpack.packb([text if len(text) <= MAX_MESSAGE_SIZE else None for text in texts], unicode_errors="replace")
        asking = asyncio.ensure_future(self._ask(request))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:  # the answer still comes, and must not be taken for the next one's
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        return [each if isinstance(each, str) else Event(*each) for each in msgpack.unpackb(answer, use_list=False)]

    async def _ask(self, request: bytes) -> bytes:
        questions, answers = self._process.stdin, self._process.stdout
        assert questions is not None
        assert answers is not None
        async with self._turn:
            try:
                questions.write(_LENGTH.pack(len(request)) + request)
                await questions.drain()
                (length,) = _LENGTH.unpack(await answers.readexactly(_LENGTH.size))
                return await answers.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                raise LocalError("the process that verifies events ended", "run the sync again; is memory short?") from None


@asynccontextmanager
async def judges() -> AsyncIterator[Judges]:
    """Start the process; it ends with the block."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", MODULE,  # -P: what lies in the folder where the sync was started is not imported
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        yield Judges(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # it holds nothing that could be lost
        await process.wait()


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while head := requests.read(_LENGTH.size):
        (length,) = _LENGTH.unpack(head)
        said = [_fields(judge(text)) if text is not None else "oversize" for text in msgpack.unpackb(requests.read(length))]
        answer = msgpack.packb(said)
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _fields(verdict: Event | str) -> Any:
    if isinstance(verdict, str):
        return verdict
    return (
        verdict.id, verdict.pubkey, verdict.created_at, verdict.kind, verdict.data, verdict.address, verdict.deletes,
    )  # fmt: skip


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM):  # who stops all of us at once: what was received is verified still
        signal.signal(number, signal.SIG_IGN)
    _serve(sys.stdin.buffer, sys.stdout.buffer)

"""The process that verifies: reads batches of relay messages, writes checked events or reasons. Started by `judging`.

Small on purpose, since there may be two of them: no event loop, nothing of the rest of the sync.
"""

from __future__ import annotations

import signal
import struct
import sys
from typing import Any, BinaryIO

import msgpack

from dragon.constellation.event import MAX_EVENT_SIZE, Event, Unsound, checked
from dragon.constellation.frames import document

MAX_MESSAGE_SIZE = 6 * MAX_EVENT_SIZE
"""Bytes of an EVENT message that is looked into: the longest spelling (each letter as \\uXXXX) of an event that may pass."""

LENGTH = struct.Struct(">I")
"""Stands before each batch and each answer: its bytes."""


def judge(text: str) -> Event | str:
    """Return the checked event of an EVENT message, or the reason why there is none."""
    if len(text) > MAX_MESSAGE_SIZE:
        return "oversize"
    try:
        return checked(document(text))
    except Unsound as error:
        return str(error)


def _serve(requests: BinaryIO, answers: BinaryIO) -> None:
    while head := requests.read(LENGTH.size):
        (length,) = LENGTH.unpack(head)
        said = [_fields(judge(text)) if text is not None else "oversize" for text in msgpack.unpackb(requests.read(length))]
        answer = msgpack.packb(said)
        answers.write(LENGTH.pack(len(answer)) + answer)
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

"""The language of the exchange, without a socket: messages as values, their bytes, and the limits on both.

    frame    = 4-byte big-endian length + body           (framed by length: Kubo tunnels have no half-close)
    body     = canonical msgpack map {t: kind, …}        (the contract's own strict codec: no floats, no nil, bounded depth)

    caller    Ask(question, body)                        one question at a time on a connection, any number one after another
              Batch* End                                 once Ask("push") was answered: envelopes the other side lacks
    answerer  Answer(body)                               one value
              Batch* End(count)                          envelopes; the count tells a short reply from a complete one
              Refusal(reason)                            not now, or not that

Whatever does not fit is a `ProtocolError`: the peer's fault, counted against it, the connection closed. Keys that this version
does not know are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from dragon.errors import ProtocolError
from registry_schema import Rejection, codec
from registry_schema.limits import MAX_ENVELOPE

MAX_BATCH = 64
"""Envelopes in one frame (DESIGN §5): verifying them takes about 10 ms, which bounds the work a frame can ask for at once."""

MAX_FRAME = 256 * 1024
"""Bytes of one body. 64 usual envelopes (1–3 kB) fit; a peer makes us hold at most this before we look at it."""

MAX_BODY_DEPTH = 6
"""Nesting inside a message: an answer needs 3, the rest is room for the questions of later rooms."""

MAX_QUESTION = 48
"""Characters of a question's name; those of this version have at most 8."""

MAX_AGE_MS = 2**53
"""Beyond what any clock counts; keeps the number exact in every language."""

LENGTH_BYTES = 4

_PAIR_OVERHEAD = 16  # array header, binary header of 5 bytes, age of at most 9
_BATCH_OVERHEAD = 32  # the map, its keys and the outer array


@dataclass(frozen=True, slots=True)
class Ask:
    """One question; `body` is what it needs to be answered, by default nothing (an empty map)."""

    question: str
    body: codec.Value


@dataclass(frozen=True, slots=True)
class Batch:
    """Some envelopes, each with its age in milliseconds: how long ago it was first heard anywhere."""

    envelopes: tuple[tuple[bytes, int], ...]


@dataclass(frozen=True, slots=True)
class End:
    """The last word after batches: how many envelopes there were in all."""

    count: int


@dataclass(frozen=True, slots=True)
class Answer:
    body: codec.Value


@dataclass(frozen=True, slots=True)
class Refusal:
    """`reason` is one of a few words that the caller can act on: `unknown`, `busy`, `budget`."""

    reason: str


Message: TypeAlias = Ask | Batch | End | Answer | Refusal


def frame(message: Message) -> bytes:
    """Return the bytes of `message`, length first. `ValueError` when it does not fit: our own mistake, not a peer's."""
    body = codec.encode(_fields(message))
    if len(body) > MAX_FRAME:
        raise ValueError(f"a message of {len(body)} bytes, a frame holds {MAX_FRAME}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_length(prefix: bytes) -> int:
    """Return the length that a frame's first `LENGTH_BYTES` announce; `ProtocolError` before anything of it is read."""
    length = int.from_bytes(prefix, "big")
    if not 0 < length <= MAX_FRAME:
        raise ProtocolError(f"a frame of {length} bytes, {MAX_FRAME} are allowed")
    return length


def message_of(body: bytes) -> Message:
    """Return the message in a frame's `body`; `ProtocolError` when it is none."""
    if len(body) > MAX_FRAME:
        raise ProtocolError(f"a body of {len(body)} bytes, {MAX_FRAME} are allowed")
    try:
        fields = codec.decode(body, MAX_BODY_DEPTH)
    except Rejection as error:
        raise ProtocolError(f"not a message: {error}") from None
    if not isinstance(fields, dict):
        raise ProtocolError("a message is a map")
    match fields.get("t"):
        case "ask":
            question = _typed(fields, "q", str)
            if not 0 < len(question) <= MAX_QUESTION:
                raise ProtocolError(f"a question's name has 1 to {MAX_QUESTION} characters")
            return Ask(question, fields.get("b", {}))
        case "batch":
            return Batch(tuple(_pairs(_typed(fields, "e", list))))
        case "end":
            count = _typed(fields, "n", int)
            if count < 0:
                raise ProtocolError("a count is not negative")
            return End(count)
        case "answer":
            return Answer(fields.get("b", {}))
        case "refusal":
            return Refusal(_typed(fields, "why", str)[:MAX_QUESTION])
    raise ProtocolError("a message of an unknown kind")


def batches(envelopes: Iterable[tuple[bytes, int]]) -> Iterator[Batch]:
    """Cut `(envelope, age in ms)` pairs into batches that each fit one frame, lazily and in order."""
    held: list[tuple[bytes, int]] = []
    size = _BATCH_OVERHEAD
    for data, age in envelopes:
        needed = len(data) + _PAIR_OVERHEAD
        if held and (len(held) == MAX_BATCH or size + needed > MAX_FRAME):
            yield Batch(tuple(held))
            held, size = [], _BATCH_OVERHEAD
        held.append((data, min(max(age, 0), MAX_AGE_MS)))
        size += needed
    if held:
        yield Batch(tuple(held))


def _fields(message: Message) -> Mapping[str, Any]:
    match message:
        case Ask(question, body):
            return {"t": "ask", "q": question, "b": body}
        case Batch(envelopes):
            return {"t": "batch", "e": [[data, age] for data, age in envelopes]}
        case End(count):
            return {"t": "end", "n": count}
        case Answer(body):
            return {"t": "answer", "b": body}
        case Refusal(reason):
            return {"t": "refusal", "why": reason}


def _typed(fields: Mapping[str, codec.Value], key: str, kind: type[Any]) -> Any:
    value = fields.get(key)
    if type(value) is not kind:
        raise ProtocolError(f"`{key}` must be {kind.__name__}")
    return value


def _pairs(items: list[codec.Value]) -> Iterator[tuple[bytes, int]]:
    if len(items) > MAX_BATCH:
        raise ProtocolError(f"{len(items)} envelopes in one frame, {MAX_BATCH} are allowed")
    for item in items:
        match item:
            case [bytes(data), int(age)] if not isinstance(age, bool) and 0 <= age <= MAX_AGE_MS:
                if len(data) > MAX_ENVELOPE:
                    raise ProtocolError(f"an envelope of {len(data)} bytes, {MAX_ENVELOPE} are allowed")
                yield data, age
            case _:
                raise ProtocolError("a batch holds pairs of an envelope and its age in milliseconds")

"""The exchange's language: every message survives the wire, everything else is a `ProtocolError` and nothing worse."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.errors import ProtocolError
from dragon.registry import framing
from dragon.registry.framing import MAX_BATCH, MAX_FRAME, Answer, Ask, Batch, End, Message, Refusal
from registry_schema import codec
from registry_schema.limits import MAX_ENVELOPE

bodies = st.recursive(
    st.booleans() | st.integers(0, 2**63 - 1) | st.text(max_size=20) | st.binary(max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
).filter(lambda body: _depth(body) < framing.MAX_BODY_DEPTH)
questions = st.text(min_size=1, max_size=framing.MAX_QUESTION)
messages: st.SearchStrategy[Message] = st.one_of(
    st.builds(Ask, questions, bodies),
    st.builds(Answer, bodies),
    st.builds(End, st.integers(0, 2**40)),
    st.builds(Refusal, st.text(max_size=framing.MAX_QUESTION)),
    st.builds(Batch, st.lists(st.tuples(st.binary(max_size=60), st.integers(0, framing.MAX_AGE_MS)), max_size=8).map(tuple)),
)


def _depth(value: object) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(_depth, value), default=0)
    return 0


def read(data: bytes) -> Message:
    length = framing.body_length(data[: framing.LENGTH_BYTES])
    body = data[framing.LENGTH_BYTES :]
    assert len(body) == length
    return framing.message_of(body)


@settings(max_examples=150)
@given(messages)
def test_what_is_framed_is_read_back(message: Message) -> None:
    assert read(framing.frame(message)) == message


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(body: bytes) -> None:
    with suppress(ProtocolError):
        framing.message_of(body)


@settings(max_examples=200)
@given(messages, st.data())
def test_a_damaged_frame_is_a_message_or_a_protocol_error(message: Message, data: st.DataObject) -> None:
    body = bytearray(framing.frame(message)[framing.LENGTH_BYTES :])
    position = data.draw(st.integers(0, len(body) - 1))
    body[position] = data.draw(st.integers(0, 255))
    with suppress(ProtocolError):
        framing.message_of(bytes(body))


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(["t", "q", "b", "e", "n", "why", "x"]), bodies, max_size=5))
def test_any_well_encoded_map_is_a_message_or_a_protocol_error(fields: dict[str, object]) -> None:
    with suppress(ProtocolError):
        framing.message_of(codec.encode(fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({}, "unknown kind"),
        ({"t": 3}, "unknown kind"),
        ({"t": "drop tables"}, "unknown kind"),
        ({"t": "ask"}, "`q`"),
        ({"t": "ask", "q": ""}, "characters"),
        ({"t": "ask", "q": "x" * 49}, "characters"),
        ({"t": "batch"}, "`e`"),
        ({"t": "batch", "e": [[b"", 0]] * (MAX_BATCH + 1)}, "64 are allowed"),
        ({"t": "batch", "e": [[b"x" * (MAX_ENVELOPE + 1), 0]]}, "an envelope of"),
        ({"t": "batch", "e": [[b"x", -1]]}, "pairs"),
        ({"t": "batch", "e": [[b"x", True]]}, "pairs"),
        ({"t": "batch", "e": [["x", 1]]}, "pairs"),
        ({"t": "batch", "e": [[b"x"]]}, "pairs"),
        ({"t": "batch", "e": [b"x"]}, "pairs"),
        ({"t": "end", "n": -1}, "negative"),
        ({"t": "end", "n": True}, "`n`"),
        ({"t": "refusal"}, "`why`"),
    ],
)
def test_what_is_no_message_is_named(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ProtocolError, match=says):
        framing.message_of(codec.encode(fields))


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa1t\xcb" + bytes(8)])
def test_other_encodings_are_refused(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        framing.message_of(body)


def test_a_key_of_a_newer_version_is_ignored() -> None:
    assert framing.message_of(codec.encode({"t": "end", "n": 3, "zip": 1})) == End(3)


@pytest.mark.parametrize(
    ("length", "fits"), [(0, False), (1, True), (MAX_FRAME, True), (MAX_FRAME + 1, False), (2**32 - 1, False)]
)
def test_the_announced_length_is_bounded(length: int, fits: bool) -> None:
    prefix = length.to_bytes(framing.LENGTH_BYTES, "big")
    if fits:
        assert framing.body_length(prefix) == length
    else:
        with pytest.raises(ProtocolError):
            framing.body_length(prefix)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0, 1, 900, 9_000, MAX_ENVELOPE]), st.integers(-5, 2**60)), max_size=150))
def test_batches_keep_everything_in_order_and_fit_frames(sizes: list[tuple[int, int]]) -> None:
    pairs = [(index.to_bytes(4, "big") + bytes(max(size - 4, 0)), age) for index, (size, age) in enumerate(sizes)]
    cut = list(framing.batches(pairs))
    for batch in cut:
        assert read(framing.frame(batch)) == batch
    assert [pair for batch in cut for pair in batch.envelopes] == [
        (data, min(max(age, 0), framing.MAX_AGE_MS)) for data, age in pairs
    ]


def test_our_own_oversize_message_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="a frame holds"):
        framing.frame(Answer(bytes(MAX_FRAME)))

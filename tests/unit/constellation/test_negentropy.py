"""The codec of negentropy messages: what is written is read back, what is wrong is refused, whatever the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation.negentropy import END, INFINITY, START, Bound, Mode, Range, decode, encode, size
from dragon.errors import ProtocolError

prefixes = st.binary(max_size=32).map(lambda prefix: prefix.rstrip(b"\0"))
bounds = st.builds(Bound, st.integers(0, 2**40), prefixes)
ids = st.lists(st.binary(min_size=32, max_size=32), max_size=5).map(tuple)


@st.composite
def messages(draw: st.DrawFn) -> list[Range]:
    points = sorted(draw(st.sets(bounds.filter(lambda bound: bound > START), min_size=1, max_size=8)))
    if draw(st.booleans()):
        points.append(END)
    ranges = []
    for lower, upper in zip([START, *points], points, strict=False):
        mode = draw(st.sampled_from([Mode.SKIP, Mode.FINGERPRINT, Mode.ID_LIST]))
        if mode is Mode.FINGERPRINT:
            ranges.append(Range(lower, upper, mode, draw(st.binary(min_size=16, max_size=16))))
        elif mode is Mode.ID_LIST:
            ranges.append(Range(lower, upper, mode, ids=draw(ids)))
        else:
            ranges.append(Range(lower, upper, mode))
    return ranges


@given(messages())
def test_a_message_is_read_as_it_was_written(ranges: list[Range]) -> None:
    assert decode(encode(ranges)) == ranges


@given(messages())
def test_what_is_left_out_is_skipped(ranges: list[Range]) -> None:
    said = [each for each in ranges if each.mode is not Mode.SKIP]
    assert [each for each in decode(encode(said)) if each.mode is not Mode.SKIP] == said


@given(messages())
def test_the_size_of_a_range_is_a_ceiling(ranges: list[Range]) -> None:
    assert len(encode(ranges)) <= 1 + sum(size(each) for each in ranges)


def test_the_ceiling_is_not_far_off() -> None:
    """A message that is taken for full too early costs a round trip."""
    points = [Bound(1_700_000_000 + 30 * number, bytes([number % 250 + 1])) for number in range(2000)]
    ranges = [Range(*ends, Mode.FINGERPRINT, b"f" * 16) for ends in pairwise(points)]
    assert sum(size(each) for each in ranges) < 1.6 * len(encode(ranges))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_protocol_error(data: bytes) -> None:
    try:
        ranges = decode(data)
    except ProtocolError:
        return
    assert all(each.lower < each.upper for each in ranges)


@given(messages(), st.integers(1, 30))
def test_a_message_that_was_cut_is_never_read_as_more(ranges: list[Range], cut: int) -> None:
    data = encode(ranges)
    try:
        got = decode(data[:-cut])
    except ProtocolError:
        return
    assert got == ranges[: len(got)]


@pytest.mark.parametrize(
    ("data", "trouble"),
    [
        (b"", "empty"),
        (b"\x62", "another version"),
        (b"\x61\x00", "too early"),
        (b"\x61\x00\x00\x01" + b"f" * 15, "too early"),
        (b"\x61\x00\x00\x03", "unknown mode"),
        (b"\x61\x00\x21" + b"p" * 33 + b"\x00", "longer than an id"),
        (b"\x61\x00\x00\x02\x02" + b"i" * 63, "too early"),
        (b"\x61\x00\x00\x02\xff\xff\xff\xff\xff\x7f", "too early"),
        (b"\x61" + b"\xff" * 11, "too long"),
        (b"\x61\x02\x00\x00\x01\x00\x00", "out of order"),
        (b"\x61\x00\x00\x00\x00\x00\x00", "out of order"),
    ],
)
def test_what_is_refused(data: bytes, trouble: str) -> None:
    with pytest.raises(ProtocolError, match=trouble):
        decode(data)


def test_the_bytes_of_the_protocol() -> None:
    """Timestamps are distances plus one, zero is infinity; numbers have their most significant digit first."""
    ranges = [
        Range(START, Bound(1000), Mode.SKIP),
        Range(Bound(1000), Bound(1300, b"\xab"), Mode.ID_LIST, ids=(b"\x01" * 32,)),
        Range(Bound(1300, b"\xab"), END, Mode.FINGERPRINT, b"\x02" * 16),
    ]
    assert encode(ranges).hex() == "61" + "876900" + "00" + "822d01ab" + "0201" + "01" * 32 + "0000" + "01" + "02" * 16
    assert END.timestamp == INFINITY

"""One value, one encoding; bounded work for any bytes."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_schema import LimitExceeded, Malformed, NotCanonical, Rejection, decode, encode, limits
from tests.unit.registry_schema.samples import full, usual
from tests.unit.registry_schema.spelling import Raw, spell, spell_pairs
from tests.unit.registry_schema.strategies import codec_values


@given(codec_values())
def test_what_is_encoded_is_read_back(value: Any) -> None:
    assert decode(encode(value)) == value


@given(codec_values())
def test_the_own_writer_of_the_tests_agrees(value: Any) -> None:
    assert spell(decode(encode(value))) == encode(value)


@given(
    codec_values() | st.sampled_from([usual().fields(), full().fields()]), st.integers(0, 2**32), st.sampled_from([0.02, 0.5])
)
@settings(max_examples=100)
def test_any_other_spelling_is_refused(value: Any, seed: int, share: float) -> None:
    """Longer forms of integers, strings, binaries, lists and maps, anywhere in the value."""
    rng = random.Random(seed)
    canonical = encode(value)
    respelled = spell(decode(canonical), lambda ways: rng.randrange(ways) if rng.random() < share else 0)
    if respelled == canonical:
        assert decode(respelled) == decode(canonical)
    else:
        with pytest.raises(NotCanonical):
            decode(respelled)


@given(st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), codec_values(3), min_size=2, max_size=5), st.data())
def test_keys_in_another_order_are_refused(value: dict[str, Any], data: st.DataObject) -> None:
    ordered = sorted(value.items())
    shuffled = data.draw(st.permutations(ordered))
    if shuffled == ordered:
        assert decode(spell_pairs([(key, Raw(encode(item))) for key, item in shuffled])) == value
    else:
        with pytest.raises(NotCanonical):
            decode(spell_pairs([(key, Raw(encode(item))) for key, item in shuffled]))


@given(st.dictionaries(st.text(max_size=5, alphabet="abé中𝔘"), st.integers(0, 9), min_size=1, max_size=5), st.data())
def test_a_key_twice_is_refused(value: dict[str, int], data: st.DataObject) -> None:
    ordered = sorted(value.items())
    place = data.draw(st.integers(0, len(ordered) - 1))
    twice = [*ordered[: place + 1], (ordered[place][0], data.draw(st.integers(0, 9))), *ordered[place + 1 :]]
    with pytest.raises(NotCanonical):
        decode(spell_pairs(twice))


def test_keys_are_ordered_by_their_utf8_bytes() -> None:
    keys = ["", "a", "a\x00", "aa", "z", "é", "中", "\uffff", "\U00010000"]
    assert [key.encode() for key in keys] == sorted(key.encode() for key in keys)
    assert encode(dict.fromkeys(reversed(keys), 1)) == spell_pairs([(key, 1) for key in keys])


NOT_OURS = {
    "nil": b"\xc0",
    "nil inside": b"\x91\xc0",
    "float 32": b"\xca\0\0\0\0",
    "float 64": b"\xcb" + bytes(8),
    "NaN": b"\xcb\x7f\xf8" + bytes(6),
    "float inside": b"\x81\xa1a\xcb" + bytes(8),
    "extension": b"\xd4\x05\x00",
    "timestamp": b"\xd6\xff" + bytes(4),
    "integer as key": b"\x81\x01\x01",
    "bool as key": b"\x81\xc3\x01",
    "nil as key": b"\x81\xc0\x01",
    "float as key": b"\x81\xca\0\0\0\0\x01",
    "binary as key": b"\x81\xc4\x01a\x01",
    "list as key": b"\x81\x90\x01",
    "map as key": b"\x81\x80\x01",
    "extension as key": b"\x81\xd4\x05\x00\x01",
    "timestamp as key": b"\x81\xd6\xff" + bytes(4) + b"\x01",
    "keys of two kinds": b"\x82\xa1a\x01\xc4\x01b\x01",
    "uint8 for a small number": b"\xcc\x01",
    "int8 for a positive number": b"\xd0\x01",
    "int64 for a large positive number": b"\xd3" + (2**40).to_bytes(8, "big"),
    "str8 for a short text": b"\xd9\x01a",
    "array16 for a short list": b"\xdc\x00\x01\x01",
    "map32 for a short map": b"\xdf\x00\x00\x00\x00",
}


@pytest.mark.parametrize("data", NOT_OURS.values(), ids=NOT_OURS.keys())
def test_what_the_contract_has_no_place_for(data: bytes) -> None:
    with pytest.raises(NotCanonical):
        decode(data)


NOT_MSGPACK = {
    "nothing": b"",
    "the unused type": b"\xc1",
    "cut off": b"\x92\x01",
    "more behind": b"\x01\x01",
    "overlong UTF-8": b"\xa2\xc0\x80",
    "a lone surrogate": b"\xa3\xed\xa0\x80",
    "UTF-8 beyond Unicode": b"\xa4\xf4\x90\x80\x80",
    "Latin-1": b"\xa1\xe9",
    "a key that is not UTF-8": b"\x81\xa1\xff\x01",
    "a timestamp that cannot be": b"\xd7\xff" + b"\xff" * 8,
}


@pytest.mark.parametrize("data", NOT_MSGPACK.values(), ids=NOT_MSGPACK.keys())
def test_what_is_not_msgpack(data: bytes) -> None:
    with pytest.raises(Malformed):
        decode(data)


@given(st.binary(max_size=200))
@settings(max_examples=150)
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        value = decode(data)
    except Rejection:
        return
    assert encode(value) == data


def _nested(depth: int) -> bytes:
    return b"\x91" * (depth - 1) + b"\x90"


def _many(count: int) -> bytes:
    """`count` values: the outer list, lists of 200 numbers, and a last list for the rest."""
    lists, rest = divmod(count - 1, 201)
    return encode([[0] * 200] * lists + ([[0] * (rest - 1)] if rest else []))


LIMITS = [
    (limits.MAX_DEPTH, _nested),
    (limits.MAX_TEXT, lambda size: encode("a" * size)),
    (limits.MAX_TEXT, lambda size: encode("é" * (size // 2) + "a" * (size % 2))),
    (limits.MAX_TEXT, lambda size: encode({"k" * size: 1})),
    (limits.MAX_LENGTH, lambda size: encode([0] * size)),
    (limits.MAX_LENGTH, lambda size: encode({f"{number:04}": 0 for number in range(size)})),
]


@pytest.mark.parametrize(("limit", "build"), LIMITS)
def test_limits_hold_to_the_last_unit(limit: int, build: Any) -> None:
    for size in (limit - 1, limit):
        assert encode(decode(build(size))) == build(size)
    with pytest.raises(LimitExceeded):
        decode(build(limit + 1))


def test_the_number_of_values_is_bounded() -> None:
    for count in (limits.MAX_ITEMS - 1, limits.MAX_ITEMS):
        decode(_many(count + 1))
    with pytest.raises(LimitExceeded):
        decode(_many(limits.MAX_ITEMS + 2))


BOMBS = {
    "32 KiB of nested lists": b"\x91" * limits.MAX_ENVELOPE,
    "nested maps": b"\x81\xa0" * (limits.MAX_ENVELOPE // 2),
    "lists that declare the most, nested": b"\xdc\x01\x00" * (limits.MAX_ENVELOPE // 3),
    "a list of 2**32 - 1": b"\xdd\xff\xff\xff\xff",
    "a map of 2**32 - 1": b"\xdf\xff\xff\xff\xff",
    "a text of 2**32 - 1": b"\xdb\xff\xff\xff\xff",
    "a binary of 2**32 - 1": b"\xc6\xff\xff\xff\xff",
    "an extension of 2**32 - 1": b"\xc9\xff\xff\xff\xff\x05",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_bombs_cost_little_memory(data: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(Rejection):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 4 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", [None, 1.0, {1: 2}, {b"a": 1}, {"a": None}, [1.5], {1, 2}, bytearray(b"a")])
def test_the_encoder_takes_only_what_the_decoder_reads(value: Any) -> None:
    with pytest.raises(TypeError):
        encode(value)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1])
def test_integers_have_64_bits(value: int) -> None:
    with pytest.raises(OverflowError):
        encode(value)

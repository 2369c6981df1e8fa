"""The short way through a beat leads where the long way leads, or nowhere."""

from __future__ import annotations

from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from registry_schema import Parsed, Rejection, parse
from registry_schema.repeat import Pattern
from tests.simulator.signers import NOW_MS, Signer

A = Signer("a")

thousandths = st.one_of(st.sampled_from([0, 1, 127, 128, 255, 256, 999, 1000]), st.integers(0, 1000))
labels = st.dictionaries(
    st.sampled_from(["gpu", "model", "model.2", "zone"]), st.sampled_from(["a", "é", "x" * 40]), max_size=3
)
offers = st.builds(
    lambda slug, labels, load, health, sticky: A.offer(slug, labels, load=load, health=health, sticky=sticky),
    st.sampled_from(["comfyui", "ollama", "ssh"]),
    labels,
    thousandths,
    st.sampled_from(["passing", "warning"]),
    st.booleans(),
)
digests = st.one_of(st.just(()), st.tuples(*[st.binary(min_size=8, max_size=8)] * 16))
contents = st.fixed_dictionaries(
    {"offers": st.lists(offers, max_size=3, unique_by=lambda offer: offer.slug)},
    optional={
        "ttl": st.sampled_from([60, 90, 3600]),
        "alias": st.sampled_from(["x", "y"]),
        "labels": labels,
        "capacity": st.dictionaries(st.sampled_from(["cores", "memory"]), st.integers(0, 2**40), max_size=2),
        "leaving": st.booleans(),
    },
)
volatile = st.fixed_dictionaries(
    {"load": thousandths, "digest": digests},
    optional={"sequence": st.sampled_from([1, 2**32 - 1, 2**32, NOW_MS + 5, 2**63 - 1])},
)


def long_way(data: bytes) -> Parsed | None:
    try:
        return parse(data)
    except Rejection:
        return None


def pattern_of(data: bytes) -> Pattern | None:
    parsed = parse(data)
    return Pattern.of(parsed.manifest, parsed.content_hash) if parsed.plain else None


def same(one: Parsed, other: Parsed) -> bool:
    return (
        one == other
        and one.rank == other.rank
        and one.content_hash == other.content_hash
        and one.raw == other.raw
        and one.manifest.model_dump() == other.manifest.model_dump()
        and repr(one.manifest) == repr(other.manifest)
    )


def envelope(content: dict[str, Any], changing: dict[str, Any], loads: list[int]) -> bytes:
    made = [
        offer.model_copy(update={"load": loads[place % len(loads)]}) if loads else offer
        for place, offer in enumerate(content["offers"])
    ]
    return A.envelope(**{"sequence": NOW_MS, **content, **changing, "offers": made})


@settings(max_examples=80, deadline=None)
@given(contents, volatile, volatile, st.lists(thousandths, max_size=3))
def test_a_beat_is_read_as_parse_reads_it(
    content: dict[str, Any], before: dict[str, Any], after: dict[str, Any], loads: list[int]
) -> None:
    held, beat = envelope(content, before, []), envelope(content, after, loads)
    pattern = pattern_of(held)
    assert pattern is not None
    read = pattern.read(beat)
    short = len(parse(beat).payload) < 256 or after.get("sequence", NOW_MS) < 2**32
    if read is None:
        assert short, "a plain beat went the long way"
    else:
        assert same(read, parse(beat))
        read.verify()


@settings(max_examples=80, deadline=None)
@given(contents, contents, volatile)
def test_another_content_is_never_taken_for_a_beat(one: dict[str, Any], other: dict[str, Any], after: dict[str, Any]) -> None:
    """A change that passed for a beat would never be seen."""
    pattern = pattern_of(envelope(one, {}, []))
    assert pattern is not None
    data = envelope(other, after, [])
    read = pattern.read(data)
    if read is not None:
        assert same(read, parse(data))


@settings(max_examples=150, deadline=None)
@given(contents, volatile, st.data())
def test_whatever_is_done_to_the_bytes_both_ways_agree(
    content: dict[str, Any], after: dict[str, Any], data: st.DataObject
) -> None:
    """THREATS 5, 9: nothing enters by the short way that the long way refuses."""
    pattern = pattern_of(envelope(content, {}, []))
    assert pattern is not None
    spoiled = bytearray(envelope(content, after, []))
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(spoiled) - 1))
        match data.draw(st.sampled_from(["replace", "insert", "delete", "cut"])):
            case "replace":
                spoiled[place] = data.draw(st.integers(0, 255))
            case "insert":
                spoiled.insert(place, data.draw(st.integers(0, 255)))
            case "delete":
                del spoiled[place]
            case _:
                del spoiled[max(place, 1) :]
    read, parsed = pattern.read(bytes(spoiled)), long_way(bytes(spoiled))
    if read is not None:
        assert parsed is not None
        assert same(read, parsed)


def test_every_single_byte_of_a_beat_may_be_wrong() -> None:
    """Exhaustive where hypothesis samples: each byte replaced by several others, each prefix, each load in every spelling."""
    content: dict[str, Any] = {
        "offers": [A.offer("ollama", {"model": "a"}, load=200), A.offer("ssh")],
        "digest": (b"12345678",) * 16,
    }
    pattern = pattern_of(A.envelope(NOW_MS, **content))
    assert pattern is not None
    beat = A.envelope(NOW_MS + 30_000, **content, load=700)
    assert pattern.read(beat) is not None
    agreed = 0
    for place in range(len(beat)):
        assert pattern.read(beat[:place]) is None
        for value in {0x00, 0x90, 0xCC, 0xCD, beat[place] ^ 1} - {beat[place]}:
            spoiled = beat[:place] + bytes([value]) + beat[place + 1 :]
            read, parsed = pattern.read(spoiled), long_way(spoiled)
            if read is not None:
                assert parsed is not None, place
                assert same(read, parsed), place
                agreed += 1
    assert agreed > 300  # digest, sequence, signature and loads are read, not compared


@settings(max_examples=40, deadline=None)
@example(load=0)
@given(st.integers(0, 70_000))
def test_a_load_has_one_spelling(load: int) -> None:
    """Longer spellings and larger numbers are left to `parse`, which refuses them."""
    content = {"offers": [A.offer("ollama", {"model": "a" * 90})], "load": 5}
    base = A.envelope(NOW_MS, **content)  # type: ignore[arg-type]
    pattern = pattern_of(base)
    assert pattern is not None
    parsed = parse(base)
    for spelling in (bytes([load & 0x7F]), b"\xcc" + bytes([load & 0xFF]), b"\xcd" + (load & 0xFFFF).to_bytes(2, "big")):
        payload = parsed.payload.replace(b"\xa4load\x05\xa4node", b"\xa4load" + spelling + b"\xa4node")
        data = b"\x83\xa7payload\xc5" + len(payload).to_bytes(2, "big") + payload + base[-73:]
        read, other = pattern.read(data), long_way(data)
        assert (read is None) == (other is None)
        assert read is None or (other is not None and same(read, other))


def test_an_envelope_with_unknown_fields_has_no_pattern() -> None:
    """What this version does not know may be content: only the long way covers it."""
    parsed = parse(A.envelope(NOW_MS, station={"hex": "00" * 32}))
    assert not parsed.plain

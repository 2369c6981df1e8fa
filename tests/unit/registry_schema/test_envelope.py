"""Nothing that its node did not sign, for this swarm and this time, is ever admitted (THREATS 4, 5, 9)."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry_schema import (
    DOMAIN,
    BadIdentity,
    BadSignature,
    Draft,
    FromTheFuture,
    InvalidField,
    Malformed,
    Manifest,
    NotCanonical,
    Rejection,
    TooLarge,
    UnsupportedVersion,
    WrongSwarm,
    check_bounds,
    decode,
    encode,
    limits,
    make_offer,
    open_envelope,
    parse,
    seal,
)
from tests.unit.registry_schema.identities import ALICE, BOB, RSA, Identity
from tests.unit.registry_schema.samples import NOW_MS, SWARM, full, minimal, usual
from tests.unit.registry_schema.spelling import Raw, spell
from tests.unit.registry_schema.strategies import IDENTITIES, sealed_payload


def opened(data: bytes) -> Any:
    return open_envelope(data, swarm=SWARM, now_ms=NOW_MS)


def _envelope(identity: Identity = ALICE, **fields: Any) -> bytes:
    return seal(minimal(identity.node_id, **fields), identity.sign, identity.key)


def _outer(data: bytes) -> dict[str, Any]:
    outer = decode(data)
    assert isinstance(outer, dict)
    return outer


def test_what_a_node_signs_is_admitted() -> None:
    for identity in (*IDENTITIES, RSA):
        manifest = full(identity.node_id)
        assert opened(seal(manifest, identity.sign, identity.key)) == manifest


def _fifty_envelopes() -> list[bytes]:
    rng = random.Random(5)
    envelopes = []
    for number in range(49):
        identity = IDENTITIES[number % len(IDENTITIES)]
        offers = (make_offer("ollama", identity.node_id, 11434, labels={"model": f"m{number}"}),) if number % 10 == 0 else ()
        envelopes.append(_envelope(identity, sequence=NOW_MS - rng.randrange(10**6), alias=f"node {number}", offers=offers))
    return [*envelopes, _envelope(RSA)]


def test_no_mutation_of_fifty_envelopes_is_admitted() -> None:
    """Every byte of every envelope, changed once."""
    rng = random.Random(50)
    tried = admitted = 0
    for data in _fifty_envelopes():
        opened(data)
        for position in range(len(data)):
            mutant = bytearray(data)
            mutant[position] ^= rng.randrange(1, 256)
            tried += 1
            try:
                opened(bytes(mutant))
            except Rejection:
                continue
            admitted += 1
    assert tried > 15_000
    assert admitted == 0


def test_no_bit_of_an_envelope_may_flip() -> None:
    for data in (_envelope(), _envelope(RSA)):
        for position in range(len(data)):
            for bit in range(8):
                mutant = bytearray(data)
                mutant[position] ^= 1 << bit
                with pytest.raises(Rejection):
                    opened(bytes(mutant))


@pytest.mark.parametrize("identity", [ALICE, RSA], ids=["ed25519", "rsa"])
def test_no_part_and_no_extension_of_an_envelope_is_admitted(identity: Identity) -> None:
    data = _envelope(identity)
    for length in range(len(data)):
        with pytest.raises(Malformed):
            opened(data[:length])
    for more in (b"\0", b"\xc0", data):
        with pytest.raises(Malformed):
            opened(data + more)


def test_no_field_can_be_spliced_in() -> None:
    """Every field of another manifest of the same node, under the signature of the first."""
    one, other = usual().fields(), full().fields()
    other.update(sequence=NOW_MS - 1, ttl=60, alias="other", version="0.2.0", load=1, leaving=True, labels={"a": "b"})
    other.update(capacity={"cores": 1}, digest=(), offers=(), node=ALICE.node_id)
    signature = _outer(seal(usual(), ALICE.sign))["sig"]
    spliced = 0
    for field in one:
        payload = encode({**one, field: other[field]})
        if payload != encode(one):
            spliced += 1
            with pytest.raises(BadSignature):
                opened(encode({"v": 1, "payload": payload, "sig": signature}))
    assert spliced >= len(one) - 2


def test_signature_and_payload_of_two_envelopes_do_not_mix() -> None:
    first, second = _outer(_envelope()), _outer(_envelope(sequence=NOW_MS + 1))
    with pytest.raises(BadSignature):
        opened(encode({**first, "sig": second["sig"]}))


def test_nobody_speaks_for_another() -> None:
    payload = encode(minimal(ALICE.node_id).fields())
    for identity in (BOB, RSA):
        with pytest.raises(BadSignature):
            opened(encode({"v": 1, "payload": payload, "sig": identity.sign(DOMAIN + payload)}))


@pytest.mark.parametrize(
    "message",
    [
        lambda payload: payload,
        lambda payload: b"dragon-manifest-v2\0" + payload,
        lambda payload: b"dragon-message-v1\0" + payload,
        lambda payload: DOMAIN[:-1] + payload,
        lambda payload: DOMAIN + DOMAIN + payload,
    ],
)
def test_signatures_for_anything_else_are_worthless(message: Any) -> None:
    payload = encode(minimal().fields())
    with pytest.raises(BadSignature):
        opened(encode({"v": 1, "payload": payload, "sig": ALICE.sign(message(payload))}))


def test_a_signature_without_libp2ps_prefix_is_worthless() -> None:
    payload = encode(minimal().fields())
    with pytest.raises(BadSignature):
        opened(encode({"v": 1, "payload": payload, "sig": ALICE.raw_sign(DOMAIN + payload)}))


@pytest.mark.parametrize("length", [0, 1, 63, 65, 256])
def test_signatures_of_other_lengths(length: int) -> None:
    with pytest.raises(BadSignature):
        opened(encode({**_outer(_envelope()), "sig": b"\1" * length}))


def test_a_manifest_of_another_swarm_is_refused() -> None:
    for swarm in ("dragon2", "Dragon", "drago"):
        with pytest.raises(WrongSwarm):
            opened(_envelope(swarm=swarm))


@pytest.mark.parametrize("sequence", [1, NOW_MS - 10**9, NOW_MS, NOW_MS + limits.MAX_SKEW_MS - 1, NOW_MS + limits.MAX_SKEW_MS])
def test_sequences_up_to_the_allowed_skew(sequence: int) -> None:
    assert opened(_envelope(sequence=sequence)).sequence == sequence


@pytest.mark.parametrize("sequence", [NOW_MS + limits.MAX_SKEW_MS + 1, 2**53, 2**63 - 1])
def test_sequences_beyond_it(sequence: int) -> None:
    with pytest.raises(FromTheFuture):
        opened(_envelope(sequence=sequence))


@pytest.mark.parametrize("sequence", [-(2**63), -1, 0, 2**63, 2**64 - 1])
def test_sequences_that_cannot_be(sequence: int) -> None:
    payload = encode({**minimal().fields(), "sequence": sequence})
    with pytest.raises(InvalidField):
        opened(sealed_payload(payload, ALICE))


def test_the_skew_is_the_receivers_policy() -> None:
    check_bounds(minimal(sequence=NOW_MS + 10), swarm=SWARM, now_ms=NOW_MS, max_skew_ms=10)
    with pytest.raises(FromTheFuture):
        check_bounds(minimal(sequence=NOW_MS + 11), swarm=SWARM, now_ms=NOW_MS, max_skew_ms=10)


def _of_size(size: int) -> bytes:
    """A right envelope of exactly `size` bytes: a newer version's field fills it."""
    filler = 0
    for _ in range(3):
        data = sealed_payload(encode({**minimal().fields(), "x_filler": b"\0" * filler}), ALICE)
        filler += size - len(data)
    assert len(data) == size
    return data


def test_the_size_holds_to_the_last_byte() -> None:
    for size in (limits.MAX_ENVELOPE - 1, limits.MAX_ENVELOPE):
        assert opened(_of_size(size)) == minimal()
    with pytest.raises(TooLarge):
        opened(_of_size(limits.MAX_ENVELOPE + 1))
    with pytest.raises(TooLarge):
        opened(b"\xc1" * (limits.MAX_ENVELOPE + 1))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"v": 2}, UnsupportedVersion),
        ({"v": 0}, UnsupportedVersion),
        ({"v": 2**64 - 1}, UnsupportedVersion),
        ({"v": True}, Malformed),
        ({"v": "1"}, Malformed),
        ({"payload": "text"}, Malformed),
        ({"payload": 1}, Malformed),
        ({"payload": b""}, Malformed),
        ({"payload": b"\x90"}, Malformed),
        ({"sig": "text"}, Malformed),
        ({"key": "text"}, Malformed),
        ({"key": RSA.key}, NotCanonical),
        ({"key": b""}, NotCanonical),
        ({"extra": 1}, Malformed),
        ({"extra": b"", "key": RSA.key}, Malformed),
        ({"": b""}, Malformed),
    ],
)
def test_the_outer_map_has_one_shape(change: dict[str, Any], error: type[Rejection]) -> None:
    with pytest.raises(error):
        opened(encode({**_outer(_envelope()), **change}))


@pytest.mark.parametrize("field", ["v", "payload", "sig"])
def test_no_outer_field_may_be_missing(field: str) -> None:
    outer = _outer(_envelope())
    del outer[field]
    for left in (outer, {**outer, "extra": 1}, {**outer, "key": RSA.key}):
        with pytest.raises(Malformed):
            opened(encode(left))


@pytest.mark.parametrize("outer", [1, "text", b"bytes", [], {}, [1, b"", b""], True])
def test_an_envelope_is_a_map(outer: Any) -> None:
    with pytest.raises(Malformed):
        opened(encode(outer))


def test_an_rsa_envelope_needs_its_own_key() -> None:
    outer = _outer(_envelope(RSA))
    with pytest.raises(BadIdentity):
        opened(encode({**outer, "key": b"other"}))
    del outer["key"]
    with pytest.raises(BadIdentity):
        opened(encode(outer))


def test_rsa_signatures_cannot_be_varied() -> None:
    """Adding the modulus gives a number that is the same to a careless verifier."""
    outer = _outer(_envelope(RSA))
    signature = int.from_bytes(outer["sig"], "big")
    for varied in (b"\0" + outer["sig"], (signature + (1 << 2047)).to_bytes(257, "big")[-256:]):
        with pytest.raises(BadSignature):
            opened(encode({**outer, "sig": varied}))


def test_what_others_would_refuse_is_not_signed() -> None:
    with pytest.raises(InvalidField, match="alias"):
        Draft.of(minimal().model_copy(update={"alias": "\u202e"}))


def test_what_does_not_fit_is_not_sent() -> None:
    labels = {f"k{number:02}": "x" * limits.MAX_LABEL for number in range(limits.MAX_LABELS)}
    large = minimal(offers=tuple(make_offer(f"s{number}", ALICE.node_id, 1, labels=labels) for number in range(9)))
    with pytest.raises(TooLarge, match="an envelope holds 32768"):
        seal(large, ALICE.sign)


def _reason(read: Callable[[], object]) -> str:
    try:
        read()
    except Rejection as error:
        return error.reason
    return "admitted"


ODD: tuple[Any, ...] = (None, 1.5, True, 0, -1, 2**64 - 1, "", "a", b"", [], [[]], {}, {"a": None}, {"b": 1, "a": 2}, {1: 2})
ODD += (Raw(b"\xcc\x00"), Raw(b"\xd4\x05\x00"), Raw(b"\xd9\x01a"), Raw(b"\x82\xa1a\x01\xa1a\x01"), Raw(b"\xc1"))


@given(st.data())
@settings(max_examples=200)
def test_the_shorter_way_of_reading_is_the_same_as_the_plain_one(data: st.DataObject) -> None:
    """Odd values put anywhere into a manifest, as fields of this version or others: decoding first gives the same reason."""
    fields: dict[str, Any] = dict(sorted(data.draw(st.sampled_from([usual(), full(), minimal()])).fields().items()))
    fields["offers"] = [dict(sorted(offer.items())) for offer in fields["offers"]]
    fields["labels"], fields["capacity"] = dict(sorted(fields["labels"].items())), dict(sorted(fields["capacity"].items()))
    places = [fields, *fields["offers"], *(offer["labels"] for offer in fields["offers"]), fields["labels"], fields["capacity"]]
    for _ in range(data.draw(st.integers(0, 2))):
        place = data.draw(st.sampled_from(places))
        place[data.draw(st.sampled_from([*place, "zz", "a"]))] = data.draw(st.sampled_from(ODD))
    if data.draw(st.booleans()):
        place = data.draw(st.sampled_from([place for place in places if place]))
        first = next(iter(place))
        place[first] = place.pop(first)  # now the last
    payload = spell(fields)
    envelope = sealed_payload(payload, ALICE)
    assert _reason(lambda: parse(envelope)) == _reason(lambda: Manifest.read(_outer(payload)))


def test_rank_orders_by_sequence_then_hash() -> None:
    first, second, third = (
        parse(_envelope(sequence=NOW_MS + step, alias=alias)) for step, alias in ((0, "a"), (0, "b"), (1, "a"))
    )
    assert max(first.rank, second.rank) < third.rank
    assert (first.rank < second.rank) == (first.hash < second.hash)

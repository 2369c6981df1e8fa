"""Every field's grammar and bounds (THREATS 4, 9, 24): tables of N-1, N, N+1, wrong types, newer versions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from registry_schema import Agent, InvalidField, Manifest, ed25519_node_id, encode, limits, make_offer
from registry_schema.envelope import parse
from registry_schema.manifest import STATION_FIELDS
from tests.unit.registry_schema.identities import ALICE, BOB, RSA
from tests.unit.registry_schema.samples import full, minimal, usual
from tests.unit.registry_schema.strategies import codec_values, identity_of, manifests, novelties, sealed, sealed_payload

ID = ALICE.node_id


def reads(**changes: Any) -> bool:
    """Tell whether the usual manifest is admitted with these raw fields."""
    try:
        Manifest.read({**_raw(), **changes})
    except InvalidField:
        return False
    return True


def _raw() -> dict[str, Any]:
    raw = usual().fields()
    return {**raw, "offers": list(raw["offers"]), "agents": [], "digest": []}


def _offers(count: int) -> list[dict[str, Any]]:
    return [make_offer(f"s{number:03}", ID, 80).model_dump() for number in range(count)]


def _agents(count: int) -> list[dict[str, Any]]:
    return [{"name": f"a{number:03}", "role": "x", "labels": {}} for number in range(count)]


def _keys(count: int, value: Any) -> dict[str, Any]:
    return {f"k{number:03}": value for number in range(count)}


def _offer(**changes: Any) -> list[dict[str, Any]]:
    return [{**make_offer("ollama", ID, 11434).model_dump(), **changes}]


LARGEST = [
    ("sequence", limits.MAX_SEQUENCE, lambda n: {"sequence": n}),
    ("ttl", limits.MAX_TTL, lambda n: {"ttl": n}),
    ("load", 1000, lambda n: {"load": n}),
    ("alias", limits.MAX_ALIAS, lambda n: {"alias": "é" * n}),
    ("version", 32, lambda n: {"version": "1" * n}),
    ("offers", limits.MAX_OFFERS, lambda n: {"offers": _offers(n)}),
    ("labels", limits.MAX_LABELS, lambda n: {"labels": _keys(n, "x")}),
    ("label key", 32, lambda n: {"labels": {"k" * n: "x"}}),
    ("label value", limits.MAX_LABEL, lambda n: {"labels": {"k": "é" * n}}),
    ("capacity", limits.MAX_CAPACITIES, lambda n: {"capacity": _keys(n, 1)}),
    ("amount", limits.MAX_NUMBER, lambda n: {"capacity": {"k": n}}),
    ("agents", limits.MAX_AGENTS, lambda n: {"agents": _agents(n)}),
    ("agent labels", limits.MAX_LABELS, lambda n: {"agents": [{"name": "a", "role": "x", "labels": _keys(n, "x")}]}),
    ("digest", limits.DIGEST_BUCKETS, lambda n: {"digest": [bytes(8)] * n} if n >= limits.DIGEST_BUCKETS else {"digest": []}),
    ("station text", limits.MAX_STATION_TEXT, lambda n: {"station": {"relay": "é" * n}}),
    ("station number", limits.MAX_NUMBER, lambda n: {"station": {"paf": n}}),
    ("slug", 32, lambda n: {"offers": _offer(slug="s" * n, protocol=f"/x/{'s' * n}-{ID}")}),
    ("port", 65535, lambda n: {"offers": _offer(port=n)}),
    ("offer load", 1000, lambda n: {"offers": _offer(load=n)}),
    ("offer labels", limits.MAX_LABELS, lambda n: {"offers": _offer(labels=_keys(n, "x"))}),
]

SMALLEST = [
    ("sequence", 1, lambda n: {"sequence": n}),
    ("ttl", limits.MIN_TTL, lambda n: {"ttl": n}),
    ("load", 0, lambda n: {"load": n}),
    ("amount", 0, lambda n: {"capacity": {"k": n}}),
    ("station number", -limits.MAX_NUMBER, lambda n: {"station": {"paf": n}}),
    ("port", 1, lambda n: {"offers": _offer(port=n)}),
    ("offer load", 0, lambda n: {"offers": _offer(load=n)}),
    ("alias", 1, lambda n: {"alias": "a" * n}),
    ("label value", 1, lambda n: {"labels": {"k": "a" * n}}),
    ("label key", 1, lambda n: {"labels": {"k" * n: "a"}}),
]


@pytest.mark.parametrize(("limit", "change"), [row[1:] for row in LARGEST], ids=[row[0] for row in LARGEST])
def test_upper_bounds_hold_to_the_last_unit(limit: int, change: Any) -> None:
    assert reads(**change(limit - 1))
    assert reads(**change(limit))
    assert not reads(**change(limit + 1))


@pytest.mark.parametrize(("limit", "change"), [row[1:] for row in SMALLEST], ids=[row[0] for row in SMALLEST])
def test_lower_bounds_hold_to_the_last_unit(limit: int, change: Any) -> None:
    assert reads(**change(limit + 1))
    assert reads(**change(limit))
    assert not reads(**change(limit - 1))


@pytest.mark.parametrize("size", [0, 7, 8, 9])
def test_a_bucket_has_eight_bytes(size: int) -> None:
    assert reads(digest=[bytes(size)] * limits.DIGEST_BUCKETS) == (size == limits.DIGEST_BYTES)


@pytest.mark.parametrize("count", [1, 15, 17])
def test_a_digest_has_all_buckets_or_none(count: int) -> None:
    assert not reads(digest=[bytes(8)] * count)


OF_EVERY_TYPE: tuple[Any, ...] = (True, 0, 1, 90, "", "a", b"", b"a", [], [1], {}, {"a": 1}, 2**64 - 1, -1)


@pytest.mark.parametrize("field", sorted(_raw()))
def test_no_type_stands_for_another(field: str) -> None:
    """True is not 1, bytes are not text, a map is not a list: strict on every field of manifest and offer."""
    right = type(_raw()[field])
    for value in OF_EVERY_TYPE:
        assert type(value) is right or not reads(**{field: value}), f"{field} = {value!r}"


@pytest.mark.parametrize("field", sorted(_offer()[0]))
def test_no_type_stands_for_another_in_an_offer(field: str) -> None:
    right = type(_offer()[0][field])
    for value in OF_EVERY_TYPE:
        assert type(value) is right or not reads(offers=_offer(**{field: value})), f"{field} = {value!r}"


@pytest.mark.parametrize(
    "changes",
    [
        {"digest": ["12345678"] * 16},
        {"labels": {"k": b"x"}},
        {"labels": {"k": 1}},
        {"capacity": {"k": True}},
        {"capacity": {"k": "1"}},
        {"agents": [{"name": "a", "role": b"x", "labels": {}}]},
        {"offers": {"ollama": {}}},
        {"offers": [[]]},
    ],
)
def test_no_type_stands_for_another_further_in(changes: dict[str, Any]) -> None:
    assert not reads(**changes)


@pytest.mark.parametrize("field", sorted(_raw()))
def test_every_field_is_always_present(field: str) -> None:
    raw = _raw()
    del raw[field]
    with pytest.raises(InvalidField, match=field):
        Manifest.read(raw)


@pytest.mark.parametrize("field", sorted(_offer()[0]))
def test_every_field_of_an_offer_is_always_present(field: str) -> None:
    offer = _offer()[0]
    del offer[field]
    with pytest.raises(InvalidField, match=rf"offers\.0\.{field}"):
        Manifest.read({**_raw(), "offers": [offer]})


@pytest.mark.parametrize("field", sorted(STATION_FIELDS))
def test_station_fields_have_one_type(field: str) -> None:
    right, wrong = ("x", 1) if STATION_FIELDS[field] is str else (1, "x")
    assert reads(station={field: right})
    others: tuple[Any, ...] = (wrong, True, b"x", [], {}, [right])
    for value in others:
        assert not reads(station={field: value})


@given(codec_values(4))
def test_station_fields_of_newer_versions_are_ignored(value: Any) -> None:
    manifest = Manifest.read({**_raw(), "station": {"hex": "a", "later": value}})
    assert manifest.station == {"hex": "a"}


def test_the_allow_list_holds_for_ourselves_too() -> None:
    assert minimal(station={"address": "192.168.1.7"}).station == {}
    assert "192.168" not in repr(minimal(station={"address": "192.168.1.7"}).fields())


@pytest.mark.parametrize(
    "offers",
    [
        [make_offer("b", ID, 1), make_offer("a", ID, 1)],
        [make_offer("a", ID, 1), make_offer("a", ID, 2)],
        [make_offer("a", BOB.node_id, 1)],
    ],
    ids=["not ascending", "twice", "of another node"],
)
def test_offers_that_do_not_belong(offers: list[Any]) -> None:
    assert not reads(offers=[offer.model_dump() for offer in offers])


@pytest.mark.parametrize(
    "protocol", ["/x/ollama", f"/x/ssh-{ID}", f"/y/ollama-{ID}", f"/x/ollama-{ID} ", f"/X/ollama-{ID}", ""]
)
def test_a_protocol_is_derived(protocol: str) -> None:
    assert not reads(offers=_offer(protocol=protocol))


@pytest.mark.parametrize("names", [("b", "a"), ("a", "a")])
def test_agents_ascend(names: tuple[str, ...]) -> None:
    assert not reads(agents=[{"name": name, "role": "x", "labels": {}} for name in names])


@pytest.mark.parametrize(
    "node", ["", "x", ALICE.node_id[:-1], ed25519_node_id(bytes(32)), ed25519_node_id(b"\x01" + bytes(31))]
)
def test_a_node_id_can_be_verified(node: str) -> None:
    assert not reads(node=node, offers=[])


def test_an_rsa_node_may_speak() -> None:
    assert Manifest.read(minimal(RSA.node_id).fields()).node == RSA.node_id


def test_errors_show_a_peers_keys_escaped_and_cut() -> None:
    with pytest.raises(InvalidField) as caught:
        Manifest.read({**_raw(), "labels": {"\x1b[31m\u202e" * 100: "x"}})
    assert str(caught.value).isascii()
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_manifest_with_everything_at_its_limit_stays_below_the_number_of_values() -> None:
    labels = _keys(limits.MAX_LABELS, "x")
    manifest = minimal(
        offers=tuple(make_offer(f"s{number:03}", ID, 1, labels=labels) for number in range(limits.MAX_OFFERS)),
        labels=labels,
        capacity=_keys(limits.MAX_CAPACITIES, 1),
        agents=tuple(Agent(name=f"a{number:03}", role="x", labels=labels) for number in range(limits.MAX_AGENTS)),
        digest=(bytes(8),) * limits.DIGEST_BUCKETS,
        station={key: "x" if kind is str else 1 for key, kind in STATION_FIELDS.items()},
    )

    def count(value: Any) -> int:
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        return 1 + sum(count(item) for item in items)

    assert count(manifest.fields()) <= limits.MAX_ITEMS


@given(manifests())
@settings(max_examples=25)
def test_round_trip(manifest: Manifest) -> None:
    parsed = parse(sealed(manifest))
    assert parsed.manifest == manifest
    assert encode(parsed.manifest.fields()) == parsed.payload
    assert parsed.verify() == manifest


@given(manifests(), novelties())
@settings(max_examples=25)
def test_fields_of_a_newer_version_are_ignored_and_kept(manifest: Manifest, news: dict[str, Any]) -> None:
    raw = manifest.fields()
    raw["offers"] = [{**offer, **news} for offer in raw["offers"]]
    raw["agents"] = [{**agent, **news} for agent in raw["agents"]]
    payload = encode({**raw, **news})
    data = sealed_payload(payload, identity_of(manifest))
    parsed = parse(data)
    assert parsed.verify() == manifest
    assert (parsed.payload, parsed.data) == (payload, data)
    assert parsed.content_hash != parse(sealed(manifest)).content_hash


@given(manifests(), manifests())
@settings(max_examples=15)
def test_the_content_hash_covers_all_but_what_beats_change(one: Manifest, other: Manifest) -> None:
    beat = one.model_copy(
        update={
            "sequence": other.sequence,
            "load": other.load,
            "digest": other.digest,
            "offers": tuple(offer.model_copy(update={"load": other.load}) for offer in one.offers),
        }
    )
    still, again = parse(sealed(one)), parse(sealed(beat))
    assert still.content_hash == again.content_hash
    for change in ({"leaving": not one.leaving}, {"ttl": one.ttl % limits.MAX_TTL + 5}, {"alias": one.alias + "1"}):
        changed = one.model_copy(update=change)
        if len(changed.alias) <= limits.MAX_ALIAS and changed.ttl <= limits.MAX_TTL:
            assert parse(sealed(changed)).content_hash != still.content_hash


def test_the_full_sample_uses_every_field() -> None:
    manifest = full()
    assert set(manifest.station) == set(STATION_FIELDS)
    assert all(manifest.fields()[field] for field in ("offers", "labels", "capacity", "agents", "digest"))

"""Writes the golden vectors, always the same bytes: `python -m tests.unit.registry_schema.make_vectors`.

They are shipped with the contract (registry_schema/vectors) for whoever implements it in another language; docs/protocol.md
says how to read them. Signatures of Ed25519 and of RSA with PKCS #1 v1.5 are deterministic, so are the files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from registry_schema import DOMAIN, Agent, Manifest, ed25519_node_id, encode, limits, make_offer, parse, rsa_node_id, seal
from registry_schema.codec import decode
from tests.unit.registry_schema.identities import ALICE, ALICE_SEED, BOB, BOB_SEED, RSA, RSA_PKCS8, Identity, protobuf_key
from tests.unit.registry_schema.samples import NOW_MS, SWARM, full, minimal, usual
from tests.unit.registry_schema.spelling import Raw, spell, spell_pairs
from tests.unit.registry_schema.strategies import sealed_payload

FOLDER = Path(__file__).parents[3] / "registry_schema" / "vectors"

GROUP_ORDER = 2**252 + 27742317777372353535851937790883648493
"""Of Ed25519's base point (RFC 8032 §5.1)."""


def keys() -> dict[str, Any]:
    """The test keys. Anybody may know them: they identify nothing but these vectors."""
    return {
        "about": "Test keys. The private parts are public: never use them for anything else.",
        "alice": {"type": "Ed25519", "seed": ALICE_SEED.hex(), "node": ALICE.node_id},
        "bob": {"type": "Ed25519", "seed": BOB_SEED.hex(), "node": BOB.node_id},
        "rsa": {"type": "RSA", "pkcs8": RSA_PKCS8.hex(), "node": RSA.node_id, "key": (RSA.key or b"").hex()},
    }


def accepted() -> list[dict[str, Any]]:
    """Envelopes that every implementation admits, with what it must read in them."""
    rows: list[tuple[str, str, bytes]] = [
        ("minimal", "the least a node can say", _seal(minimal())),
        ("usual", "three services", _seal(usual())),
        ("full", "every field in use", _seal(full())),
        ("rsa", "a legacy identity: the envelope carries its key", _seal(usual(RSA.node_id), RSA)),
        ("another-node", "signed by bob", _seal(usual(BOB.node_id), BOB)),
        ("leaving", "the last word of a clean stop", _seal(minimal(leaving=True))),
        ("unicode", "several scripts, normal form C", _seal(_unicode())),
        ("most-offers", f"{limits.MAX_OFFERS} offers", _seal(_most_offers())),
        ("numbers", "numbers at the borders of msgpack's forms", _seal(_numbers())),
        ("newest", "exactly as far ahead as clocks may differ", _seal(minimal(sequence=NOW_MS + limits.MAX_SKEW_MS))),
        ("oldest", "the smallest sequence: old is the view's business, not the envelope's", _seal(minimal(sequence=1))),
        ("newer-version", "unknown fields at every level are ignored, and stay in the signed bytes", _newer_version()),
        ("largest", "exactly as many bytes as an envelope may have", _of_size(limits.MAX_ENVELOPE)),
    ]
    return [_accepted(*row) for row in rows]


def refused() -> list[dict[str, Any]]:
    """Envelopes that no implementation admits. Up to the last two groups all that can be are rightly signed, so that only the
    named fault refuses them."""
    return [
        {"name": name, "about": about, "reason": reason, "envelope": data.hex()}
        for reason, rows in (
            ("too-large", _too_large()),
            ("malformed", _malformed()),
            ("not-canonical", _not_canonical()),
            ("limit-exceeded", _limit_exceeded()),
            ("unsupported-version", _unsupported_version()),
            ("invalid-field", _invalid_field()),
            ("wrong-swarm", _wrong_swarm()),
            ("from-the-future", _from_the_future()),
            ("bad-identity", _bad_identity()),
            ("bad-signature", _bad_signature()),
        )
        for name, about, data in rows
    ]


Rows = Iterator[tuple[str, str, bytes]]


def _seal(manifest: Manifest, identity: Identity = ALICE) -> bytes:
    return seal(manifest, identity.sign, identity.key)


def _signed(fields: dict[str, Any], identity: Identity = ALICE) -> bytes:
    return sealed_payload(encode(fields), identity)


def _changed(identity: Identity = ALICE, **changes: Any) -> bytes:
    """A rightly signed envelope of the usual manifest with raw fields put in, whatever they are."""
    return _signed({**usual(identity.node_id).fields(), **changes}, identity)


def _outer(data: bytes) -> dict[str, Any]:
    outer = decode(data)
    assert isinstance(outer, dict)
    return outer


def _accepted(name: str, about: str, data: bytes) -> dict[str, Any]:
    parsed = parse(data)
    return {
        "name": name,
        "about": about,
        "envelope": data.hex(),
        "hash": parsed.hash.hex(),
        "content_hash": parsed.content_hash.hex(),
        "manifest": _as_json(parsed.manifest.fields()),
    }


def _as_json(value: Any) -> Any:
    """Byte strings as lowercase hex, the rest as JSON has it."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _as_json(item) for key, item in sorted(value.items())}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return value


def _unicode() -> Manifest:
    return minimal(
        alias="Café Ğ1 中文 ノード",
        labels={"city": "Zürich", "people": "Ελλάδα", "right-to-left": "שלום", "beyond-16-bits": "𝔘nicode"},
        station={"uplanet": "🐉 Drachen"},
    )


def _most_offers() -> Manifest:
    return minimal(
        offers=tuple(
            make_offer(f"service-{number:02}", ALICE.node_id, 8000 + number, labels={"model": f"model-{number}"}, load=number)
            for number in range(limits.MAX_OFFERS)
        )
    )


def _numbers() -> Manifest:
    borders = (0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, limits.MAX_NUMBER)
    station = {"paf": -1, "ncard": -32, "zcard": -33, "power_score": -limits.MAX_NUMBER}
    return minimal(capacity={f"n{number}": border for number, border in enumerate(borders)}, station=station)


def _newer_version() -> bytes:
    fields = usual().fields()
    news = {"x_later": [{"deep": [True, -1, b"\x00\xff", "text"]}]}
    offers = [{**offer, **news} for offer in fields["offers"]]
    return _signed({**fields, **news, "offers": offers, "station": {"x_later": [1, 2], "hex": "00"}})


def _of_size(size: int) -> bytes:
    filler = 0
    for _ in range(3):
        data = _signed({**minimal().fields(), "x_filler": b"\0" * filler})
        filler += size - len(data)
    return data


def _too_large() -> Rows:
    yield "one-byte-too-large", "well-formed and rightly signed", _of_size(limits.MAX_ENVELOPE + 1)


def _malformed() -> Rows:
    good = _seal(minimal())
    outer = _outer(good)
    yield "nothing", "no bytes", b""
    yield "cut-off", "the last byte is missing", good[:-1]
    yield "more-behind", "a byte after the envelope", good + b"\0"
    yield "unused-type", "msgpack never uses c1", b"\xc1"
    yield "not-a-map", "a list of the right things", encode([1, outer["payload"], outer["sig"]])
    yield "no-version", "v is missing", encode({name: value for name, value in outer.items() if name != "v"})
    yield "version-true", "true is not 1", encode({**outer, "v": True})
    yield "no-signature", "sig is missing", encode({name: value for name, value in outer.items() if name != "sig"})
    yield "text-signature", "sig is a string", encode({**outer, "sig": "a" * 64})
    yield "another-outer-field", "nothing unsigned may ride along", encode({**outer, "via": b"bob"})
    yield "payload-not-a-map", "the payload is a list", sealed_payload(encode([1]), ALICE)
    yield "payload-nothing", "the payload has no bytes", sealed_payload(b"", ALICE)
    yield "payload-cut-off", "the payload's last byte is missing", sealed_payload(outer["payload"][:-1], ALICE)
    yield "payload-more-behind", "a byte after the payload's map", sealed_payload(outer["payload"] + b"\0", ALICE)
    for name, text in (("surrogate", b"\xed\xa0\x80"), ("overlong", b"\xc0\x80"), ("latin-1", b"caf\xe9")):
        alias = Raw(bytes([0xA0 + len(text)]) + text)
        yield f"utf8-{name}", "the alias is not UTF-8", sealed_payload(_pairs(minimal(), alias=alias), ALICE)


def _pairs(manifest: Manifest, **changes: Any) -> bytes:
    return spell_pairs(sorted({**manifest.fields(), **changes}.items()))


PLACES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "manifest": lambda fields: fields,
    "labels": lambda fields: fields["labels"],
    "capacity": lambda fields: fields["capacity"],
    "station": lambda fields: fields["station"],
    "offer": lambda fields: fields["offers"][1],
    "offer-labels": lambda fields: fields["offers"][1]["labels"],
    "agent": lambda fields: fields["agents"][0],
    "agent-labels": lambda fields: fields["agents"][0]["labels"],
}
"""Every map of a manifest."""


def _ordered(place: str) -> dict[str, Any]:
    """The fields of a manifest in canonical order, with agents or a station only where `place` is in them."""
    fields = {**full().fields(), "labels": {"city": "Toulouse", "zone": "south"}}
    if not place.startswith("agent"):
        fields["agents"] = []
    if place != "station":
        fields["station"] = {}
    for agent in fields["agents"]:
        agent["labels"] = {"lang": "fr", "tone": "dry"}
    ordered = decode(encode(fields))
    assert isinstance(ordered, dict)
    return ordered


def _swapped(place: str) -> bytes:
    fields = _ordered(place)
    spot = PLACES[place](fields)
    first = next(iter(spot))
    spot[first] = spot.pop(first)
    return spell(fields)


def _with_nil(place: str) -> bytes:
    fields = _ordered(place)
    PLACES[place](fields)["zz"] = None
    return spell(fields)


def _not_canonical() -> Rows:
    fields = dict(sorted(minimal().fields().items()))
    pairs = list(fields.items())

    def raw(**changes: Any) -> bytes:
        return sealed_payload(_pairs(minimal(), **changes), ALICE)

    yield "long-integer", "load 0 as uint8", raw(load=Raw(b"\xcc\x00"))
    yield "signed-integer", "the sequence as int64", raw(sequence=Raw(b"\xd3" + NOW_MS.to_bytes(8, "big")))
    yield "long-text", "the swarm as str8", raw(swarm=Raw(b"\xd9\x06dragon"))
    yield "long-list", "offers as array16", raw(offers=Raw(b"\xdc\x00\x00"))
    yield "long-map", "labels as map16", raw(labels=Raw(b"\xde\x00\x00"))
    long = spell(fields, lambda ways: ways - 1)
    yield "all-long", "everything in its longest form", sealed_payload(long, ALICE)
    yield "keys-swapped", "two keys out of order", sealed_payload(spell_pairs([pairs[1], pairs[0], *pairs[2:]]), ALICE)
    yield "key-twice", "the same key and value twice", sealed_payload(spell_pairs([pairs[0], *pairs]), ALICE)
    yield "label-twice", "two values for one label", raw(labels=Raw(spell_pairs([("a", "1"), ("a", "2")])))
    yield "float", "load 0.0", raw(load=0.0)
    yield "float-unknown-field", "a float where this version does not look", raw(x_later=1.5)
    yield "nan", "not a number", raw(x_later=float("nan"))
    yield "nil", "no value", raw(x_later=None)
    yield "extension", "msgpack extension type 5", raw(x_later=Raw(b"\xd4\x05\x00"))
    yield "timestamp", "msgpack extension type -1", raw(x_later=Raw(b"\xd6\xff\x00\x00\x00\x00"))
    yield "integer-key", "a key that is a number", raw(labels=Raw(b"\x81\x01\xa1x"))
    yield "binary-key", "a key that is a byte string", raw(labels=Raw(b"\x81\xc4\x01a\xa1x"))
    for place in PLACES:
        yield f"swapped-in-{place}", "two keys out of order, one map down", sealed_payload(_swapped(place), ALICE)
    for place in ("manifest", "offer", "agent", "station"):
        yield f"nil-in-{place}", "a nil where this version does not look", sealed_payload(_with_nil(place), ALICE)
    outer = _outer(_seal(minimal()))
    ordered = sorted(outer.items())
    yield "outer-keys-swapped", "the envelope's keys out of order", spell_pairs(ordered[::-1])
    yield (
        "outer-long",
        "the envelope's own version as uint8",
        spell_pairs([*ordered[:2], ("v", Raw(b"\xcc\x01"))]),
    )
    yield "key-for-ed25519", "an Ed25519 id carries its own key", encode({**outer, "key": RSA.key})


def _limit_exceeded() -> Rows:
    nested: Any = 0
    for _ in range(limits.MAX_DEPTH):
        nested = [nested]
    yield "too-deep", f"{limits.MAX_DEPTH + 1} levels, in an unknown field", _changed(x_later=nested)
    yield "long-list", f"a list of {limits.MAX_LENGTH + 1}", _changed(x_later=[0] * (limits.MAX_LENGTH + 1))
    keys = {f"{number:03}": 0 for number in range(limits.MAX_LENGTH + 1)}
    yield "large-map", f"a map of {limits.MAX_LENGTH + 1}", _changed(x_later=keys)
    yield "long-text", f"{limits.MAX_TEXT + 1} bytes of text", _changed(x_later="a" * (limits.MAX_TEXT + 1))
    many = [[0] * 200] * (limits.MAX_ITEMS // 200 + 1)
    yield "many-values", f"more than {limits.MAX_ITEMS} values", _changed(x_later=many)
    yield "outer-too-deep", "a list in the envelope's own map", encode({**_outer(_seal(minimal())), "payload": []})


def _unsupported_version() -> Rows:
    for version in (0, 2):
        yield f"version-{version}", "this contract is version 1", encode({**_outer(_seal(minimal())), "v": version})


def _invalid_field() -> Rows:
    fields = usual().fields()
    offers = list(fields["offers"])
    yield "missing", "ttl is missing", _signed({name: value for name, value in fields.items() if name != "ttl"})
    yield (
        "missing-in-offer",
        "an offer without sticky",
        _changed(offers=[{k: v for k, v in offers[0].items() if k != "sticky"}]),
    )
    yield "load-true", "true is not 1", _changed(load=True)
    yield "leaving-1", "1 is not true", _changed(leaving=1)
    yield "alias-bytes", "a byte string is not text", _changed(alias=b"station-1")
    yield "digest-text", "text is not a byte string", _changed(digest=["12345678"] * limits.DIGEST_BUCKETS)
    yield "digest-short", "15 buckets", _changed(digest=[bytes(8)] * 15)
    yield "sequence-0", "below the first", _changed(sequence=0)
    yield "sequence-2-63", "beyond a signed 64-bit integer", _changed(sequence=2**63)
    yield "ttl-large", "more than an hour", _changed(ttl=limits.MAX_TTL + 1)
    yield "load-1001", "more than all", _changed(load=1001)
    for name, alias in (
        ("empty", ""),
        ("escape", "\x1b[31mred"),
        ("right-to-left-override", "\u202eevil"),
        ("zero-width", "a\u200bb"),
        ("filler", "a\u3164b"),
        ("nfd", "Cafe\u0301"),
        ("unassigned", "a\U000105c9b"),
        ("two-spaces", "a  b"),
        ("trailing-space", "a "),
        ("markup", "<b>"),
        ("shell", "$(reboot)"),
        ("path", "../../etc"),
        ("long", "a" * (limits.MAX_ALIAS + 1)),
    ):
        yield f"alias-{name}", "outside the grammar of an alias", _changed(alias=alias)
    yield "label-key", "an upper-case key", _changed(labels={"City": "x"})
    yield "label-value", "a line break", _changed(labels={"city": "a\nb"})
    yield "many-labels", "33 labels", _changed(labels={f"k{number}": "x" for number in range(limits.MAX_LABELS + 1)})
    yield (
        "slug",
        "an underscore",
        _changed(offers=[{**offers[0], "slug": "comfy_ui", "protocol": f"/x/comfy_ui-{ALICE.node_id}"}]),
    )
    yield "protocol-of-another", "bob's protocol", _changed(offers=[{**offers[0], "protocol": f"/x/comfyui-{BOB.node_id}"}])
    yield "offers-unordered", "not ascending by slug", _changed(offers=offers[::-1])
    yield "offer-twice", "one slug twice", _changed(offers=[offers[0], offers[0]])
    many = [make_offer(f"s{number:02}", ALICE.node_id, 1).model_dump() for number in range(limits.MAX_OFFERS + 1)]
    yield "many-offers", f"{limits.MAX_OFFERS + 1} offers", _changed(offers=many)
    yield "port-0", "not a port", _changed(offers=[{**offers[0], "port": 0}])
    yield "transport", "only tcp", _changed(offers=[{**offers[0], "transport": "udp"}])
    yield "scheme", "an unknown scheme", _changed(offers=[{**offers[0], "scheme": "ftp"}])
    yield "health", "an unknown health", _changed(offers=[{**offers[0], "health": "fine"}])
    agents = [Agent(name=name, role="x", labels={}).model_dump() for name in ("b", "a")]
    yield "agents-unordered", "not ascending by name", _changed(agents=agents)
    yield "station-type", "paf is a number", _changed(station={"paf": "14"})
    for name, node in (
        ("text", "station-1"),
        ("short", ALICE.node_id[:-1]),
        ("cid", "bafzaajaiaejcbzdibmxyzdjbbehgvizh6g5tikvy47mshdy6gwbruvgw"),
        ("small-order", ed25519_node_id(b"\x01" + bytes(31))),
        ("key-spelled-twice", ed25519_node_id((2**255 - 19 + 3).to_bytes(32, "little"))),
    ):
        yield f"node-{name}", "not an id that can be verified", _changed(node=node, offers=[])


def _wrong_swarm() -> Rows:
    yield "another", "a swarm of another name", _seal(minimal(swarm="uplanet"))
    yield "case", "names are compared byte by byte", _seal(minimal(swarm="Dragon"))


def _from_the_future() -> Rows:
    yield "one-millisecond", "just beyond what clocks may differ", _seal(minimal(sequence=NOW_MS + limits.MAX_SKEW_MS + 1))
    yield "fast-forward", "the largest sequence there is", _seal(minimal(sequence=limits.MAX_SEQUENCE))


def _bad_identity() -> Rows:
    outer = _outer(_seal(minimal(RSA.node_id), RSA))
    yield "no-key", "an RSA id without its key", encode({name: value for name, value in outer.items() if name != "key"})
    yield "another-key", "the key's hash is not the id", encode({**outer, "key": (RSA.key or b"")[:-1] + b"\x00"})
    modulus = (1 << 2047) + 1
    for name, key in (
        ("exponent-3", protobuf_key(RSAPublicNumbers(3, modulus).public_key())),
        ("1024-bits", protobuf_key(RSAPublicNumbers(65537, (1 << 1023) + 1).public_key())),
        ("long-varint", (RSA.key or b"")[:4] + bytes([(RSA.key or b"")[4] | 0x80, 0]) + (RSA.key or b"")[5:]),
        ("not-a-key", b"\x08\x00\x12\x80\x02" + bytes(256)),
    ):
        payload = encode(minimal(rsa_node_id(key)).fields())
        yield (
            name,
            "the id is the hash of a key that libp2p would not make",
            encode({"v": 1, "payload": payload, "sig": bytes(256), "key": key}),
        )


def _bad_signature() -> Rows:
    outer = _outer(_seal(minimal()))
    payload, signature = outer["payload"], outer["sig"]

    def with_signature(made: bytes) -> bytes:
        return encode({**outer, "sig": made})

    yield "of-another-node", "bob speaks for alice", with_signature(BOB.sign(DOMAIN + payload))
    yield "flipped-bit", "one bit", with_signature(signature[:-1] + bytes([signature[-1] ^ 1]))
    yield "nothing", "no bytes", with_signature(b"")
    yield "long", "a byte more", with_signature(signature + b"\0")
    yield "no-domain", "the payload alone", with_signature(ALICE.sign(payload))
    yield "another-domain", "made for something else", with_signature(ALICE.sign(b"dragon-message-v1\0" + payload))
    yield "no-libp2p-prefix", "not as key/sign makes it", with_signature(ALICE.raw_sign(DOMAIN + payload))
    varied = int.from_bytes(signature[32:], "little") + GROUP_ORDER
    yield "varied", "S + the group's order (RFC 8032 §5.1.7)", with_signature(signature[:32] + varied.to_bytes(32, "little"))
    yield "spliced", "a field of another manifest", encode({**outer, "payload": encode({**minimal().fields(), "load": 1})})
    rsa = _outer(_seal(minimal(RSA.node_id), RSA))
    yield "rsa-flipped-bit", "one bit", encode({**rsa, "sig": rsa["sig"][:-1] + bytes([rsa["sig"][-1] ^ 1])})
    yield "rsa-long", "a leading zero", encode({**rsa, "sig": b"\0" + rsa["sig"]})


def files() -> dict[str, str]:
    """Return every vector file's name and text."""
    contents = {
        "keys.json": keys(),
        "accepted.json": {"swarm": SWARM, "now_ms": NOW_MS, "vectors": accepted()},
        "refused.json": {"swarm": SWARM, "now_ms": NOW_MS, "vectors": refused()},
    }
    return {name: json.dumps(content, indent=1, ensure_ascii=False) + "\n" for name, content in contents.items()}


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_text(text, "utf-8")

"""Hypothesis strategies for the contract's values: manifests of a few fixed identities, and what newer versions might add."""

from __future__ import annotations

import unicodedata
from typing import Any

from hypothesis import strategies as st

from registry_schema import Agent, Manifest, Offer, limits, make_offer, seal
from registry_schema.codec import encode
from registry_schema.envelope import DOMAIN, ENVELOPE_VERSION
from registry_schema.manifest import STATION_FIELDS
from tests.unit.registry_schema.identities import ALICE, BOB, Identity, ed25519

IDENTITIES = (ALICE, BOB, *(ed25519(bytes([number]) * 32) for number in range(1, 9)))

_LETTERS = "abcxyzABC0189éßΩжשع中ああ٣𝔘"
_MARKS = "\u0300\u0323\u05b0"


def _words(inside: str, longest: int) -> st.SearchStrategy[str]:
    """A letter, then letters, marks, `inside` and single spaces, in normal form C."""
    rest = st.text(alphabet=_LETTERS + _MARKS + inside + " ", max_size=12)

    def spelled(first: str, rest: str) -> str:
        return unicodedata.normalize("NFC", " ".join((first + rest).split()))[:longest]

    return st.builds(spelled, st.sampled_from(_LETTERS), rest)


def slugs() -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-z0-9][a-z0-9-]{0,31}", fullmatch=True)


def label_keys() -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-z][a-z0-9._-]{0,31}", fullmatch=True)


def aliases() -> st.SearchStrategy[str]:
    return _words("_-", limits.MAX_ALIAS)


def label_values() -> st.SearchStrategy[str]:
    return _words("_:/+@,()%=-", limits.MAX_LABEL)


def station_texts() -> st.SearchStrategy[str]:
    return _words("<>\"'$&;|", limits.MAX_STATION_TEXT)


def labels() -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(label_keys(), label_values(), max_size=4)


def thousandths() -> st.SearchStrategy[int]:
    return st.integers(0, 1000)


def amounts() -> st.SearchStrategy[int]:
    return st.integers(0, limits.MAX_NUMBER)


@st.composite
def offers(draw: st.DrawFn, node_id: str) -> tuple[Offer, ...]:
    """Up to four offers of `node_id`, in order."""
    names = sorted(draw(st.sets(slugs(), max_size=4)))
    return tuple(
        make_offer(
            slug,
            node_id,
            draw(st.integers(1, 65535)),
            scheme=draw(st.sampled_from(["http", "https", "ws", "wss", "ssh", "tcp"])),
            labels=draw(labels()),
            health=draw(st.sampled_from(["passing", "warning", "critical", "unknown"])),
            load=draw(thousandths()),
            sticky=draw(st.booleans()),
        )
        for slug in names
    )


@st.composite
def stations(draw: st.DrawFn) -> dict[str, str | int]:
    keys = draw(st.sets(st.sampled_from(sorted(STATION_FIELDS)), max_size=4))
    texts, numbers = station_texts(), st.integers(-limits.MAX_NUMBER, limits.MAX_NUMBER)
    return {key: draw(texts) if STATION_FIELDS[key] is str else draw(numbers) for key in sorted(keys)}


@st.composite
def manifests(draw: st.DrawFn, identity: Identity | None = None, sequence: int | None = None) -> Manifest:
    """Manifests of `identity` (default: any of `IDENTITIES`) in the swarm `dragon`."""
    node_id = (identity or draw(st.sampled_from(IDENTITIES))).node_id
    agents = sorted(draw(st.sets(slugs(), max_size=2)))
    digest = draw(st.just(()) | st.tuples(*[st.binary(min_size=8, max_size=8)] * limits.DIGEST_BUCKETS))
    return Manifest(
        node=node_id,
        swarm="dragon",
        sequence=sequence if sequence is not None else draw(st.integers(1, limits.MAX_SEQUENCE)),
        ttl=draw(st.integers(limits.MIN_TTL, limits.MAX_TTL)),
        alias=draw(aliases()),
        version=draw(st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}", fullmatch=True)),
        offers=draw(offers(node_id)),
        labels=draw(labels()),
        capacity=draw(st.dictionaries(label_keys(), amounts(), max_size=3)),
        load=draw(thousandths()),
        agents=tuple(Agent(name=name, role=draw(label_values()), labels=draw(labels())) for name in agents),
        digest=digest,
        station=draw(stations()),
        leaving=draw(st.booleans()),
    )


def codec_values(max_leaves: int = 12) -> st.SearchStrategy[Any]:
    """Any value that the canonical codec has a place for, a few levels deep."""
    text = st.text(st.characters(codec="utf-8"), max_size=40)
    leaves = st.booleans() | st.integers(-(2**63), 2**64 - 1) | text | st.binary(max_size=40)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4),
        max_leaves=max_leaves,
    )


def novelties() -> st.SearchStrategy[dict[str, Any]]:
    """Fields that only a newer version knows."""
    return st.dictionaries(st.from_regex(r"x_[a-z]{1,12}", fullmatch=True), codec_values(4), min_size=1, max_size=3)


def identity_of(manifest: Manifest) -> Identity:
    return next(identity for identity in IDENTITIES if identity.node_id == manifest.node)


def sealed(manifest: Manifest) -> bytes:
    """Return `manifest` in the envelope that its own identity signs."""
    return seal(manifest, identity_of(manifest).sign)


def sealed_payload(payload: bytes, identity: Identity, **outer: Any) -> bytes:
    """Return an envelope of any bytes, rightly signed: what only the named node itself could send."""
    fields: dict[str, Any] = {"v": ENVELOPE_VERSION, "payload": payload, "sig": identity.sign(DOMAIN + payload), **outer}
    if identity.key is not None:
        fields.setdefault("key", identity.key)
    return encode(fields)

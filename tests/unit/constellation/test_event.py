"""An event is believed for its id and signature, and written anew from what was checked."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynostr.event import Event as Theirs

from dragon.constellation.event import MAX_EVENT_SIZE, Unsound, checked
from tests.unit.constellation.relays import ANNE, BERT

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(texts, st.lists(st.lists(texts, max_size=4), max_size=4), st.integers(0, 65_535), st.integers(0, 2**40))
def test_what_others_sign_is_sound_and_read_back_as_it_was(content: str, tags: list[list[str]], kind: int, at: int) -> None:
    """pynostr computes ids and signatures on its own: both must agree, whatever the text."""
    document = ANNE.event(content, kind=kind, at=at, tags=tags)
    event = checked(json.loads(json.dumps(document)))
    assert json.loads(event.data) == document
    assert b"\n" not in event.data
    assert Theirs.from_dict(json.loads(event.data)).verify()
    assert (event.id, event.pubkey, event.kind, event.created_at) == (document["id"], ANNE.pubkey, kind, at)


def test_fields_beside_the_seven_are_not_passed_on() -> None:
    event = checked({**ANNE.event("x"), "seen_on": ["wss://elsewhere"], "content ": "other"})
    assert set(json.loads(event.data)) == {"id", "pubkey", "created_at", "kind", "tags", "content", "sig"}


def test_a_name_given_twice_cannot_smuggle_another_content_in() -> None:
    """Readers differ in which of two they believe: what is stored has each once."""
    document = ANNE.event("signed")
    text = json.dumps(document)[:-1].replace("{", '{"content":"smuggled",', 1) + "}"
    assert json.loads(checked(json.loads(text)).data) == document


GOOD = ANNE.event("hello", tags=[["e", "0" * 64]])


@pytest.mark.parametrize("field", ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"])
@pytest.mark.parametrize("value", [None, 0, -1, 1.5, True, "", "x", [], {}, [[1]], ["x"], "F" * 64, 10**20])
def test_a_wrong_field_is_never_sound(field: str, value: Any) -> None:
    with pytest.raises(Unsound):
        checked({**GOOD, field: value})


@pytest.mark.parametrize("field", ["id", "pubkey", "created_at", "kind", "tags", "content", "sig"])
def test_a_missing_field_is_malformed(field: str) -> None:
    with pytest.raises(Unsound, match="malformed"):
        checked({name: value for name, value in GOOD.items() if name != field})


@pytest.mark.parametrize("document", [None, [], "x", 5, {}])
def test_what_is_no_event_is_malformed(document: Any) -> None:
    with pytest.raises(Unsound, match="malformed"):
        checked(document)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"sig": BERT.event("hello")["sig"]}, "bad signature"),
        ({"sig": "0" * 128}, "bad signature"),
        ({"sig": GOOD["sig"].upper()}, "malformed"),
        ({"id": "0" * 64}, "bad id"),
        ({"content": "hullo"}, "bad id"),
        ({"content": "\ud800"}, "malformed"),
    ],
)
def test_reasons(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unsound, match=reason):
        checked({**GOOD, **change})


def test_a_key_that_is_no_point_of_the_curve() -> None:
    author = "f" * 64
    spelt = json.dumps([0, author, 1, 1, [], "x"], separators=(",", ":")).encode()
    document = {
        "id": hashlib.sha256(spelt).hexdigest(),
        "pubkey": author,
        "created_at": 1,
        "kind": 1,
        "tags": [],
        "content": "x",
    }
    with pytest.raises(Unsound, match="bad signature"):
        checked({**document, "sig": "1" * 128})


def test_size() -> None:
    room = MAX_EVENT_SIZE - len(checked(ANNE.event("")).data)
    assert len(checked(ANNE.event("x" * room)).data) == MAX_EVENT_SIZE
    with pytest.raises(Unsound, match="oversize"):
        checked(ANNE.event("x" * (room + 1)))


@pytest.mark.parametrize(
    ("kind", "tags", "address"),
    [
        (1, [["d", "x"]], ""),
        (0, [], "0:{}:"),
        (3, [["d", "x"]], "3:{}:"),
        (10_002, [], "10002:{}:"),
        (30_023, [["d", "slug"], ["d", "second"]], "30023:{}:slug"),
        (30_023, [["d"]], "30023:{}:"),
        (30_023, [], "30023:{}:"),
        (22_242, [], ""),
    ],
)
def test_addresses(kind: int, tags: list[list[str]], address: str) -> None:
    assert checked(ANNE.event("", kind=kind, tags=tags)).address == address.format(ANNE.pubkey)


def test_what_a_deletion_names() -> None:
    tags = [["e", "1" * 64, "wss://x"], ["a", "30023:x:y"], ["k", "1"], ["e"], []]
    assert checked(ANNE.event("", kind=5, tags=tags)).deletes == ("1" * 64, "30023:x:y")
    assert checked(ANNE.event("", kind=1, tags=tags)).deletes == ()

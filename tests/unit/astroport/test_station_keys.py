"""Whose SSH key is believed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dragon.astroport.station_keys import FRESH, FUTURE, MAX_KEYS, KeyRefused, parse_key, select, speakers
from tests.unit.astroport.nostr import NOW, UPLANET, author, report, ssh_key

OWL, RAVEN, SELF = "12D3KooWOwl", "12D3KooWRaven", "12D3KooWSelf"
NODES = {node_id: frozenset({author(name).public_key.hex()}) for node_id, name in ((OWL, "owl"), (RAVEN, "raven"))}

Document = dict[str, Any]


def selected(*events: object, nodes: dict[str, frozenset[str]] | None = None) -> tuple[list[str], dict[str, int]]:
    found = select(events, nodes=NODES if nodes is None else nodes, uplanet=UPLANET, own_id=SELF, now=NOW)
    return [key.line for key in found.keys], dict(found.refused)


def line(node_id: str, name: str | None = None) -> str:
    return f"{ssh_key(name or node_id).rpartition(' ')[0]} dragon:{node_id}"


def test_a_station_speaks_for_itself_and_the_comment_is_ours() -> None:
    keys, refused = selected(report(OWL, author("owl")), report(RAVEN, author("raven"), ssh_pub=ssh_key("other") + "\n"))
    assert keys == [line(OWL), line(RAVEN, "other")]
    assert refused == {}


def test_a_captain_speaks_for_the_stations_that_name_it_and_for_no_other() -> None:
    """The stations' scripts sign their reports with the captain's key."""
    captain = author("captain").public_key.hex()
    nodes = {OWL: speakers({"hex": author("owl").public_key.hex(), "captain_hex": captain}), RAVEN: NODES[RAVEN]}
    keys, refused = selected(report(OWL, author("captain")), report(RAVEN, author("captain")), nodes=nodes)
    assert keys == [line(OWL)]
    assert refused == {"by an author who does not speak for that station": 1}


@pytest.mark.parametrize(
    ("station", "count"), [({}, 0), ({"hex": "AB" * 32, "captain_hex": ""}, 0), ({"captain_hex": "ab" * 32, "hex": 7}, 1)]
)
def test_who_speaks_for_a_station(station: dict[str, object], count: int) -> None:
    assert len(speakers(station)) == count


def test_the_newest_event_of_a_station_counts_in_any_order() -> None:
    old, new = (
        report(OWL, author("owl"), at=NOW - 60, ssh_pub=ssh_key("old")),
        report(OWL, author("owl"), ssh_pub=ssh_key("new")),
    )
    assert selected(old, new) == selected(new, old) == ([line(OWL, "new")], {})


def changed(event: Document, **fields: Any) -> Document:
    return {**event, **fields}


def forged(event: Document) -> Document:
    """Another key, with the id made to fit, but not the signature."""
    other = report(OWL, author("owl"), ssh_pub=ssh_key("mallory"))
    return {**other, "sig": event["sig"]}


HOSTILE: list[tuple[Callable[[], object], str]] = [
    (lambda: report(OWL, author("mallory")), "by an author who does not speak for that station"),
    (lambda: report(OWL, author("raven")), "by an author who does not speak for that station"),
    (lambda: report("12D3KooWNobody", author("owl")), "for a node without a signed manifest that names a NOSTR key"),
    (lambda: report(SELF, author("owl")), "of this station itself"),
    (lambda: report(OWL, author("owl"), swarm_id="g1Another"), "of another UPlanet"),
    (lambda: report(OWL, author("owl"), without="swarm_id"), "of another UPlanet"),
    (lambda: report(OWL, author("owl"), kind=1), "not of kind 30850"),
    (lambda: report(OWL, author("owl"), at=NOW - FRESH - 1), "older than nine days"),
    (lambda: report(OWL, author("owl"), at=NOW + FUTURE + 1), "from the future"),
    (lambda: report(OWL, author("owl"), without="ssh_pub"), "without an SSH key"),
    (lambda: forged(report(OWL, author("owl"))), "with a wrong id or signature"),
    (lambda: changed(report(OWL, author("owl")), content="{ }"), "with a wrong id or signature"),
    (lambda: changed(report(OWL, author("owl")), id="0" * 64), "with a wrong id or signature"),
    (lambda: changed(report(OWL, author("owl")), content="\ud800"), "with a wrong id or signature"),
    (lambda: changed(report(OWL, author("owl")), sig="0" * 127), "not an event"),
    (lambda: changed(report(OWL, author("owl")), created_at=True), "not an event"),
    (lambda: changed(report(OWL, author("owl")), created_at=str(NOW)), "not an event"),
    (lambda: changed(report(OWL, author("owl")), kind=30850.0), "not an event"),
    (lambda: changed(report(OWL, author("owl")), tags=[["station", 1]]), "not an event"),
    (lambda: changed(report(OWL, author("owl")), tags=[[]] * 3), "not an event"),
    (lambda: changed(report(OWL, author("owl")), tags=[["x"]] * 1000), "not an event"),
    (lambda: changed(report(OWL, author("owl")), content="x" * 70_000), "not an event"),
    (lambda: ["EVENT"], "not an event"),
    (lambda: None, "not an event"),
]


@pytest.mark.parametrize(("event", "why"), HOSTILE)
def test_what_is_not_believed_and_why(event: Callable[[], object], why: str) -> None:
    assert selected(event(), report(RAVEN, author("raven"))) == ([line(RAVEN)], {why: 1})


GOOD = ssh_key()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f'command="/bin/sh" {GOOD}',
        f"no-pty {GOOD}",
        f" {GOOD}",
        GOOD.replace("ssh-ed25519 ", "ssh-ed25519  "),
        f"{GOOD}\n{GOOD}",
        f"{GOOD}\n\n",
        f"{GOOD}\rssh-rsa AAAA",
        f"{GOOD}\u2028x",
        GOOD.replace("ssh-ed25519 ", "ssh-rsa "),
        "ssh-ed25519 " + "A" * 68,
        f"ssh-ed25519 {GOOD.split()[1][:-4]}",
        f"ssh-ed25519 {GOOD.split()[1]}AAAA",
        f"{GOOD} {'x' * 400}",
        f"{GOOD} \x1b[2J",
        f"{GOOD} é",
    ],
)
def test_only_one_bare_key_is_a_key(text: str) -> None:
    with pytest.raises(KeyRefused):
        parse_key(text)
    assert selected(report(OWL, author("owl"), ssh_pub=text))[0] == []


def test_a_key_with_or_without_comment() -> None:
    blob = GOOD.split()[1]
    assert parse_key(GOOD) == parse_key(f"ssh-ed25519 {blob}") == parse_key(f"ssh-ed25519 {blob} a b") == blob


def test_more_stations_than_a_file_holds() -> None:
    names = [f"12D3KooW{number:04}" for number in range(MAX_KEYS + 3)]
    keys, refused = selected(
        *(report(name, author(name)) for name in names),
        nodes={name: frozenset({author(name).public_key.hex()}) for name in names},
    )
    assert len(keys) == MAX_KEYS
    assert refused == {"more stations than one file holds": 3}

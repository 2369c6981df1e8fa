"""12345.json: our own, merged into another program's, and those of other nodes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.astroport.beacon import VOLATILE, document_of, is_tame, own_document, same_but_for_time
from dragon.astroport.beacon_reading import read_beacon
from dragon.astroport.levels import PublicKeys
from registry_schema.manifest import STATION_FIELDS
from registry_schema.texts import clean_text
from tests.testbed.bash_station import document as bash_document
from tests.unit.astroport.consumers import NOW, STATION, facts, station
from tests.unit.registry_schema.hostile import HOSTILE_NAMES
from tests.unit.registry_schema.identities import ALICE, BOB
from tests.unit.registry_schema.samples import minimal

ID = ALICE.node_id
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDvSMxlSsDLGs4EKwQdqaVcgM9jQmdQwFB9sJ1JpWfJ"

TEXTS = (
    "version", "created", "date", "hostname", "myIP", "myASTROPORT", "myIPFS", "myRELAY", "uSPOT", "ipfsnodeid", "astroport",
    "g1station", "g1swarm", "captain", "captainHEX", "SSHPUB", "NODEHEX", "NODEG1PUB", "STATION_LAT", "STATION_LON",
    "UPLANETG1PUB", "PAF", "NCARD", "ZCARD", "dragon_services",
)  # fmt: skip


def types(document: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in document.items()}


def test_our_own_has_the_types_that_readers_expect() -> None:
    document = own_document(facts(ID), ["ssh", "ollama", "ssh"], NOW)
    expected = {"boots": list, "economy": dict, "capacities": dict, "services": dict, "publisher": str}
    assert types(document) == dict.fromkeys(TEXTS, str) | expected
    assert document["dragon_services"] == "ollama,ssh"
    assert document["services"] == {"ipfs_p2p_services": ["x_ollama.sh", "x_ssh.sh"]}
    assert document["created"] == str(int(NOW))
    assert document["capacities"] == {"power_score": 42}
    assert (document["PAF"], document["NCARD"], document["ZCARD"]) == ("9", "1", "4")
    assert own_document(facts(ID, paf="14"), [], NOW)["PAF"] == "14"
    assert all(value is not None for value in document.values())


@pytest.mark.parametrize(
    ("my_ip", "addresses", "says"),
    [
        ("198.51.100.1", ("/ip4/192.0.2.7/tcp/4001",), "198.51.100.1"),
        ("", ("/ip6/2001:db8::7/tcp/4001", "/ip4/192.0.2.7/tcp/4001"), "192.0.2.7"),
        ("", ("/ip6/2001:db8::7/tcp/4001",), "127.0.0.1"),
        ("", (), "127.0.0.1"),
    ],
)
def test_the_address_of_a_station_whose_scripts_found_none_is_that_of_its_kubo(
    my_ip: str, addresses: tuple[str, ...], says: str
) -> None:
    document = own_document(facts(ID, my_ip=my_ip, addresses=addresses), (), NOW)
    assert (document["myIP"], document["astroport"]) == (says, f"http://{says}:12345")


def test_a_document_of_ours_is_made_anew() -> None:
    before = own_document(facts(ID, captain="old@example.org"), ["ssh"], NOW - 400)
    assert own_document(facts(ID), ["ollama"], NOW, before) == own_document(facts(ID), ["ollama"], NOW)


def test_what_others_find_out_stays_in_a_document_of_ours() -> None:
    before = own_document(facts(ID, power_score=7), ["ssh"], NOW - 400)
    found = before | {
        "capacities": {"power_score": 42, "available_space_gb": 100},
        "services": {"ipfs": {"active": True}, "ipfs_p2p_services": ["x_old.sh"]},
    }
    after = own_document(facts(ID, power_score=7), ["ollama"], NOW, found)
    assert after["capacities"] == {"power_score": 42, "available_space_gb": 100}
    assert after["services"] == {"ipfs": {"active": True}, "ipfs_p2p_services": ["x_ollama.sh"]}
    assert after["publisher"] == "dragon"


def test_another_programs_document_stays_but_for_what_we_know_better() -> None:
    theirs = bash_document(ID, int(NOW) - 9000, "npm,gone", uptime="0:40:58", captain=None, SSHPUB="", services={
        "ipfs": {"active": True}, "ipfs_p2p_services": ["x_gone.sh"]})  # fmt: skip
    merged = own_document(facts(ID, my_ip="192.0.2.9", keys=PublicKeys(x=KEY)), ["ollama", "npm"], NOW, theirs)
    kept = {key for key in theirs if merged[key] == theirs[key]}
    assert theirs.keys() - kept == {"created", "dragon_services", "services", "captain", "SSHPUB", "date"} & theirs.keys()
    assert merged["dragon_services"] == "npm,ollama"
    assert merged["services"] == {"ipfs": {"active": True}, "ipfs_p2p_services": ["x_npm.sh", "x_ollama.sh"]}
    assert merged["captain"] == "cap@example.org"
    assert merged["SSHPUB"] == KEY
    assert merged["created"] == str(int(NOW))
    assert "publisher" not in merged
    again = own_document(facts(ID, my_ip="192.0.2.9", keys=PublicKeys(x=KEY)), ["ollama", "npm"], NOW, merged)
    assert again == merged


@pytest.mark.parametrize(
    "previous", [{"services": []}, {"services": "x", "capacities": 7}, {"ipfsnodeid": BOB.node_id}, {"a": None}]
)
def test_a_broken_document_is_made_whole(previous: dict[str, Any]) -> None:
    document = own_document(facts(ID), ["ollama"], NOW, previous)
    assert document["ipfsnodeid"] == ID
    assert document["services"]["ipfs_p2p_services"] == ["x_ollama.sh"]
    assert set(TEXTS) <= set(document)


def test_another_nodes_document_says_what_its_manifest_says() -> None:
    document = document_of(station(ID, "ollama", "ssh", tier="brain-gpu", veteran_days=3, ssh_pub=KEY).manifest, NOW)
    keys = ("captain", "captainHEX", "NODEHEX", "PAF", "NCARD", "ZCARD", "uSPOT", "myRELAY")
    assert {key: document[key] for key in keys} == {
        "captain": "cap@example.org", "captainHEX": "b" * 64, "NODEHEX": "a" * 64, "PAF": "14", "NCARD": "1", "ZCARD": "4",
        "uSPOT": "http://127.0.0.1:54321", "myRELAY": "ws://127.0.0.1:7777",
    }  # fmt: skip
    assert document["capacities"] == {
        "power_score": 42, "qdrant_veteran_days": 3, "value_ratio": 1.5, "provider_tier": "brain-gpu"}  # fmt: skip
    assert document["g1swarm"].rpartition("/")[2] == STATION["channel"]
    assert document["SSHPUB"] == KEY
    assert (document["ipfsnodeid"], document["dragon_services"]) == (ID, "ollama,ssh")


def test_our_documents_are_read_by_our_own_reader() -> None:
    for document in (
        own_document(facts(ID, uplanet="g1" + "x" * 47, keys=PublicKeys(y=KEY)), ["ollama"], NOW),
        document_of(station(ID, "ollama", ssh_pub=KEY).manifest, NOW),
    ):
        beacon = read_beacon(json.dumps(document).encode())
        assert beacon.dropped == ()
        assert (beacon.node_id, beacon.slugs) == (ID, ("ollama",))
        assert beacon.station["captain"] == "cap@example.org"
        assert beacon.station["power_score"] == 42
        assert beacon.station["channel"] == STATION["channel"]


def test_what_a_manifest_does_not_say_is_kept_of_the_nodes_own_document() -> None:
    theirs = bash_document(ID, int(NOW) - 9000, "ssh,npm", captain="cap@example.com", NCARD="7")
    bare = minimal(ID, offers=station(ID, "ollama").manifest.offers)
    document = document_of(bare, NOW, theirs, also=["npm"])
    assert (document["captain"], document["NCARD"], document["myIP"]) == ("cap@example.com", "7", theirs["myIP"])
    assert document["dragon_services"] == "npm,ollama"
    assert document["capacities"] == theirs["capacities"]
    assert document_of(bare, NOW, document, also=["npm"]) == document


@pytest.mark.parametrize(
    "hostile",
    [
        {"ipfsnodeid": BOB.node_id, "captain": "mallory@example.org"},
        {"captain": "$(touch canary)"},
        {"NCARD": "a[$(touch canary)]", "ZCARD": "PATH", "PAF": 7},
        {"STATION_LAT": "x;reboot"},
        {"myIP": "`id`"},
        {"capacities": {"power_score": "a[$(id)]"}},
        {"services": {"x": ["\x1b[31m"]}},
        {"$(id)": "x"},
    ],
)
def test_what_could_harm_a_careless_reader_is_not_kept(hostile: dict[str, Any]) -> None:
    document = document_of(minimal(ID), NOW, {"ipfsnodeid": ID, **hostile})
    assert document == document_of(minimal(ID), NOW)


_station_texts = st.one_of(
    st.sampled_from([text for text in HOSTILE_NAMES if clean_text(text) == text]),
    st.text(max_size=30).map(clean_text).filter(lambda text: text is not None),
)


_numbers = st.integers(-(2**53) + 1, 2**53 - 1)
_stations = st.fixed_dictionaries(
    {}, optional={key: _station_texts if kind is str else _numbers for key, kind in STATION_FIELDS.items()}
)


@given(_stations)
@settings(max_examples=100)
def test_whatever_a_manifest_says_of_its_station_the_document_is_tame(fields: dict[str, Any]) -> None:
    document = document_of(minimal(ID, station=fields), NOW)
    assert is_tame(document)
    for key in ("PAF", "NCARD", "ZCARD", "STATION_LAT", "STATION_LON"):
        float(document[key])
    said = "".join(str(document[key]) for key in ("captain", "myRELAY", "uSPOT", "g1swarm", "hostname"))
    assert not set(said) & set("$`\"'\\ <>;|&")
    assert all(document[key] is not None for key in ("ipfsnodeid", "captain", "PAF", "NCARD", "ZCARD", "uSPOT"))


@pytest.mark.parametrize(
    ("value", "tame"),
    [
        ("a b", True), ("é", True), ("9", True), (7, True), (None, True), ({"a": ["b", {"c": 1.5}]}, True), ("[1]", True),
        ("$5", True), ("$(x)", False), ("${x}", False), ("`x`", False), ("a[$x]", False), ("a\nb", False), ({"`": 1}, False),
        ({"a": ["$(x)"]}, False),
    ],
)  # fmt: skip
def test_tame(value: Any, tame: bool) -> None:
    assert is_tame(value) is tame


def test_only_the_clock_moved() -> None:
    one = own_document(facts(ID), ["ollama"], NOW)
    assert same_but_for_time(one, own_document(facts(ID), ["ollama"], NOW + 900))
    assert not same_but_for_time(one, own_document(facts(ID), ["ssh"], NOW))
    assert set(one) >= VOLATILE

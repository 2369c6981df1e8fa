"""What a station's files say: read as data, whatever lies there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dragon.astroport.beacon import own_document
from dragon.astroport.facts import MAX_DOCUMENT, MAX_FACT, StationFacts, host_word, parse_document, read_facts, read_text
from dragon.astroport.fields import manifest_fields
from dragon.astroport.levels import PublicKeys
from dragon.astroport.power import Machine
from dragon.astroport.zen import Zen
from registry_schema.manifest import STATION_FIELDS
from tests.unit.astroport.consumers import facts
from tests.unit.registry_schema.hostile import HOSTILE_NAMES
from tests.unit.registry_schema.identities import ALICE
from tests.unit.registry_schema.samples import minimal

ID = ALICE.node_id
CHAN = "k51qzi5uqu5dh71qgwangrt6r0nd4094i88nsady6qgd1dhjcyfsaz7zpc0pn9"
G1 = "g1" + "x" * 47
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDvSMxlSsDLGs4EKwQdqaVcgM9jQmdQwFB9sJ1JpWfJ frd@owl"
MACHINE = Machine(cores=16, memory_mb=32768)


def nobody(_: str) -> str:
    return ""


def put(zen: Zen, place: str, text: str) -> Path:
    file = zen.root / place.replace("<id>", ID)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def read(zen: Zen, *, export: Callable[[str], str] = nobody, **environ: str) -> StationFacts:
    return read_facts(zen, {"HOME": str(zen.root.parent), "USER": "frd", **environ}, ID, export=export, measure=lambda: MACHINE)


def test_an_empty_station_has_the_usual_addresses_and_nothing_else(zen: Zen) -> None:
    found = read(zen)
    assert found == StationFacts(ID, hostname=found.hostname, user="frd", power_score=48, tier="brain-cpu")
    assert (found.relay, found.uspot) == ("ws://127.0.0.1:7777", "http://127.0.0.1:54321")


def test_a_station_in_use(zen: Zen) -> None:
    put(zen, "game/secret.nostr", f"NSEC=nsec1{'q' * 58}; SECHEX={'0' * 64}; NPUB=npub1{'q' * 58}; HEX={'AB' * 32};\n")
    put(zen, "game/players/cap@example.org/.player", "cap@example.org\n")
    (zen.game / "players" / ".current").symlink_to("cap@example.org")
    put(zen, "game/nostr/cap@example.org/HEX", "c" * 64 + "\n")
    put(zen, "game/nostr/other@example.org/HEX", "d" * 64)
    put(zen, "../.ssh/id_ed25519.pub", KEY + "\n")
    lines = ("PAF=14", 'export NCARD="1"', "ZCARD=4", f"UPLANETG1PUB={G1}", 'DRAGON_PRIVATE_SERVICES="qdrant  Ollama,npm"',
             'UPLANETNAME="secret"', "myIPFS=https://ipfs.example.org")  # fmt: skip
    put(zen, "Astroport.ONE/.env", "\n".join(lines))
    put(zen, "tmp/<id>/GPS.json", '{"lat": "43.60", "lon": 1.44}')
    put(zen, "tmp/my_ip_cache", "192.0.2.7 LAN\n")
    put(zen, "tmp/<id>/12345.json", json.dumps({
        "ipfsnodeid": ID, "g1swarm": f"http://127.0.0.1:8080/ipns/{CHAN}", "NODEG1PUB": G1, "PAF": "9",
        "capacities": {"power_score": 42.5, "value_ratio": 1.5, "qdrant_veteran_days": "3", "provider_tier": "brain-gpu"},
    }))  # fmt: skip
    found = read(zen, export=lambda mail: KEY if mail == "cap@example.org" else "")
    assert found == StationFacts(
        node_id=ID, hostname=found.hostname, user="frd", hex="ab" * 32, captain="cap@example.org", captain_hex="c" * 64,
        keys=PublicKeys(x=KEY, z=KEY), my_ip="192.0.2.7", my_ipfs="https://ipfs.example.org", relay="wss://relay.example.org",
        uspot="https://u.example.org", uplanet=G1, g1pub=G1, paf="14", ncard="1", zcard="4", latitude="43.60", longitude="1.44",
        power_score=42, value_ratio="1.5", veteran_days=3, tier="brain-gpu", channel=CHAN, multipass_count=2, zencard_count=1,
        private=frozenset({"qdrant", "ollama", "npm"}),
    )  # fmt: skip
    put(zen, "tmp/qdrant_veteran_since", f"{time.time() - 12 * 86400 - 60:.0f}\n")
    assert read(zen).veteran_days == 12  # it is older every day, whatever a document of before says
    assert found.document["PAF"] == "9"
    assert "nsec" not in repr(found)
    assert "secret" not in repr(found)


@pytest.mark.parametrize(
    ("env", "kept", "published", "known"),
    [
        (G1, "g1" + "L" * 47, "g1" + "M" * 47, G1),
        ("", G1 + "\n", "g1" + "M" * 47, G1),
        ("$(id)", "", G1, G1),
        ("", "a[$(id)]", G1, G1),
        ("", "", "", ""),
    ],
)
def test_a_uplanet_is_known_by_what_the_scripts_keep_of_it(zen: Zen, env: str, kept: str, published: str, known: str) -> None:
    """The scripts derive it from a secret and keep the result; a 12345.json of ours would say nothing of it."""
    put(zen, "Astroport.ONE/.env", f"UPLANETG1PUB={env}\n")
    put(zen, "tmp/UPLANETG1PUB", kept)
    put(zen, "tmp/<id>/12345.json", json.dumps({"ipfsnodeid": ID, "UPLANETG1PUB": published}))
    assert read(zen).uplanet == known


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("LAT=43.60; LON=-1.44\n", ("43.60", "-1.44")),
        ("# where we are\nLAT=48.8566    # Latitude (Paris)\nLON='2.3522'\n", ("48.8566", "2.3522")),
        ("LAT=0.1.2; LON=1\n", ("7", "8")),
        ("LAT=$(touch canary); LON=a[$(id)]\n", ("7", "8")),
        ("#LAT=1; LON=2", ("7", "8")),
        ("FLAT=1;BALLON=2", ("7", "8")),
        ("", ("7", "8")),
    ],
)
def test_where_the_station_is_stands_in_a_file_that_no_wipe_takes(zen: Zen, text: str, place: tuple[str, str]) -> None:
    put(zen, "tmp/<id>/12345.json", json.dumps({"ipfsnodeid": ID, "STATION_LAT": "7", "STATION_LON": "8"}))
    put(zen, "GPS", text)
    found = read(zen)
    assert (found.latitude, found.longitude) == place


@pytest.mark.parametrize(
    ("mine", "relay", "uspot"),
    [
        ("http://127.0.0.1:8080", "ws://127.0.0.1:7777", "http://127.0.0.1:54321"),
        ("https://ipfs.example.org", "wss://relay.example.org", "https://u.example.org"),
        ("http://192.168.1.7:8080", "ws://192.168.1.7:7777", "http://192.168.1.7:54321"),
        ("http://[::1]:8080", "ws://[::1]:7777", "http://[::1]:54321"),
        ("nonsense", "ws://127.0.0.1:7777", "http://127.0.0.1:54321"),
        ("http://[", "ws://127.0.0.1:7777", "http://127.0.0.1:54321"),
    ],
)
def test_addresses_follow_that_of_the_gateway(zen: Zen, mine: str, relay: str, uspot: str) -> None:
    found = read(zen, myIPFS=mine)
    assert (found.relay, found.uspot) == (relay, uspot)
    told = read(zen, myIPFS=mine, myRELAY="wss://other.example.org", uSPOT="https://spot.example.org")
    assert (told.relay, told.uspot) == ("wss://other.example.org", "https://spot.example.org")


FILES = (
    "game/secret.nostr", "game/players/.current/.player", "tmp/<id>/12345.json", "tmp/<id>/HEX", "tmp/<id>/GPS.json", "GPS",
    "tmp/<id>/z_ssh.pub", "tmp/<id>/_MySwarm.owl.html", "tmp/my_ip_cache", "Astroport.ONE/.env", "../.ssh/id_ed25519.pub",
    "♥Box",
)  # fmt: skip


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("odd", ["folder", "pipe", "loop", "endless", "huge", "binary", "denied"])
def test_odd_files_say_nothing(zen: Zen, file: str, odd: str) -> None:
    path = put(zen, file, "")
    path.unlink()
    match odd:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "loop":
            path.symlink_to(path)
        case "endless":
            path.symlink_to("/dev/zero")
        case "huge":
            path.write_text("HEX=" + "a" * (max(MAX_FACT, MAX_DOCUMENT) + 1))
        case "binary":
            path.write_bytes(bytes(range(256)) * 16)
        case "denied":
            path.write_text("x")
            path.chmod(0)
    found = read(zen)
    assert found == StationFacts(ID, hostname=found.hostname, user="frd", power_score=48, tier="brain-cpu")


def hostile_documents() -> list[Any]:
    values: list[Any] = [
        "$(touch canary)",
        "a[$(touch canary)]",
        "`id`",
        "\x1b[31m",
        "../..",
        "9" * 400,
        -1,
        1e308,
        [],
        {},
        None,
        True,
    ]
    return [[], "x", 7, None, *({"capacities": value} for value in values), *(everywhere(value) for value in values)]


def everywhere(value: Any) -> dict[str, Any]:
    keys = (
        "PAF",
        "NCARD",
        "ZCARD",
        "NODEHEX",
        "captainHEX",
        "UPLANETG1PUB",
        "NODEG1PUB",
        "STATION_LAT",
        "STATION_LON",
        "g1swarm",
    )
    inner = ("power_score", "value_ratio", "qdrant_veteran_days", "provider_tier")
    return {**dict.fromkeys(keys, value), "g1swarm": value, "capacities": dict.fromkeys(inner, value)}


@pytest.mark.parametrize("document", hostile_documents())
def test_a_hostile_document_never_reaches_the_manifest(zen: Zen, document: Any) -> None:
    put(zen, "tmp/<id>/12345.json", json.dumps(document))
    fields = manifest_fields(read(zen), captain=True)
    minimal(station=fields)
    said = " ".join(str(value) for key, value in fields.items() if key != "ssh_user")
    assert not set(said) & set("$`[]()\x1b")
    assert ".." not in said


@pytest.mark.parametrize(
    "text",
    [
        '{"a": NaN}',
        '{"a": [1e999]}',
        '{"a":' * 17 + "1" + "}" * 17,
        '{"a":' * 900 + "1" + "}" * 900,
        "[" * 100_000,
        '"' * 10,
        "{}" * 2,
        "\x00",
        "1" * 5000,
    ],
)
def test_what_is_no_document(text: str) -> None:
    assert parse_document(text) == {}


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_host_names_become_one_word(name: str) -> None:
    word = host_word(name)
    assert word
    assert word.isascii()
    assert word.replace("-", "").isalnum()
    assert len(word) <= 63


def test_the_manifest_takes_what_it_has_a_place_for() -> None:
    fields = manifest_fields(facts(ID, paf="9.5", uplanet=G1, tier="light", keys=PublicKeys(y=KEY)), captain=False)
    assert set(fields) <= set(STATION_FIELDS)
    assert minimal(station=fields).station == fields
    assert fields["paf"] == 10
    assert fields["ssh_pub"] == KEY.rpartition(" ")[0]  # without the comment: it names a person and a machine
    assert fields["level"] == "y"
    assert "captain" not in fields
    assert manifest_fields(facts(ID), captain=True)["captain"] == "cap@example.org"


def test_others_hear_the_prices_that_its_own_document_says() -> None:
    for priced in (facts(ID, paf="", ncard="", zcard=""), facts(ID, paf="14", ncard="2", zcard="5")):
        fields, document = manifest_fields(priced, captain=False), own_document(priced, (), 0.0)
        said = [str(fields[name]) for name in ("paf", "ncard", "zcard")]
        assert said == [document[name] for name in ("PAF", "NCARD", "ZCARD")]


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ws://127.0.0.1:7777", True),
        ("ws://localhost:7777", True),
        ("wss://relay.example.org", True),
        ("ws://192.168.1.7:7777", False),
        ("ws://8.8.8.8:7777", False),
        ("ws://[fe80::1]:7777", False),
        ("ws://owl:7777", False),
        ("ws://owl.local:7777", False),
        ("wss://user:secret@relay.example.org", False),
        ("javascript:alert(1)", False),
        ("", False),
        ("ws://[", False),
    ],
)
def test_addresses_of_machines_stay_here(url: str, said: bool) -> None:
    assert ("relay" in manifest_fields(facts(ID, relay=url), captain=False)) is said


@pytest.mark.parametrize("text", [*HOSTILE_NAMES, "a\nb", "x" * 2000])
def test_what_does_not_fit_is_left_out(text: str) -> None:
    fields = manifest_fields(facts(ID, tier=text, user=text, latitude=text, channel=text, captain=text), captain=True)
    minimal(station=fields)


def test_text_is_read_through_links_but_never_from_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(" a \n")
    (tmp_path / "b").symlink_to("a")
    assert read_text(tmp_path / "b") == "a"
    assert read_text(tmp_path / "a\0b") == ""
    assert read_text(tmp_path) == ""


def test_what_dragon_filled_in_for_want_of_a_fact_is_none(zen: Zen) -> None:
    ours = {"publisher": "dragon", "PAF": "9", "NCARD": "1", "ZCARD": "4", "STATION_LAT": "0", "STATION_LON": "0"}
    put(zen, "tmp/<id>/12345.json", json.dumps({**ours, "capacities": {"power_score": 12}}))
    put(zen, "tmp/<id>/_MySwarm.owl.html", f'<meta http-equiv="refresh" content="0; url=/ipns/{ID}">\n')
    found = read(zen)
    assert (found.paf, found.ncard, found.zcard, found.latitude, found.longitude, found.channel) == ("", "", "", "", "", "")
    assert found.power_score == 12, "measured by heartbox_analysis, in place"

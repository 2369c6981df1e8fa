"""Foreign files, read by strict grammars: what is right is understood, everything else is refused by name. THREATS 19."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.astroport.beacon_reading import MAX_BEACON, MAX_DEPTH, Beacon, read_beacon
from dragon.astroport.reading import (
    MAX_MAPPED,
    MAX_NAMES,
    MAX_SCRIPT,
    Script,
    Unreadable,
    read_listing,
    read_map,
    read_moats,
    read_script,
)
from registry_schema import Manifest
from registry_schema.limits import MAX_OFFERS
from tests.simulator.signers import Signer
from tests.testbed.bash_station import CHANNEL, document, script

NODE, OTHER = Signer("bash").node_id, Signer("other").node_id
GOOD = script(NODE, "ollama", 11434)


def reason(read: Any, data: bytes) -> str:
    with pytest.raises(Unreadable) as refused:
        read(data)
    return refused.value.reason


@pytest.mark.parametrize(
    ("data", "ms"),
    [
        (b"1764212400\n", 1764212400_000),
        (b"1764212400", 1764212400_000),
        (b"202611270300001234\n", 1795748400_000),
    ],
)
def test_moats_in_both_forms(data: bytes, ms: int) -> None:
    assert read_moats(data) == ms


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n", b"-1764212400", b"1764212400 1", b"a[$(touch canary)]", b"17642124001764212400", b"1764212400x" * 3, b"12",
        b"1764212400\0", "１７６４２１２４００".encode(), b"209913450300001234", b"1764212400\n`id`", b"0x64212400", b"1" * 40,
    ],
)  # fmt: skip
def test_moats_that_are_not_digits_alone(data: bytes) -> None:
    assert reason(read_moats, data) == "moats"


def test_a_script_says_what_stands_in_its_literal_lines() -> None:
    assert read_script(GOOD.encode()) == Script(NODE, "ollama", 11434, int(GOOD.split('ALT_PORT="')[1].split('"')[0]), None)
    assert read_script(script(NODE, "ssh", 22, user="pi").encode()).remote_user == "pi"
    assert read_script(script(NODE, "webtop-http", 3000).encode()).slug == "webtop-http"
    remarked = GOOD.replace('NATIVE_PORT="11434"', '  NATIVE_PORT="11434"  # preferred')
    assert read_script(remarked.encode()) == read_script(GOOD.encode())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (GOOD + 'NATIVE_PORT="1"\n', "script-twice"),
        (GOOD + "NATIVE_PORT=1\n", "script-computed"),
        (GOOD + "  export NATIVE_PORT=$(touch canary)\n", "script-computed"),
        (GOOD + "true; PROTO=`touch canary`\n", "script-computed"),
        (GOOD + 'NODE_ID+="x"\n', "script-computed"),
        (GOOD.replace('NATIVE_PORT="11434"', 'NATIVE_PORT="$(touch canary)"'), "script-computed"),
        (GOOD.replace('NATIVE_PORT="11434"', 'NATIVE_PORT="a[$(touch canary)]"'), "script-computed"),
        (GOOD.replace('NATIVE_PORT="11434"', "NATIVE_PORT='11434'"), "script-computed"),
        (GOOD.replace('NATIVE_PORT="11434"', 'NATIVE_PORT="0"'), "script-port"),
        (GOOD.replace('NATIVE_PORT="11434"', 'NATIVE_PORT="65536"'), "script-port"),
        (GOOD.replace('NATIVE_PORT="11434"', 'NATIVE_PORT="-1"'), "script-port"),
        (GOOD.replace('NATIVE_PORT="11434"', ""), "script-incomplete"),
        (GOOD.replace('ALT_PORT="', 'ALT_PORT="x'), "script-port"),
        (GOOD.replace("/x/ollama-", "/x/qdrant.-"), "script-protocol"),
        (GOOD.replace("/x/ollama-", "/x/../../-"), "script-protocol"),
        (GOOD.replace("/x/ollama-", "/x/OLLAMA-"), "script-protocol"),
        (GOOD.replace(f'NODE_ID="{NODE}"', f'NODE_ID="{OTHER}"'), "script-protocol"),
        (GOOD.replace(NODE, "../../../etc"), "script-protocol"),
        (script(NODE, "ssh", 22, user="pi.-@x"), "script-user"),
        (script(NODE, "ssh", 22, user="$(id)"), "script-computed"),
        (GOOD + "\0", "script-control"),
        (GOOD + "\x1b[2J", "script-control"),
        (GOOD + "#" * MAX_SCRIPT, "script-large"),
        ("", "script-bare"),
        ("#!/bin/bash\ntouch canary\n", "script-bare"),
    ],
)
def test_a_script_of_any_other_form_is_refused(data: str, why: str) -> None:
    assert reason(read_script, data.encode()) == why


def test_a_script_in_another_encoding() -> None:
    assert reason(read_script, GOOD.encode("utf-16")) == "script-encoding"


def test_a_beacon_in_the_names_of_the_manifest() -> None:
    beacon = read_beacon(json.dumps(document(NODE, 1, "ollama,strfry,ollama")).encode())
    assert beacon == Beacon(
        NODE,
        "vm.localhost",
        "12345.0.2",
        ("ollama", "strfry"),
        {
            "hex": "cd" * 32,
            "captain_hex": "ab" * 32,
            "captain": "captain+vm@example.org",
            "relay": "ws://127.0.0.1:7777",
            "uplanet": "g1" + "U" * 46,
            "uspot": "http://127.0.0.1:54321",
            "paf": 9,
            "ncard": 1,
            "zcard": 4,
            "ssh_pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBVZ0m1J1c9dYH0hA8mOeZ0Jt2KcX9m6vYb1M3tQ2nXk",
            "latitude": "43.60",
            "longitude": "1.44",
            "g1pub": "g1" + "K" * 46,
            "channel": CHANNEL,
            "power_score": 42,
            "tier": "brain-gpu",
        },
    )


HOSTILE: list[object] = [
    "$(touch canary)", "`touch canary`", "a[$(touch canary)]", "../../../etc/passwd", "x\n\x1b[2J", "x\0", "‮gnp.exe",
    "<script>", "'; touch canary; '", {"a": 1}, [1], True, 1e400, float("nan"), 10**400, "9" * 5000, "\ud800", -5, " ", "1 2",
]  # fmt: skip


@pytest.mark.parametrize("key", [*document(NODE, 1), *(f"capacities.{key}" for key in ("power_score", "provider_tier"))])
@pytest.mark.parametrize("value", HOSTILE, ids=lambda value: repr(value)[:20])
def test_a_hostile_value_is_dropped_and_the_rest_stays(key: str, value: object) -> None:
    given = document(NODE, 1, "ollama", value_ratio="1.5")
    if key == "ipfsnodeid":
        assert reason(read_beacon, json.dumps({**given, key: value}).encode()) == "beacon-id"
        return
    table, _, inner = key.partition(".")
    hostile = {**given, table: {**given["capacities"], inner: value} if inner else value}
    found = read_beacon(json.dumps(hostile).encode())
    fine = read_beacon(json.dumps(given).encode())
    for name, kept in found.station.items():
        assert kept == fine.station.get(name) or type(kept) is int or kept == "-5"
    assert set(found.slugs) <= {"ollama"}
    assert found.hostname in ("", "vm.localhost")
    Manifest.model_validate(Signer("bash").manifest(1, (), station=dict(found.station)).fields())  # all that is left fits


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "beacon-json"),
        (b"", "beacon-json"),
        (b"[]", "beacon-id"),
        (b"null", "beacon-id"),
        (b"{}", "beacon-id"),
        (b'{"ipfsnodeid": "../../x"}', "beacon-id"),
        (b'{"a": ' + b"[" * 100_000, "beacon-deep"),
        (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "beacon-deep"),
        (b'{"a": ' + b"1" * 6000 + b"}", "beacon-json"),
        (b"\xff\xfe", "beacon-encoding"),
        (b'{"a": "\x01"}', "beacon-control"),
        (b" " * (MAX_BEACON + 1), "beacon-large"),
    ],
)
def test_a_beacon_of_another_shape_is_refused(data: bytes, why: str) -> None:
    assert reason(read_beacon, data) == why


@pytest.mark.parametrize("data", [b'"\\"' * 43_000, b"[]" * 65_000, b'{"' * 60_000, b'"' + b"\\" * 130_000, b"[" * 131_000])
def test_no_beacon_takes_long_to_refuse(data: bytes) -> None:
    began = time.process_time()
    with pytest.raises(Unreadable):
        read_beacon(data)
    assert time.process_time() - began < 20  # of our own work, however busy the machine is; quadratic work takes minutes


def test_brackets_in_texts_are_no_depth() -> None:
    assert read_beacon(json.dumps(document(NODE, 1, note='["\\"[[[' * 100)).encode()).node_id == NODE


def test_a_listing_names_what_is_there() -> None:
    names = ["x_ollama.sh", "x_ssh.sh", "x_.sh", "x_$(id).sh", "x_../a.sh", "x_A.sh", "12345.json", "_MySwarm.moats",
             "_MySwarm.vm.html", "y_ssh.pub", "x_ssh.pub", "TW"]  # fmt: skip
    listing = read_listing(names)
    assert (listing.slugs, listing.dropped, listing.hostname, listing.level) == (("ollama", "ssh"), 4, "vm", "y")
    assert (listing.has_beacon, listing.has_manifest) == (True, False)
    assert read_listing(["dragon.manifest"]).has_manifest
    assert len(read_listing(f"x_s{number}.sh" for number in range(500)).slugs) == MAX_OFFERS
    with pytest.raises(Unreadable, match="entries"):
        read_listing(str(number) for number in range(MAX_NAMES + 1))


def test_a_map_names_nodes() -> None:
    assert read_map([NODE, "..", f"../{NODE}", OTHER, NODE, "", "12D3KooW"]) == tuple(sorted((NODE, OTHER)))
    assert len(read_map(Signer(number).node_id for number in range(MAX_MAPPED + 9))) == MAX_MAPPED


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_refused_by_name(data: bytes) -> None:
    for read in (read_moats, read_script, read_beacon):
        with suppress(Unreadable):
            read(data)

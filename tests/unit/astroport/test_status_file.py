"""The status file: what bash gets that sources it, whatever a value holds; read back as data."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dragon.astroport.status_file import Connection, StatusFile, compose, node_hex_of, parse, port_in
from dragon.errors import HomeError

HOSTILE = [
    "$(touch PWNED)", "`touch PWNED`", "a'; touch PWNED; '", 'a"; touch PWNED; "', "a\nCONNECTION_TYPE=LOCAL",
    "a\r\ntouch PWNED", "a; touch PWNED", "& touch PWNED", "a[$(touch PWNED)]", "~/x", "*", "$HOME", "\\", "'",
    "é ☃", "", "\x1b[2Jx", "-n", "#x", "!x",
]  # fmt: skip


def connection(**fields: object) -> Connection:
    usual = {"service": "ollama", "provider": "12D3KooWx", "route": "p2p", "port": 11434, "url": "http://127.0.0.1:11434"}
    return Connection(**{**usual, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", HOSTILE)
def test_sourcing_is_safe_whatever_a_value_holds(value: str, tmp_path: Path) -> None:
    file = tmp_path / "status"
    file.write_text(compose(connection(provider=value, service="comfyui"), 1_700_000_000, value))
    script = 'set -eu; cd "$1"; source ./status; printf "%s\\0" "$CONNECTION_TYPE" "$CONNECTION_DETAILS" "$CONNECTION_PORT"; ls'
    told = subprocess.run(["bash", "-c", script, "bash", str(tmp_path)], capture_output=True, check=True, timeout=30)
    kind, details, port, listing = told.stdout.decode().split("\0")
    assert (kind, port) == ("P2P", "11434")
    assert "\n" not in details
    assert listing.split() == ["status"]
    if value.isprintable():
        assert details == value
    types = [line for line in file.read_text().splitlines() if line.startswith("CONNECTION_TYPE=")]
    assert types == ["CONNECTION_TYPE=P2P"]  # for those who grep
    assert parse(file.read_text())["CONNECTION_DETAILS"] == details


@pytest.mark.parametrize(
    ("fields", "lines"),
    [
        ({}, ["CONNECTION_TYPE=P2P", "CONNECTION_DETAILS=12D3KooWx", "CONNECTION_PORT=11434"]),
        ({"route": "local"}, ["CONNECTION_TYPE=LOCAL", "CONNECTION_DETAILS='Local service'", "CONNECTION_PORT=11434"]),
        ({"route": "ssh6", "provider": "ssh6:u@[::1]:22"},
         ["CONNECTION_TYPE=SSH_IPv6", "CONNECTION_DETAILS='[::1]:22'", "CONNECTION_PORT=11434"]),
        ({"route": "ssh4", "provider": "ssh4:u@station.example:2122"},
         ["CONNECTION_TYPE=SSH_IPv4", "CONNECTION_DETAILS=station.example:2122", "CONNECTION_PORT=11434"]),
        ({"service": "strfry", "route": "local", "port": 7777, "url": "ws://127.0.0.1:7777"},
         ["CONNECTION_TYPE=LOCAL", "CONNECTION_DETAILS='Local strfry'", "RELAY_URL=ws://127.0.0.1:7777"]),
        ({"service": "strfry", "port": 9999, "url": "ws://127.0.0.1:9999"},
         ["CONNECTION_TYPE=P2P", "CONNECTION_DETAILS=12D3KooWx", "RELAY_URL=ws://127.0.0.1:9999"]),
        ({"service": "comfyui"},
         ["CONNECTION_TYPE=P2P", "CONNECTION_DETAILS=12D3KooWx", "CONNECTION_PORT=11434", f"CONNECTION_NODE_HEX={'ab' * 32}"]),
    ],
)  # fmt: skip
def test_the_keys_of_each_kind(fields: dict[str, object], lines: list[str]) -> None:
    text = compose(connection(**fields), 1_700_000_000, "ab" * 32)
    time = next(line for line in text.splitlines() if line.startswith("CONNECTION_TIME="))
    assert [line for line in text.splitlines() if line != time] == lines
    assert port_in(parse(text)) == connection(**fields).port
    assert (
        subprocess.run(["date", "-d", time.partition("=")[2], "+%s"], capture_output=True, text=True).stdout == "1700000000\n"
    )


@pytest.mark.parametrize(
    ("text", "port"),
    [
        ('CONNECTION_TYPE="P2P"\nCONNECTION_PORT="11434"\n', 11434),
        ("CONNECTION_PORT=11434", 11434),
        ("RELAY_URL=ws://localhost:9999/", 9999),
        ("CONNECTION_PORT=$(reboot)", None),
        ("CONNECTION_PORT='1", None),
        ("CONNECTION_PORT=1 2", None),
        ("\0\xff garbage", None),
        ("RELAY_URL=ws://localhost", None),
        ("", None),
    ],
)
def test_it_is_read_as_data(text: str, port: int | None) -> None:
    assert port_in(parse(text)) == port


def test_it_is_replaced_in_one_step_and_only_what_is_needed_is_made(tmp_path: Path) -> None:
    file = StatusFile(tmp_path / "zen", "ollama")
    assert file.read() == {}
    file.remove()
    file.write(connection())
    file.write(connection(port=21259))
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == [
        "zen", "zen/tmp", "zen/tmp/ollama_connection.status",
    ]  # fmt: skip
    assert file.read()["CONNECTION_PORT"] == "21259"
    file.remove()
    assert file.read() == {}


def test_a_link_in_its_place_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    (tmp_path / "tmp").mkdir()
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "tmp" / "ollama_connection.status").symlink_to(tmp_path / "victim")
    StatusFile(tmp_path, "ollama").write(connection())
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "zen").write_text("a file")
    with pytest.raises(HomeError):
        StatusFile(tmp_path / "zen", "ollama").write(connection())
    StatusFile(tmp_path / "zen", "ollama").remove()


def test_the_nostr_key_of_a_node_comes_from_itself_then_from_the_stations_cache(tmp_path: Path) -> None:
    said, cached, own = "ab" * 32, "cd" * 32, "ef" * 32
    assert node_hex_of({}, tmp_path, "12D3KooWx") == ""
    (tmp_path / "tmp" / "12D3KooWx").mkdir(parents=True)
    (tmp_path / "tmp" / "12D3KooWx" / "HEX").write_text(f"{own}\n")
    assert node_hex_of({}, tmp_path, "12D3KooWx") == own
    (tmp_path / "tmp" / "swarm" / "12D3KooWx").mkdir(parents=True)
    (tmp_path / "tmp" / "swarm" / "12D3KooWx" / "HEX").write_text(cached.upper())
    assert node_hex_of({"hex": "$(reboot)"}, tmp_path, "12D3KooWx") == cached
    assert node_hex_of({"hex": said}, tmp_path, "12D3KooWx") == said
    assert node_hex_of({}, tmp_path, f"..{os.sep}..{os.sep}tmp") == ""

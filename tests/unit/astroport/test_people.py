"""A station's people, read from its files, whatever lies there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dragon.astroport.people import MAX_FRIENDS_FILE, station_people
from dragon.astroport.zen import Zen

NODE = "12D3KooWBhvjEYbKrqB1HphkWkZyZyXzqYdmcKgFxT3b1SUzEi7i"
A, B, C, D, E, F = (letter * 64 for letter in "abcdef")
DATE_LIKE = "12345678" + "2024" + "ab" * 26


@pytest.fixture
def zen(tmp_path: Path) -> Zen:
    return Zen(tmp_path)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_everybody_is_found_where_the_scripts_put_them(zen: Zen) -> None:
    put(zen.game / "nostr" / "alice@example.org" / "HEX", f"{A}\n")
    put(zen.game / "nostr" / "bob@example.org" / "HEX", B.upper())
    put(zen.game / "secret.nostr", f"NSEC=nsec1x; NPUB=npub1x; HEX={C};\n")
    put(zen.balise(NODE) / "HEX", D)
    put(zen.balise(NODE) / "12345.json", json.dumps({"captainHEX": E, "NODEHEX": D}))
    put(zen.flashmem / "tiddlywikis" / "one" / "HEX", F)
    put(zen.strfry / "amisOfAmis.txt", f"{DATE_LIKE}\n\n{A}\nnot a key\n{DATE_LIKE}\n")
    found = station_people(zen, NODE)
    assert found.people == (A, B, E, F)
    assert found.station == (C, D)
    assert found.friends == (DATE_LIKE, A)


def test_a_folder_without_a_station_has_nobody(zen: Zen) -> None:
    found = station_people(zen, NODE)
    assert (found.people, found.station, found.friends) == ((), (), ())


@pytest.mark.parametrize("secret", [f"NSEC=x\nHEX={C}\n", f'HEX="{C}"', f"export HEX='{C}'", f"NPUB=a;HEX={C}"])
def test_the_nodes_key_is_read_as_data(zen: Zen, secret: str) -> None:
    put(zen.game / "secret.nostr", secret)
    assert station_people(zen, NODE).station == (C,)


def test_hostile_files_are_absent_and_harm_nothing(zen: Zen, tmp_path: Path) -> None:
    cards = zen.game / "nostr"
    put(cards / "huge" / "HEX", A * 1000)
    put(cards / "command" / "HEX", "$(touch /tmp/owned)" + A)
    put(cards / "two" / "HEX", f"{B}\n{C}\n")
    (cards / "folder" / "HEX").mkdir(parents=True)
    (cards / "fifo").mkdir()
    os.mkfifo(cards / "fifo" / "HEX")
    (cards / "loop").mkdir()
    (cards / "loop" / "HEX").symlink_to(cards / "loop" / "HEX")
    put(zen.balise(NODE) / "12345.json", "[" * 100_000)
    put(zen.strfry / "amisOfAmis.txt", "x" * (MAX_FRIENDS_FILE + 1))
    (zen.flashmem).mkdir()
    (zen.flashmem / "around").symlink_to(tmp_path)
    found = station_people(zen, NODE)
    assert found.people == (B,), "one file is one key: its first line"
    assert found.friends == ()


def test_a_node_id_that_is_a_path_is_not_followed(zen: Zen) -> None:
    put(zen.root / "HEX", A)
    assert station_people(zen, "..").station == ()


def test_keys_below_too_many_folders_are_not_looked_for(zen: Zen) -> None:
    put(zen.flashmem / "/".join("abcdefgh") / "HEX", A)
    put(zen.flashmem / "/".join("abcdef") / "HEX", B)
    assert station_people(zen, NODE).people == (B,)

"""A station's list of services and its private ones, as settings of the catalogue."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dragon.astroport.modules import (
    MAX_LIST_BYTES,
    catalogue_from,
    overlay,
    parse_modules,
    parse_private,
    with_station_catalogue,
)
from dragon.astroport.zen import Zen
from dragon.config import Settings, load_settings
from dragon.home import Home
from dragon.probe import Catalogue, catalogue_of

STATION = """\
# name|port|check|install_group|label
duniter-g1|9944|docker:duniter-smith|duniter|Duniter v2s Mirror G1
icecast|8111|auto|icecast|Icecast Live Broadcasting
nextcloud-app|8001|dockerimg:nextcloud-aio|nextcloud|NextCloud Apache App
ollama|11434|pgrep:ollama|gpu-ai|Ollama LLM API
npm|81|auto|core|Nginx Proxy Manager Admin
comfyui|8189|systemctl:comfyui|gpu-ai|ComfyUI Image Generation
leann|-|-|leann|

jukebox|8200|pgrep:^juke(box)?$|music|Jukebox of the village
"""


@pytest.fixture
def zen(tmp_path: Path) -> Zen:
    zen = Zen(tmp_path / "home" / ".zen")
    zen.modules_list.parent.mkdir(parents=True)
    zen.modules_list.write_text(STATION)
    return zen


def settings_of(tmp_path: Path, text: str = "") -> Settings:
    home = tmp_path / "dragon"
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text)
    return load_settings(Home(home), environ={})


def catalogue(tmp_path: Path, zen: Zen, text: str = "") -> Catalogue:
    return catalogue_of(with_station_catalogue(settings_of(tmp_path, text), zen, tmp_path / "sshd_config").catalogue)


def evidence(catalogue: Catalogue, slug: str) -> list[str]:
    return [str(each) for each in catalogue.get(slug).evidence]


def test_rows_say_port_and_sign_and_the_rest_stays_as_shipped(tmp_path: Path, zen: Zen) -> None:
    found = catalogue(tmp_path, zen)
    assert evidence(found, "icecast") == ["port"]
    assert evidence(found, "ollama") == ["process:ollama", "docker:ollama"]
    assert evidence(found, "comfyui") == ["systemd:comfyui.service"]
    assert evidence(found, "nextcloud-app") == ["dockerimg:nextcloud-aio"]
    assert (found.get("comfyui").port, found.get("comfyui").test) == (8189, "/system_stats")
    assert found.get("npm").private  # the station's list publishes it to everybody; we do not
    own = found.get("jukebox")
    assert (own.port, own.label, own.scheme, evidence(found, "jukebox")) == (
        8200, "Jukebox of the village", "tcp", ["process:^juke(box)?$"],
    )  # fmt: skip
    assert "leann" not in found


def test_the_operators_tables_win_key_by_key(tmp_path: Path, zen: Zen) -> None:
    found = catalogue(
        tmp_path, zen, '[catalogue.comfyui]\nport = 9000\n[catalogue.jukebox]\nlabel = "Mine"\naccess = "public"\n'
    )
    assert (found.get("comfyui").port, evidence(found, "comfyui")) == (9000, ["systemd:comfyui.service"])
    assert (found.get("jukebox").label, found.get("jukebox").access, found.get("jukebox").port) == ("Mine", "public", 8200)


@pytest.mark.parametrize(
    ("config", "port"),
    [
        ("#Port 23\nPort 2222\nPort 2223\n", 2222),
        ("  port\t2222 # mine\n", 2222),
        ("Port 0\n", 22),
        ("Port 99999\n", 22),
        ("GatewayPorts 2222\nPorts 2222\nPort 22x\n", 22),
        ("", 22),
    ],
)
def test_ssh_is_where_the_machines_sshd_listens(tmp_path: Path, zen: Zen, config: str, port: int) -> None:
    (tmp_path / "sshd_config").write_text(config)
    assert catalogue(tmp_path, zen).get("ssh").port == port
    assert catalogue(tmp_path, zen, "[catalogue.ssh]\nport = 24\n").get("ssh").port == 24


def test_what_the_list_never_publishes_is_not_offered_unless_the_operator_says_so(tmp_path: Path, zen: Zen) -> None:
    zen.modules_list.write_text("ollama|11434|-|gpu-ai|Ollama\nvane|-|auto|ai|Vane\nicecast|8111|someday:x|a|b\n")
    found = catalogue(tmp_path, zen, "[catalogue.vane]\nsticky = true\n")
    assert {slug: found.get(slug).private for slug in ("ollama", "vane", "icecast", "orpheus")} == {
        "ollama": True, "vane": False, "icecast": True, "orpheus": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "private"),
    [
        ('DRAGON_PRIVATE_SERVICES="qdrant"', ("qdrant",)),
        ('DRAGON_PRIVATE_SERVICES="qdrant ollama npm"', ("qdrant", "ollama", "npm")),
        ("export DRAGON_PRIVATE_SERVICES='qdrant,  Ollama\tnpm' # two", ("qdrant", "ollama", "npm")),
        ("DRAGON_PRIVATE_SERVICES=ssh;echo", ("ssh", "echo")),
        ('DRAGON_PRIVATE_SERVICES="qdrant \\\n  npm"', ("qdrant", "npm")),
        ("DRAGON_PRIVATE_SERVICES=qdrant\nDRAGON_PRIVATE_SERVICES=npm\n", ("npm",)),
        ('DRAGON_PRIVATE_SERVICES=qdrant\nDRAGON_PRIVATE_SERVICES="$DRAGON_PRIVATE_SERVICES npm"\n', ("qdrant", "npm")),
        ("DRAGON_PRIVATE_SERVICES=$(touch owned) ollama", ()),
        ("#DRAGON_PRIVATE_SERVICES=ollama", ()),
        ("DRAGON_PRIVATE_SERVICES=", ()),
        ("", ()),
    ],
)
def test_private_services_any_number_of_them(text: str, private: tuple[str, ...]) -> None:
    assert parse_private(text)[0] == private


def test_the_station_hides_and_never_shows(tmp_path: Path, zen: Zen) -> None:
    zen.env_file.write_text('myIPFS=http://127.0.0.1:8080\nDRAGON_PRIVATE_SERVICES="ollama strfry jukebox"\n')
    found = catalogue(tmp_path, zen, '[catalogue]\nalso_private = ["icecast"]\n')
    private = {entry.slug for entry in found.entries() if entry.private}
    assert private == {"ollama", "strfry", "jukebox", "icecast", "qdrant", "npm", "webtop-http", "webtop-https"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Ollama|11434|auto|x|y", "no slug"),
        ("$(touch owned)|1|auto|x|y", "no slug"),
        ("../../etc|1|auto|x|y", "no slug"),
        ("a", "expected name|port"),
        ("a|0|auto||", "no port"),
        ("a|65536|auto||", "no port"),
        ("a|8080 ; reboot|auto||", "no port"),
        ("a|٣|auto||", "no port"),
        ("a|1|pgrep:[||", "cannot be used"),
        ("a|1|systemctl:../x y||", "cannot be used"),
        ("a|1|docker:x\x1b[2J||", "cannot be used"),
        ("a|1|auto||\na|2|auto||", "already"),
    ],
)
def test_a_line_that_cannot_be_read_is_told_and_passed_over(line: str, said: str) -> None:
    rows, _, wrong = parse_modules(f"{line}\nzz|7|auto||\n")
    assert "zz" in rows
    assert len(wrong) == 1
    assert said in wrong[0]


def test_files_that_are_something_else(tmp_path: Path, zen: Zen, caplog: pytest.LogCaptureFixture) -> None:
    zen.modules_list.write_bytes(b"a|1|auto||\n" * (MAX_LIST_BYTES // 11 + 1))
    zen.env_file.mkdir()
    with caplog.at_level(logging.WARNING):
        assert catalogue(tmp_path, zen) == catalogue_of(settings_of(tmp_path).catalogue)
    assert [("larger than" in each.message, ".env" in each.message) for each in caplog.records] == [
        (True, False),
        (False, True),
    ]
    zen.modules_list.write_bytes(bytes(range(256)) * 200)
    assert len(catalogue_from(zen).troubles) <= 22
    zen.modules_list.write_text("".join(f"s{n}|{n + 1}|auto||\n" for n in range(400)))
    station = catalogue_from(zen)
    assert len(station.rows) == 256
    assert "not read" in station.troubles[-1]


def test_without_a_station_or_switched_off_nothing_changes(tmp_path: Path, zen: Zen) -> None:
    settings = settings_of(tmp_path)
    assert with_station_catalogue(settings, Zen(tmp_path / "nowhere")) is settings
    off = settings_of(tmp_path, '[astroport]\nenabled = "off"\n')
    assert with_station_catalogue(off, zen) is off


def test_the_flags_of_the_settings_survive_so_that_reload_keeps_them(tmp_path: Path, zen: Zen) -> None:
    settings = load_settings(Home(tmp_path), {"catalogue.only": "jukebox"}, environ={})
    found = with_station_catalogue(settings, zen)
    assert found._overrides == {"catalogue.only": "jukebox"}
    assert not catalogue_of(found.catalogue).get("jukebox").private
    assert overlay(settings.catalogue, catalogue_from(zen)) == found.catalogue

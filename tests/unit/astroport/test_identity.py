"""One identity: what a station changes in the settings, and what the operator said stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dragon.astroport.holding import LOCK, held
from dragon.astroport.identity import on_station, station_of
from dragon.astroport.zen import Zen
from dragon.config import Settings, load_settings
from dragon.errors import HomeError
from dragon.home import Home
from dragon.kubo.engine import is_managed


@pytest.fixture
def station(tmp_path: Path) -> dict[str, str]:
    """The environment of a station's user."""
    (tmp_path / ".zen" / "game").mkdir(parents=True)
    return {"HOME": str(tmp_path)}


def settings(tmp_path: Path, **overrides: str) -> Settings:
    return load_settings(Home(tmp_path / "dragon"), {key.replace("__", "."): text for key, text in overrides.items()}, {})


@pytest.mark.parametrize(
    ("overrides", "managed", "publisher"),
    [
        pytest.param({}, False, "astroport", id="the station's own Kubo, whose name its scripts publish"),
        pytest.param({"registry__publisher": "dragon"}, False, "dragon", id="told to publish"),
        pytest.param({"registry__publisher": "off"}, False, "off", id="told not to"),
        pytest.param({"kubo__managed": "true"}, True, "auto", id="a daemon of our own, whose name is ours"),
        pytest.param({"kubo__binary": "/opt/ipfs"}, True, "auto", id="naming a binary means our own"),
        pytest.param({"node__isolated": "true"}, True, "auto", id="so does an isolated one"),
        pytest.param({"kubo__api": "/ip4/127.0.0.1/tcp/5002"}, False, "astroport", id="another existing one"),
        pytest.param({"astroport__enabled": "off"}, True, "auto", id="no station"),
    ],
)
def test_what_a_station_changes(
    tmp_path: Path, station: dict[str, str], overrides: dict[str, str], managed: bool, publisher: str
) -> None:
    adjusted = on_station(settings(tmp_path, **overrides), station)
    assert (is_managed(adjusted), adjusted.registry.publisher) == (managed, publisher)
    assert on_station(adjusted, station) == adjusted, "twice is as good as once"


def test_elsewhere_nothing_changes(tmp_path: Path) -> None:
    given = settings(tmp_path)
    assert on_station(given, {"HOME": str(tmp_path)}) is given
    assert station_of(given, {"HOME": str(tmp_path)}) is None
    assert station_of(settings(tmp_path, astroport__enabled="on"), {"HOME": str(tmp_path)}) == Zen(tmp_path / ".zen")


def test_the_station_s_private_services_and_list_count(tmp_path: Path, station: dict[str, str]) -> None:
    programs = Zen.locate(station).programs
    (programs / "IA").mkdir(parents=True)
    (programs / ".env").write_text('DRAGON_PRIVATE_SERVICES="qdrant ollama npm"\n')
    (programs / "IA" / "modules.list").write_text("zelkova|9123|auto|x|Zelkova\n")
    adjusted = on_station(settings(tmp_path), station)
    assert set(adjusted.catalogue.also_private) == {"qdrant", "ollama", "npm"}
    assert adjusted.catalogue.entries["zelkova"].port == 9123


# -- two Dragons on one ZEN_HOME --------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from dragon.astroport.holding import held
from dragon.astroport.zen import Zen
from dragon.home import Home
with held(Zen(Path(sys.argv[1])), Home(Path("/their/home"))) as trouble:
    print(trouble or "held", flush=True)
    sys.stdin.read()
"""


def test_the_second_is_refused_with_a_name_and_death_lets_go(tmp_path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "held\n"
    with pytest.raises(HomeError, match=f"pid {first.pid}, home /their/home") as refused, held(Zen(tmp_path), Home(tmp_path)):
        pass
    assert "ZEN_HOME" in refused.value.hint
    first.kill()
    first.wait()
    first.stdin.close()
    first.stdout.close()
    with held(Zen(tmp_path), Home(tmp_path)) as trouble:
        assert trouble == ""
        assert json.loads((tmp_path / LOCK).read_text()) == {"pid": os.getpid(), "home": str(tmp_path)}


def test_a_station_that_cannot_be_locked_is_served_all_the_same(tmp_path: Path) -> None:
    with held(Zen(tmp_path / "missing"), Home(tmp_path)) as trouble:
        assert str(tmp_path / "missing" / LOCK) in trouble
    (tmp_path / LOCK).symlink_to("/etc/passwd")
    with held(Zen(tmp_path), Home(tmp_path)) as trouble:
        assert trouble != ""
    assert Path("/etc/passwd").stat().st_size > 100


def test_a_lock_with_nonsense_in_it_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(b"\xff" * 10_000)
    with held(Zen(tmp_path), Home(tmp_path)) as trouble:
        assert trouble == ""

"""A station whose Kubo is the oldest that is supported beside one with the pinned version: everything works between them."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from dragon.kubo.binary import MINIMUM, version_of
from tests.testbed import older_kubo
from tests.testbed.netns import unable
from tests.testbed.station import OLLAMA, Station, Stations, wait_for

pytestmark = [
    pytest.mark.skipif(bool(why := unable()), reason=why or ""),
    pytest.mark.skipif(not older_kubo.binary().is_file(), reason="Kubo 0.40 is not built: `make system` does it"),
]

BOUND = 40.0


def resolved(reader: Station, name: str) -> str:
    """Return where a name points, "" while nobody has published it."""
    try:
        return reader.ipfs("name", "resolve", "--nocache", name).strip()
    except AssertionError:
        return ""


def test_a_station_on_the_oldest_kubo_offers_uses_and_publishes(tmp_path: Path, kubo_binary: Path) -> None:
    old = older_kubo.binary()
    assert (version_of(old) or ())[:2] == MINIMUM
    with Stations(tmp_path, kubo_binary) as stations:
        older, newer = stations.add("older", binary=old), stations.add("newer")
        older.serve(tables='[registry]\npublisher = "dragon"\n')
        newer.serve()
        for station, other in ((older, newer), (newer, older)):
            service = station.run_service()
            script = other.swarm / station.id / "x_ollama.sh"
            wait_for(script.exists, BOUND, lambda: f"{older.dragon.log}\n{newer.dragon.log}")
            opened = other.bash(script)
            assert opened.returncode == 0, opened
            assert other.ask(OLLAMA)["pid"] == service.pid
            assert other.bash(script, "stop").returncode == 0
            service.stop()
            wait_for(lambda: not script.exists(), BOUND, lambda: other.dragon.log)  # noqa: B023
        assert older.dragon.json("status")["kubo"]["version"].startswith("0.40.")
        path = wait_for(partial(resolved, newer, older.id), BOUND, lambda: older.dragon.log)
        assert json.loads(newer.ipfs("cat", f"{path}/12345.json"))["ipfsnodeid"] == older.id
        doctor = {found["name"]: found for found in json.loads(older.dragon.run("doctor", "--json").stdout)}
        assert doctor["version"]["ok"]
        assert doctor["IPNS"]["ok"]

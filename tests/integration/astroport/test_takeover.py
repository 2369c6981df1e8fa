"""Two stations without systemd, taken over by hand: what the scripts of the one do is seen on the other."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed.netns import unable
from tests.testbed.station import OLLAMA, Station, Stations, wait_for

pytestmark = pytest.mark.skipif(bool(why := unable()), reason=why or "")

BOUND = 30.0
"""Seconds that anything may take on a busy machine: a bound, not a figure."""


@pytest.fixture
def stations(tmp_path: Path, kubo_binary: Path) -> Iterator[tuple[Station, Station]]:
    with Stations(tmp_path, kubo_binary) as made:
        alpha, beta = made.add("alpha"), made.add("beta")
        for station in (alpha, beta):
            scripts = station.zen / "Astroport.ONE"
            for script in (scripts / "RUNTIME" / "DRAGON_p2p_ssh.sh", scripts / "IA" / "services" / "ollama.me.sh"):
                script.parent.mkdir(exist_ok=True)
                script.write_text("#!/bin/bash\n# the original\n")
                script.chmod(0o755)
        (alpha.home / ".ssh").mkdir()
        (alpha.home / ".ssh" / "id_ed25519.pub").write_text(f"ssh-ed25519 {_blob(alpha.id)} captain@alpha\n")
        alpha.run_service()
        alpha.serve()
        beta.serve()
        yield alpha, beta


def _blob(node_id: str) -> str:
    """The SSH key whose peer id is the node id: a station of level y."""
    from registry_schema.ids import base58_decode

    return base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + base58_decode(node_id)[-32:]).decode()


def script(station: Station) -> Path:
    return station.zen / "Astroport.ONE" / "RUNTIME" / "DRAGON_p2p_ssh.sh"


def dragon(station: Station, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command on the station's own host: it asks the station's Kubo itself."""
    command = [*station.host.enter, sys.executable, "-m", "dragon", "astroport", *words]
    return subprocess.run(command, env=station.dragon.env, capture_output=True, text=True, timeout=60, check=False)


def manager(station: Station, *words: str) -> subprocess.CompletedProcess[str]:
    return station.bash(station.zen / "Astroport.ONE" / "IA" / "services" / "ollama.me.sh", *words)


def test_off_and_on_of_one_station_as_the_other_sees_it(stations: tuple[Station, Station]) -> None:
    alpha, beta = stations

    def log() -> str:
        return f"{alpha.dragon.log}\n{beta.dragon.log}"

    for station in (alpha, beta):
        done = dragon(station, "takeover", "--yes")
        assert done.returncode == 0, done.stderr
        assert "systemctl --user daemon-reload" in done.stdout, "no systemd here: the commands are told"
    cached = beta.swarm / alpha.id / "x_ollama.sh"
    wait_for(cached.exists, BOUND, log)
    wait_for((alpha.balise / "y_ssh.pub").exists, BOUND, log)

    done = manager(beta, "P2P")
    assert done.returncode == 0, done
    assert beta.ask(OLLAMA)["name"] == "ollama"
    assert manager(beta, "OFF").returncode == 0

    assert alpha.bash(script(alpha), "OFF").returncode == 0
    wait_for(lambda: not cached.exists(), BOUND, log)
    wait_for(lambda: not {path.name for path in alpha.balise.iterdir()} & {"x_ollama.sh", "y_ssh.pub"}, BOUND, log)
    assert (alpha.sees(beta) or {})["state"] == "live", "a stopped station still sees the others"
    assert manager(beta, "P2P").returncode == 1

    assert alpha.bash(script(alpha), "ON").returncode == 0
    wait_for(cached.exists, BOUND, log)
    wait_for((alpha.balise / "y_ssh.pub").exists, BOUND, log)
    assert beta.bash(cached).returncode == 0
    assert beta.bash(cached, "stop").returncode == 0

    for station in (alpha, beta):
        done = dragon(station, "release", "--yes")
        assert done.returncode == 0, done.stderr
        assert "a node still runs here" in done.stdout
        assert script(station).read_text() == "#!/bin/bash\n# the original\n"
    assert alpha.dragon.terminate() == 0
    assert alpha.bash(script(alpha), "ON").returncode == 0, "the original again"


def test_without_a_node_on_fails_as_the_original_does_without_a_daemon(stations: tuple[Station, Station]) -> None:
    alpha, _ = stations
    assert dragon(alpha, "takeover", "--yes").returncode == 0
    assert alpha.dragon.terminate() == 0
    for word in ("ON", "OFF"):
        done = alpha.bash(script(alpha), word)
        assert done.returncode == 1
        assert "dragon serve" in done.stderr

"""A station with its own Kubo under a real systemd, taken over and given back by the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragon.astroport.unit import Scope, filled, source, values_for
from dragon.cli.executable import executable
from tests.testbed.kubo import KuboDaemon
from tests.testbed.node import wait_for
from tests.testbed.ports import free_port
from tests.testbed.services import RunningService, start_service
from tests.testbed.systemd import SystemdUser

pytestmark = pytest.mark.timeout(300)

PATIENT = 60.0
"""Seconds for what takes one or two on an idle machine."""

UNIT = "dragon-station.service"


class Station:
    """A home with a `.zen`, a Kubo as ipfs.service, and an ollama."""

    def __init__(self, systemd: SystemdUser, kubo: KuboDaemon, service: RunningService, folder: Path) -> None:
        self.systemd, self.kubo, self.service, self.home = systemd, kubo, service, folder
        self.zen, self.dragon_home = folder / ".zen", folder / ".local" / "share" / "dragon"
        self.script = self.zen / "Astroport.ONE" / "RUNTIME" / "DRAGON_p2p_ssh.sh"
        self.manager = self.zen / "Astroport.ONE" / "IA" / "services" / "ollama.me.sh"
        for unit in (UNIT, "ipfs.service"):  # there is no journal here
            (systemd.units / f"{unit}.d").mkdir()
            output = f"append:{systemd.folder / 'log'}"
            (systemd.units / f"{unit}.d" / "log.conf").write_text(
                f"[Service]\nStandardOutput={output}\nStandardError={output}\n"
            )
        systemd.start(
            "ipfs.service",
            f"ExecStart={kubo.binary} daemon\nEnvironment=IPFS_PATH={kubo.repo} IPFS_TELEMETRY=off\nRestart=on-failure",
        )
        for script in (self.script, self.manager):
            script.parent.mkdir(parents=True)
            script.write_text("#!/bin/bash\n# the original\n")
            script.chmod(0o755)
        self.dragon_home.mkdir(parents=True)
        (self.dragon_home / "config.toml").write_text(
            f'[node]\nalias = "station"\nswarm = "units"\n[kubo]\napi = "{kubo.api}"\n[catalogue]\nonly = ["ollama"]\n'
            f'[catalogue.ollama]\nport = {service.port}\nevidence = ["port"]\n[constellation]\nenabled = false\n'
        )
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("DRAGON_", "IPFS_", "ZEN_", "XDG_"))
        }
        self.env = {**inherited, "HOME": str(folder), "XDG_RUNTIME_DIR": str(systemd.runtime), "NO_COLOR": "1"}
        self.cron = {name: value for name, value in self.env.items() if name != "XDG_RUNTIME_DIR"}

    def dragon(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dragon", *words], env=self.env, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}{self.log}"
        return done.stdout

    @property
    def log(self) -> str:
        return (self.systemd.folder / "log").read_text(errors="replace")[-3000:]

    def listeners(self) -> dict[str, str] | None:
        """Return protocol → target, None while the daemon is away."""
        port = self.kubo.api.rpartition("/")[2]  # not the command: without its daemon that takes the repo's lock for a moment
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v0/p2p/ls", data=b"", timeout=60) as answer:
                found = json.load(answer)["Listeners"] or []
        except OSError:
            return None
        return {each["Protocol"]: each["TargetAddress"] for each in found}

    def until_offered(self, offered: bool) -> None:
        channel = f"/x/ollama-{self.kubo.node_id}"

        def stands() -> bool:
            found = self.listeners()
            return found is not None and len(found) > 0 and (channel in found) == offered

        wait_for(stands, PATIENT, lambda: f"ollama offered: {not offered}\n{self.listeners()}\n{self.log}")

    def bash(self, *words: str) -> int:
        """Call the station's script as its nightly run does: from cron, with hardly any environment."""
        done = subprocess.run(["bash", str(self.script), *words], env=self.cron, capture_output=True, timeout=120, check=False)
        return done.returncode

    def unit(self, unit: str, name: str) -> str:
        return self.systemd.systemctl("show", "--value", "--property", name, unit)

    def tree(self) -> dict[str, tuple[int, bytes]]:
        places = [self.zen / "Astroport.ONE", self.dragon_home / "config.toml", self.home / ".config"]
        files = [path for place in places for path in (sorted(place.rglob("*")) if place.is_dir() else [place])]
        return {str(path): (path.lstat().st_mode, path.read_bytes() if path.is_file() else b"") for path in files}


@pytest.fixture
def station(kubo_binary: Path, tmp_path: Path) -> Iterator[Station]:
    if os.geteuid() != 0:
        pytest.skip("a systemd of our own needs root")
    with SystemdUser() as systemd, start_service("http", home=tmp_path / "ollama", name="ollama", port=free_port()) as service:
        home = systemd.folder / "home"
        (home / ".config" / "systemd").mkdir(parents=True)
        (home / ".config" / "systemd" / "user").symlink_to(systemd.units)  # where this manager looks for units
        api, swarm = (f"/ip4/127.0.0.1/tcp/{free_port()}" for _ in range(2))
        kubo = KuboDaemon(kubo_binary, home / ".ipfs", {"Addresses": {"API": api, "Swarm": [swarm], "Gateway": []}})
        kubo.init()
        kubo.api, kubo.node_id = api, json.loads((kubo.repo / "config").read_text())["Identity"]["PeerID"]
        station = Station(systemd, kubo, service, home)
        wait_for(lambda: station.listeners() is not None, PATIENT)
        try:
            yield station
        finally:
            systemd.stop(UNIT)


def test_taken_over_it_survives_its_kubo_and_given_back_every_byte_is_there(station: Station) -> None:
    before = station.tree()
    channel = f"/x/ollama-{station.kubo.node_id}"
    native = f"/ip4/127.0.0.1/tcp/{station.service.port}"
    for protocol, target in ((channel, native), ("/x/other-program", "/ip4/127.0.0.1/tcp/1")):
        station.kubo.ipfs("p2p", "listen", protocol, target)

    station.dragon("astroport", "takeover", "--yes")
    assert station.systemd.systemctl("is-active", UNIT) == "active"
    enabled = subprocess.run(["systemctl", "--user", "is-enabled", UNIT], env=station.env, capture_output=True, text=True)
    assert enabled.stdout == "enabled\n"
    station.until_offered(True)
    wait_for(
        lambda: (station.listeners() or {}).get(channel) not in (None, native),
        PATIENT,
        "the Bash DRAGON's listener still stands",
    )
    assert "/x/other-program" in (station.listeners() or {})
    status = json.loads(station.dragon("astroport", "status", "--json"))
    assert status["takeover"]["state"] == "complete"
    assert status["publishes"] == "nobody"  # the test's station has no _12345.sh
    assert status["bash"] == {"dragon_script": "dragon", "managers": 0, "stand_ins": 1, "running": []}
    taken = station.tree()
    station.dragon("astroport", "takeover", "--yes")
    assert station.tree() == taken

    pid = station.unit(UNIT, "MainPID")
    station.systemd.systemctl("restart", "ipfs.service")
    station.until_offered(True)
    assert (station.unit(UNIT, "MainPID"), station.unit(UNIT, "NRestarts")) == (pid, "0")

    station.kubo.ipfs("p2p", "listen", "/x/other-program", "/ip4/127.0.0.1/tcp/1")
    assert station.bash("OFF") == 0
    station.until_offered(False)
    assert "/x/other-program" in (station.listeners() or {})
    station.systemd.systemctl("restart", "ipfs.service")
    station.until_offered(False)
    assert station.bash("ON") == 0
    station.until_offered(True)
    assert station.unit(UNIT, "MainPID") == pid
    called = ["bash", str(station.manager), "TEST"]
    tested = subprocess.run(called, env=station.cron, capture_output=True, text=True, timeout=60, check=False)
    assert tested.returncode == 0, tested.stdout + tested.stderr

    station.dragon("astroport", "release", "--yes")
    assert station.systemd.systemctl("is-active", UNIT) != "active"
    assert station.tree() == before
    assert not (station.dragon_home / "astroport").exists()
    assert station.listeners() == {}
    assert station.dragon("astroport", "release", "--yes") == "nothing was taken over\n"


def test_what_was_stopped_stays_so_over_a_restart_of_the_node(station: Station) -> None:
    station.dragon("astroport", "takeover", "--yes")
    station.until_offered(True)
    station.dragon("astroport", "stop")
    station.until_offered(False)
    station.systemd.systemctl("restart", UNIT)
    wait_for(lambda: not json.loads(station.dragon("status", "--json"))["offering"], PATIENT)
    station.until_offered(False)
    told = json.loads(station.dragon("doctor", "--json"))
    assert any("dragon astroport start" in one["detail"] for one in told), told
    station.dragon("astroport", "start")
    station.until_offered(True)


def test_a_node_that_comes_before_its_kubo_waits_for_it(station: Station) -> None:
    station.dragon("astroport", "takeover", "--yes")
    station.systemd.stop("ipfs.service")
    station.systemd.systemctl("stop", UNIT)
    station.systemd.systemctl("start", "--no-block", UNIT)
    station.until_offered(True)


@pytest.mark.parametrize("scope", ["system", "user"])
def test_systemd_finds_nothing_wrong_with_the_units(scope: Scope, tmp_path: Path) -> None:
    home = tmp_path / "a b"
    values = values_for(
        scope, command=executable(), dragon_home=home, zen=tmp_path / ".zen", user="root", group="root", ssh=True
    )
    shipped = source(scope)
    text = filled(shipped, values)
    assert f'"DRAGON_HOME={home}"' in text
    assert ("ReadWritePaths" in text) == (f'"-{home}" "-{tmp_path / ".zen"}" "-{tmp_path / ".ssh"}"\n' in text)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path), "SYSTEMD_LOG_LEVEL": "warning"}
    for name, content in (("filled", text), ("shipped", shipped)):
        unit = tmp_path / name / UNIT
        unit.parent.mkdir()
        unit.write_text(content)
        command = ["systemd-analyze", *(["--user"] if scope == "user" else []), "verify", "--man=no", str(unit)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, [line for line in done.stderr.splitlines() if UNIT in line]) == (0, []), done.stderr


def test_the_walls_of_the_system_unit_leave_a_station_what_it_needs(station: Station) -> None:
    """The system unit's walls around a real node.

    Taken out is only what the test's manager cannot do: another user's identity, a /tmp of its own (this station lies there),
    /run/dragon-station, and mounts below /proc, which containers refuse.
    """
    values = values_for(
        "system", command=executable(), dragon_home=station.dragon_home, zen=station.zen, user="root", group="root", ssh=False
    )
    (station.systemd.units / UNIT).write_text(filled(source("system"), values))
    runtime = station.systemd.runtime / "dragon-station"
    out = "User=\nGroup=\nPrivateTmp=no\nProtectKernelTunables=no\nProtectKernelLogs=no\n"
    environment = f"Environment=XDG_RUNTIME_DIR={runtime} HOME={station.home}\n"
    (station.systemd.units / f"{UNIT}.d" / "test.conf").write_text(f"[Service]\n{out}{environment}")
    station.systemd.systemctl("daemon-reload")
    station.systemd.systemctl("start", UNIT)
    assert station.systemd.systemctl("is-active", UNIT) == "active", station.systemd.systemctl("status", UNIT) + station.log
    station.until_offered(True)
    script = station.zen / "tmp" / station.kubo.node_id / "x_ollama.sh"
    wait_for(script.exists, PATIENT, lambda: station.log)
    assert script.stat().st_mode & 0o777 == 0o755
    assert json.loads(station.dragon("status", "--json"))["offers"] == 1

    inside = ["nsenter", "--target", station.unit(UNIT, "MainPID"), "--mount", "--"]
    for place, writable in ((station.zen, True), (station.dragon_home, True), (station.home, False), (Path("/usr"), False)):
        tried = subprocess.run(
            [*inside, "touch", str(place / "written")], capture_output=True, text=True, timeout=30, check=False
        )
        assert (tried.returncode == 0) == writable, (place, tried.stderr)
    station.systemd.systemctl("restart", "ipfs.service")
    station.until_offered(True)
    assert station.unit(UNIT, "NRestarts") == "0"

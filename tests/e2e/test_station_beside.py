"""A station in unusual hands: the Bash DRAGON that goes first, a Dragon of another user, a daemon that is not there."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_station import BOUND, findings, listeners
from tests.testbed.netns import unable
from tests.testbed.station import OLLAMA, ORIGIN, Station, Stations, wait_for

pytestmark = pytest.mark.skipif(bool(why := unable()), reason=why or "")

NOBODY = 65534


@pytest.fixture
def station(kubo_binary: Path) -> Iterator[Station]:
    """One station in a folder that every user may enter, as homes are."""
    folder = Path(tempfile.mkdtemp(prefix="dragon-station-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with Stations(folder, kubo_binary) as stations:
            yield stations.add("alpha")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_the_bash_dragon_goes_first_where_that_is_wanted(station: Station) -> None:
    station.run_service()
    publisher = station.pretend_running("_12345.sh")
    node = station.serve(tables="[astroport]\nbash_first = true\nauthorized_keys = true\n", wait=False)
    wait_for(lambda: "bash_first: waiting" in node.log, BOUND, lambda: node.log)
    assert station.ipfs("p2p", "ls").strip() == "", "else the scripts would not start theirs"
    protocol = f"/x/ollama-{station.id}"
    station.ipfs("p2p", "listen", protocol, f"/ip4/127.0.0.1/tcp/{OLLAMA}")
    wait_for(lambda: "ready: " in node.log, BOUND, lambda: node.log)
    wait_for(lambda: "ollama" in str(findings(station)["listeners"]["detail"]), BOUND, lambda: node.log)
    assert findings(station)["listeners"]["detail"] == "by Dragon: none; by the station's scripts: ollama"
    assert f"_12345.sh (pid {publisher.pid})" in str(findings(station)["Bash side"]["detail"])
    assert findings(station)["IPNS"]["ok"], "the scripts publish"
    assert "stations of this UPlanet get a login here" in node.log, "said whenever it is switched on"
    assert node.terminate() == 0
    assert listeners(station) == {protocol}, "what was adopted was never ours to close"


def test_a_dragon_of_another_user_serves_and_says_what_it_may_not_write(station: Station) -> None:
    station.run_service()
    node = station.serve(wait=False)
    node.cleanup()
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    node.enter = [*station.host.enter, setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(node.home)], check=True)
    before = sorted(str(path) for path in station.zen.rglob("*"))
    node.start()
    wait_for(lambda: f"/x/ollama-{station.id}" in listeners(station), BOUND, lambda: node.log)
    told = ("balise", "swarm cache", "station lock")
    wait_for(lambda: findings(station).keys() >= set(told), BOUND, lambda: node.log)
    for name in told:
        found = findings(station)[name]
        assert not found["ok"]
        assert str(station.zen) in str(found["detail"])
    assert sorted(str(path) for path in station.zen.rglob("*")) == before
    assert node.terminate() == 0


def test_on_a_read_only_file_system_it_serves_and_lays_the_files_when_it_may_write(station: Station) -> None:
    """A disk that the kernel has set read-only, before the node starts and while it runs: nothing is lost, all is told."""
    service = station.run_service()
    node = station.serve(wait=False)
    node.cleanup()
    mount, unshare, nsenter = (shutil.which(name) or name for name in ("mount", "unshare", "nsenter"))
    place = shlex.quote(str(station.zen))
    bound = f'{mount} --bind {place} {place} && {mount} -o remount,bind,ro {place} && exec "$@"'
    node.enter = [*station.host.enter, unshare, "--mount", "sh", "-c", bound, "sh"]

    def remount(how: str) -> None:
        assert node.process is not None
        inside = [nsenter, f"--target={node.process.pid}", "--mount", mount, "-o", f"remount,bind,{how}", str(station.zen)]
        subprocess.run(inside, check=True)

    before = sorted(str(path) for path in station.zen.rglob("*"))
    node.start()
    wait_for(lambda: f"/x/ollama-{station.id}" in listeners(station), BOUND, lambda: node.log)
    wait_for(lambda: "balise" in findings(station), BOUND, lambda: node.log)
    for name in ("balise", "swarm cache", "station lock"):
        found = findings(station)[name]
        assert not found["ok"]
        assert "Read-only file system" in str(found["detail"])
        assert str(station.zen) in str(found["detail"])
    assert sorted(str(path) for path in station.zen.rglob("*")) == before
    remount("rw")
    script = station.balise / "x_ollama.sh"
    wait_for(script.exists, BOUND, lambda: node.log)
    wait_for(lambda: "balise" not in findings(station), BOUND, lambda: node.log)
    remount("ro")
    service.stop()
    wait_for(lambda: f"/x/ollama-{station.id}" not in listeners(station), BOUND, lambda: node.log)
    wait_for(lambda: "balise" in findings(station), BOUND, lambda: node.log)
    assert script.exists()
    remount("rw")
    wait_for(lambda: not script.exists(), BOUND, lambda: node.log)
    assert node.terminate() == 0
    assert (station.balise / "12345.json").exists(), "the station is still one"


def test_without_the_station_s_daemon_it_is_said_what_to_start(station: Station) -> None:
    station.kubo.stop()
    (station.kubo.repo / "swarm.key").write_text(ORIGIN)
    node = station.serve(wait=False)
    assert node.process is not None
    assert node.process.wait(60) == 1
    assert "start the daemon" in node.log
    done = node.run("doctor")
    assert done.returncode == 1
    assert "public peers are unreachable" in done.stdout.replace("\n", " ")


def test_in_the_origin_network_everything_works_and_its_meaning_is_told(tmp_path: Path, kubo_binary: Path) -> None:
    with Stations(tmp_path, kubo_binary) as stations:
        one, two = (stations.add(alias, swarm_key=ORIGIN) for alias in ("one", "two"))
        service = one.run_service()
        one.serve()
        two.serve()
        script = two.swarm / one.id / "x_ollama.sh"
        wait_for(script.exists, BOUND, lambda: f"{one.dragon.log}\n{two.dragon.log}")
        assert two.bash(script).returncode == 0
        assert two.ask(OLLAMA)["pid"] == service.pid
        assert "TCP only" in str(findings(two)["network"]["detail"])
        for station in (one, two):
            assert (station.kubo.repo / "swarm.key").read_text() == ORIGIN, "left as it is"


def test_what_the_station_s_kubo_lacks_is_named_with_the_commands(tmp_path: Path, kubo_binary: Path) -> None:
    with Stations(tmp_path, kubo_binary) as stations:
        bare = stations.add("bare", features=False)
        node = bare.serve(wait=False)
        assert node.process is not None
        assert node.process.wait(60) == 1
        said = " ".join(node.log.split())
        for setting in ("Experimental.Libp2pStreamMounting", "Pubsub.Enabled"):
            command = f"ipfs config --json {setting} true"
            assert command in said
            bare.ipfs(*command.split()[1:])
        bare.kubo.stop()
        bare.kubo.start()
        node.start()
        assert node.json("status")["id"] == bare.id
        assert not findings(bare)["IPNS over pubsub"]["ok"]
        assert findings(bare)["IPNS over pubsub"]["fix"] == "ipfs config --json Ipns.UsePubsub true"


def test_a_station_that_became_another_node_ends_this_one(station: Station) -> None:
    """The scripts' key levels may transmute the identity of the station's Kubo."""
    node = station.serve()
    station.kubo.stop()
    station.ipfs("key", "rotate", "--oldkey=before", "--type=ed25519")
    station.kubo.start()
    process = node.process
    assert process is not None
    wait_for(lambda: process.poll() is not None or node.run("reload").returncode == 0, BOUND, lambda: node.log)
    assert process.wait(60) == 1, "systemd starts it again, as the new one"
    assert f"Kubo became {station.id}" in node.log
    assert node.start().json("status")["id"] == station.id
    assert (station.balise / "12345.json").exists()

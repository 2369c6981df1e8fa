"""Stations as they are in the field, on hosts of their own: two with Dragon, and the Bash side around them."""

from __future__ import annotations

import errno
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.testbed.kubo import is_stopped
from tests.testbed.netns import unable
from tests.testbed.station import OLLAMA, Station, Stations, wait_for, wipe

pytestmark = pytest.mark.skipif(bool(why := unable()), reason=why or "")

BOUND = 30.0
"""Seconds that anything may take on a busy machine: a bound, not a figure."""


@pytest.fixture(scope="module")
def stations(tmp_path_factory: pytest.TempPathFactory, kubo_binary: Path) -> Iterator[Stations]:
    with Stations(tmp_path_factory.mktemp("stations"), kubo_binary) as made:
        yield made


@pytest.fixture(scope="module")
def pair(stations: Stations) -> tuple[Station, Station]:
    """Two stations with Dragon that see one another; nothing else runs on them."""
    alpha, beta = stations.add("alpha"), stations.add("beta")
    alpha.serve()
    beta.serve()
    wait_for(lambda: beta.sees(alpha) and alpha.sees(beta), BOUND, lambda: f"{alpha.dragon.log}\n{beta.dragon.log}")
    return alpha, beta


@pytest.fixture(scope="module")
def offered(pair: tuple[Station, Station]) -> tuple[Station, Station]:
    """The same, with an ollama on the first that the second has in its cache."""
    alpha, beta = pair
    began = time.monotonic()
    alpha.run_service()
    wait_for(in_cache(beta, alpha), BOUND, lambda: f"{listing(beta.swarm)}\n{alpha.dragon.log}\n{beta.dragon.log}")
    print(f"port open to swarm cache of the other: {time.monotonic() - began:.2f} s")
    return alpha, beta


def in_cache(reader: Station, other: Station, slug: str = "ollama") -> partial[bool]:
    return partial((reader.swarm / other.id / f"x_{slug}.sh").exists)


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def listeners(station: Station) -> set[str]:
    """The protocols under which a station listens."""
    lines = (line.split() for line in station.ipfs("p2p", "ls").splitlines())
    return {words[0] for words in lines if len(words) == 3 and not words[2].startswith("/p2p/")}


def findings(station: Station) -> dict[str, dict[str, object]]:
    """What `dragon doctor` says, by name; its exit code tells whether anything essential lacks."""
    return {found["name"]: found for found in json.loads(station.dragon.run("doctor", "--json").stdout)}


def exchange(fetched: Path, place: Path) -> None:
    """Do as `rm -rf PLACE; mv FETCHED PLACE`, until that succeeds: a node may write into the place in between."""
    while fetched.exists():
        shutil.rmtree(place, ignore_errors=True)
        try:
            fetched.rename(place)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise


@contextmanager
def standing_still(station: Station) -> Iterator[None]:
    """Let nothing of the node come between two steps of the block."""
    process = station.dragon.process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    try:
        wait_for(lambda: is_stopped(process.pid), BOUND)
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def serve_again(station: Station, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `dragon serve FLAGS` once more on this station, until it ends by itself."""
    return subprocess.run(
        [*station.host.enter, sys.executable, "-m", "dragon", "serve", *flags],
        env={**station.dragon.env, **variables}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_station_s_node_is_the_station_itself(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    status = alpha.dragon.json("status")
    assert status["id"] == alpha.id, "the station's own Kubo, though no setting names it"
    assert status["kubo"]["managed"] is False
    said = (beta.sees(alpha) or {})["station"]
    assert said["hex"] == "01" * 32
    assert said["captain_hex"] == "ca" * 32
    assert said["paf"] == 14
    assert "captain" not in said, "a mail address is said only where the operator asks for it"
    shown = json.loads(serve_again(alpha, "--dry-run").stdout)
    assert (shown["node"], shown["station"]) == (alpha.id, said), "what is published is what was shown before"
    document = json.loads((beta.swarm / alpha.id / "12345.json").read_text())
    assert document["ipfsnodeid"] == alpha.id
    assert document["dragon_services"] == "ollama"
    assert (alpha.balise / "_MySwarm.moats").read_text().strip().isdigit()
    assert (alpha.balise / "myIPFS.txt").read_text() == f"/ip4/{alpha.host.address}/tcp/4001/p2p/{alpha.id}\n"
    assert not (alpha.kubo.repo / "swarm.key").exists(), "no swarm.key is ever written"


def test_plain_bash_opens_a_tunnel_beside_a_service_of_its_own_and_closes_only_that(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    with beta.run_service() as own:
        wait_for(in_cache(alpha, beta), BOUND)
        script = beta.swarm / alpha.id / "x_ollama.sh"
        opened = beta.bash(script)
        assert opened.returncode == 0, opened
        (port,) = re.findall(r"^export OLLAMA_API_BASE=http://127\.0\.0\.1:(\d+)$", opened.stdout, re.MULTILINE)
        assert int(port) != OLLAMA, "that one is the station's own"
        assert beta.ask(int(port))["pid"] != own.pid
        assert beta.ask(OLLAMA)["pid"] == own.pid
        again = beta.bash(script)
        assert again.returncode == 0
        assert "déjà actif" in again.stdout
        assert beta.bash(script, "stop").returncode == 0
        assert f"/x/ollama-{alpha.id}" not in beta.ipfs("p2p", "ls")
        assert f"/x/ollama-{beta.id}" in listeners(beta), "its own listener stands"
    wait_for(lambda: not in_cache(alpha, beta)(), BOUND, "a service that is gone takes its script with it")
    wait_for(lambda: f"/x/ollama-{beta.id}" not in listeners(beta), BOUND, lambda: beta.dragon.log)


def test_the_daily_wipe_is_mended(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    for folder in (alpha.balise, alpha.tmp, beta.swarm, beta.tmp):
        wipe(folder)
        wait_for((alpha.balise / "x_ollama.sh").exists, BOUND, lambda: alpha.dragon.log)
        wait_for((alpha.balise / "12345.json").exists, BOUND)
        wait_for(in_cache(beta, alpha), BOUND, lambda: beta.dragon.log)
    assert beta.bash(beta.swarm / alpha.id / "x_ollama.sh", "stop").returncode == 0


def test_what_others_write_in_our_place_is_replaced(offered: tuple[Station, Station]) -> None:
    """`_12345.sh` replaces directories of the cache by what it fetched; whatever that was, it is ours again at once."""
    alpha, beta = offered
    place, fetched = beta.swarm / alpha.id, beta.tmp / "get_peer"
    good = (place / "x_ollama.sh").read_text()
    for _ in range(2):
        fetched.mkdir()
        (fetched / "x_ollama.sh").write_text(f"touch {beta.folder}/was-run\n")
        (fetched / "12345.json").write_text("{torn")
        (fetched / "_MySwarm.moats").symlink_to("/etc/passwd")
        exchange(fetched, place)
        wait_for(lambda: (place / "x_ollama.sh").read_text() == good, BOUND, lambda: beta.dragon.log)
        wait_for(lambda: (place / "_MySwarm.moats").read_text().strip().isdigit(), BOUND, lambda: beta.dragon.log)
        assert json.loads((place / "12345.json").read_text())["ipfsnodeid"] == alpha.id
    assert not (beta.folder / "was-run").exists()


def test_what_stop_closes_and_removes_is_laid_and_opened_again(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    for _ in range(2):
        alpha.ipfs("p2p", "close", "--all")
        for script in alpha.balise.glob("x_*.sh"):
            script.unlink()
        wait_for((alpha.balise / "x_ollama.sh").exists, BOUND, lambda: alpha.dragon.log)
        wait_for(lambda: f"/x/ollama-{alpha.id}" in listeners(alpha), BOUND, lambda: alpha.dragon.log)
    wait_for(lambda: beta.bash(beta.swarm / alpha.id / "x_ollama.sh").returncode == 0, BOUND)
    assert beta.ask(OLLAMA)["name"] == "ollama"
    assert beta.bash(beta.swarm / alpha.id / "x_ollama.sh", "stop").returncode == 0


def test_a_listener_of_the_scripts_is_offered_as_it_is_and_replaced_when_it_goes(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    protocol = f"/x/ollama-{alpha.id}"
    alpha.dragon.terminate()
    wait_for(lambda: protocol not in listeners(alpha), BOUND)
    alpha.ipfs("p2p", "listen", protocol, f"/ip4/127.0.0.1/tcp/{OLLAMA}")
    alpha.dragon.start()
    wait_for(lambda: "ollama" in str(findings(alpha).get("gate", {}).get("detail")), BOUND, lambda: str(findings(alpha)))
    assert alpha.ipfs("p2p", "ls").count(protocol) == 1
    wait_for(lambda: beta.dragon.run("forward", "ollama").returncode == 0, BOUND, lambda: beta.dragon.log)
    assert beta.dragon.run("off").returncode == 0
    assert findings(alpha)["listeners"]["detail"] == "by Dragon: none; by the station's scripts: ollama"
    alpha.ipfs("p2p", "listen", f"/x/npm-{alpha.id}", "/ip4/127.0.0.1/tcp/81")  # what Dragon would not offer
    assert findings(alpha)["listeners"]["detail"] == "by Dragon: none; by the station's scripts: npm, ollama"
    alpha.ipfs("p2p", "close", f"--protocol=/x/npm-{alpha.id}")
    alpha.ipfs("p2p", "close", f"--protocol={protocol}")
    wait_for(lambda: findings(alpha)["listeners"]["detail"] == "by Dragon: ollama; by the station's scripts: none", BOUND)
    assert "gate" not in findings(alpha)


def test_a_private_service_never_appears_whatever_the_list_s_length(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    alpha.run_service("qdrant", 6333)
    for private, words in (("qdrant ollama npm", ["reload"]), ("npm qdrant  ollama", ["astroport", "start"])):
        alpha.set_env(private)
        assert alpha.dragon.run(*words).returncode == 0
        wait_for(lambda: not in_cache(beta, alpha)(), BOUND, lambda: beta.dragon.log)
        wait_for(lambda: not list(alpha.balise.glob("x_*.sh")), BOUND, lambda: alpha.dragon.log)
        wait_for(lambda: listeners(alpha) == {f"/x/dragon-{alpha.id}"}, BOUND, lambda: alpha.dragon.log)
        assert json.loads((alpha.balise / "12345.json").read_text())["dragon_services"] == ""
        alpha.set_env("qdrant npm")
        assert alpha.dragon.run(*words).returncode == 0
        wait_for(in_cache(beta, alpha), BOUND, lambda: alpha.dragon.log)
    assert not in_cache(beta, alpha, "qdrant")()
    config = alpha.dragon.home / "config.toml"
    good = config.read_text()
    config.write_text("[broken")
    alpha.set_env("ollama qdrant")
    assert alpha.dragon.run("reload").returncode == 2
    assert alpha.dragon.run("astroport", "start").returncode == 0
    wait_for(lambda: not in_cache(beta, alpha)(), BOUND, lambda: alpha.dragon.log)
    wait_for(lambda: listeners(alpha) == {f"/x/dragon-{alpha.id}"}, BOUND, "hidden, whatever state the settings are in")
    config.write_text(good)
    alpha.set_env("qdrant npm")
    assert alpha.dragon.run("reload").returncode == 0
    wait_for(in_cache(beta, alpha), BOUND, lambda: alpha.dragon.log)


def test_killed_nodes_come_back_and_a_restarted_kubo_gets_its_listeners(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    alpha.dragon.kill()
    wipe(alpha.tmp)
    alpha.dragon.start()
    wait_for((alpha.balise / "x_ollama.sh").exists, BOUND, lambda: alpha.dragon.log)
    assert alpha.ipfs("p2p", "ls").count(f"/x/ollama-{alpha.id}") == 1
    alpha.kubo.terminate()
    assert alpha.kubo.process is not None
    alpha.kubo.process.wait(
        20
    )  # `systemctl restart ipfs` does not hang on a subscription of ours, which would hold it for 30 s
    alpha.kubo.start()
    beta.kubo.connect(alpha.kubo)
    wait_for(lambda: f"/x/ollama-{alpha.id}" in listeners(alpha), BOUND, lambda: alpha.dragon.log)
    wait_for(lambda: beta.bash(beta.swarm / alpha.id / "x_ollama.sh").returncode == 0, BOUND)
    assert beta.bash(beta.swarm / alpha.id / "x_ollama.sh", "stop").returncode == 0


def test_two_dragons_on_one_station_are_refused(offered: tuple[Station, Station], tmp_path: Path) -> None:
    alpha, _ = offered
    second = serve_again(alpha, DRAGON_HOME=str(tmp_path))
    assert second.returncode == 1
    assert f"the station at {alpha.zen} is served by another Dragon already (pid {alpha.dragon.process.pid}" in second.stderr  # type: ignore[union-attr]
    assert "ZEN_HOME" in second.stderr
    assert alpha.dragon.json("status")["id"] == alpha.id


def test_a_place_that_cannot_be_written_is_told_and_served_around(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    aside, before = alpha.zen / "tmp.aside", len(alpha.dragon.log)
    with standing_still(alpha):
        alpha.tmp.rename(aside)
        alpha.tmp.write_text("a file where a folder belongs")
    wait_for(lambda: "balise" in findings(alpha), BOUND, lambda: alpha.dragon.log)
    found = findings(alpha)["balise"]
    assert not found["ok"]
    assert str(alpha.tmp) in str(found["detail"])
    assert beta.sees(alpha), "it serves all the same"
    with standing_still(alpha):
        alpha.tmp.unlink()
        aside.rename(alpha.tmp)
    wait_for(lambda: "balise" not in findings(alpha), BOUND, lambda: alpha.dragon.log)
    said = alpha.dragon.log[before:]
    assert "a file where" not in said
    assert len(re.findall(r"WARNING \S+: balise: ", said)) == 1, "said once"


def test_a_clean_stop_takes_the_scripts_of_services_away(offered: tuple[Station, Station]) -> None:
    alpha, beta = offered
    assert alpha.dragon.terminate() == 0
    assert not list(alpha.balise.glob("x_*.sh"))
    assert (alpha.balise / "12345.json").exists(), "the station is still one"
    wait_for(lambda: not in_cache(beta, alpha)(), BOUND, lambda: beta.dragon.log)
    (alpha.balise / "_MySwarm.moats").write_text(f"{int(time.time()) + 1}\n")  # its scripts go on alone
    alpha.publish_by_hand()
    assert beta.dragon.run("peers", "--refresh").returncode == 0
    wait_for(lambda: (beta.sees(alpha) or {}).get("trust") == "ipns", BOUND, lambda: beta.dragon.log)
    alpha.dragon.start()
    wait_for(in_cache(beta, alpha), BOUND, lambda: alpha.dragon.log)
    assert (beta.sees(alpha) or {}).get("trust") == "signed"


def test_scripts_without_dragon_are_seen_and_used(pair: tuple[Station, Station], stations: Stations) -> None:
    """A station that only runs the Bash side: files by hand, a listener by hand, its name by hand."""
    _, beta = pair
    bash_only = stations.add("bash-only")
    bash_only.run_service()
    bash_only.balise.mkdir()
    (bash_only.balise / "_MySwarm.moats").write_text(f"{int(time.time())}\n")
    (bash_only.balise / "12345.json").write_text(
        json.dumps({"ipfsnodeid": bash_only.id, "hostname": "bash-only", "dragon_services": "ollama", "captain": "c@d.org"})
    )
    script = f'NODE_ID="{bash_only.id}"\nPROTO="/x/ollama-{bash_only.id}"\nNATIVE_PORT="11434"\nALT_PORT="21300"\n'
    (bash_only.balise / "x_ollama.sh").write_text(f"#!/bin/bash\n{script}touch {bash_only.folder}/was-run\n")
    bash_only.ipfs("p2p", "listen", f"/x/ollama-{bash_only.id}", f"/ip4/127.0.0.1/tcp/{OLLAMA}")
    bash_only.publish_by_hand()
    assert beta.dragon.run("peers", "--refresh").returncode == 0
    wait_for(lambda: beta.sees(bash_only), BOUND, lambda: beta.dragon.log)
    seen = beta.sees(bash_only) or {}
    assert (seen["trust"], seen["state"]) == ("ipns", "live")
    opened = beta.dragon.json("forward", "ollama", bash_only.id[-8:])
    assert beta.ask(opened["port"])["name"] == "ollama"
    assert beta.dragon.run("off").returncode == 0
    assert not (bash_only.folder / "was-run").exists(), "what came from the network is never run"


def test_signals_and_hangups(offered: tuple[Station, Station]) -> None:
    """SIGHUP reads the station's facts again."""
    alpha, beta = offered
    (alpha.zen / "Astroport.ONE" / ".env").write_text('DRAGON_PRIVATE_SERVICES="qdrant"\nPAF=21\n')
    assert alpha.dragon.process is not None
    alpha.dragon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: ((beta.sees(alpha) or {}).get("station") or {}).get("paf") == 21, BOUND, lambda: alpha.dragon.log)

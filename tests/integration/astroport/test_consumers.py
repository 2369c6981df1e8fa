"""Every program that reads a station's files finds what it looks for in those that Dragon lays."""

from __future__ import annotations

import shutil
import socket
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dragon.astroport.balise import Balise
from dragon.astroport.swarm_cache import SwarmCache
from dragon.astroport.zen import Zen
from dragon.connect.station_port import station_port
from dragon.probe.catalogue import load_catalogue
from dragon.probe.entry import CatalogueEntry
from tests.testbed.ports import free_port
from tests.unit.astroport.consumers import NOW, SCRIPTS, STATION, ask, facts, offers_of, station
from tests.unit.astroport.fake_ipfs import FakeIpfs
from tests.unit.registry_schema.identities import ALICE, BOB, RSA

pytestmark = pytest.mark.skipif(shutil.which("jq") is None, reason="no jq on this machine")

STRONG, WEAK, SELF = *sorted((ALICE.node_id, RSA.node_id)), BOB.node_id


@pytest.fixture
def swarm(zen: Zen, tmp_path: Path) -> SwarmCache:
    """A cache with two stations, one stronger than the other."""
    cache = SwarmCache(zen, SELF, tmp_path / "swarm.json")
    nodes = [
        station(STRONG, "ollama", "ssh", "strfry", power_score=42),
        station(
            WEAK, "comfyui", "ollama", alias="lark", power_score=7, captain="cap+tag@example.org", relay="wss://relay.example"
        ),
    ]
    cache.lay(nodes, load_catalogue(), NOW)
    return cache


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on this machine")
def test_the_readers_themselves_are_sound() -> None:
    done = subprocess.run(["shellcheck", *map(str, SCRIPTS.glob("*.sh"))], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.returncode) == ("", 0)


@pytest.mark.parametrize(
    ("target", "expected"),
    [("", STRONG), ("1", STRONG), ("2", WEAK), (WEAK[-8:], WEAK), (STRONG, STRONG), ("nobody", None), ("7", None)],
)
def test_the_connection_managers_get_their_tunnel(
    zen: Zen, tmp_path: Path, ipfs: FakeIpfs, target: str, expected: str | None
) -> None:
    port = free_port()  # the usual one of this machine's catalogue, so that a real ollama here does not count
    catalogue = load_catalogue(overrides={"ollama": {"port": port}})
    nodes = [station(STRONG, "ollama", power_score=42), station(WEAK, "ollama", power_score=7)]
    SwarmCache(zen, SELF, tmp_path / "swarm.json").lay(nodes, catalogue, NOW)
    code, lines = ask("me", zen.root, "ollama", target, path=str(ipfs.path))
    assert (code, lines) == ((0, [expected]) if expected else (1, []))
    assert [each[1:] for each in ipfs.tunnels] == ([(f"/ip4/127.0.0.1/tcp/{port}", f"/p2p/{expected}")] if expected else [])


def test_the_next_node_is_tried_when_the_best_is_gone(zen: Zen, swarm: SwarmCache, ipfs: FakeIpfs) -> None:
    ipfs.reachable = False
    assert ask("me", zen.root, "ollama", path=str(ipfs.path)) == (1, [])
    pinged = [words[-1] for words in ipfs.calls if "ping" in words]
    assert pinged == [f"/p2p/{STRONG}", f"/p2p/{WEAK}"]


def test_the_tunnel_manager_sees_every_service(zen: Zen, swarm: SwarmCache) -> None:
    assert ask("tunnel", zen.root)[1] == sorted(
        [
            f"owl|ollama|/x/ollama-{STRONG}|11434|{station_port(STRONG, 'ollama')}||cap@example.org",
            f"owl|ssh|/x/ssh-{STRONG}|22|{station_port(STRONG, 'ssh')}|frd|cap@example.org",
            f"owl|strfry|/x/strfry-{STRONG}|9999|{station_port(STRONG, 'strfry')}||cap@example.org",
            f"lark|comfyui|/x/comfyui-{WEAK}|8188|{station_port(WEAK, 'comfyui')}||cap@example.org",
            f"lark|ollama|/x/ollama-{WEAK}|11434|{station_port(WEAK, 'ollama')}||cap@example.org",
        ]
    )


def test_astrosystemctl_ranks_by_power(zen: Zen, swarm: SwarmCache) -> None:
    assert ask("astrosystemctl", zen.root, "ollama")[1] == [
        f"{STRONG} 42 1.5 cap@example.org - 43.60 1.44",
        f"{WEAK} 7 1.5 cap+tag@example.org - 43.60 1.44",
    ]
    assert ask("astrosystemctl", zen.root, "dify") == (0, [])


def test_discover_accepts_every_node(zen: Zen, swarm: SwarmCache) -> None:
    assert ask("discover", zen.root)[1] == [
        f"{STRONG} 5 ollama,ssh,strfry http://127.0.0.1:54321",
        f"{WEAK} 5 comfyui,ollama http://127.0.0.1:54321",
    ]


def test_discover_accepts_a_node_that_is_no_station(zen: Zen, tmp_path: Path) -> None:
    node = station(STRONG, "ollama")
    bare = replace(node, manifest=node.manifest.model_copy(update={"station": {}}))
    SwarmCache(zen, SELF, tmp_path / "swarm.json").lay([bare], load_catalogue(), NOW)
    assert ask("discover", zen.root)[1] == [f"{STRONG} 0 ollama "]
    assert ask("backfill", zen.root)[1] == []
    assert ask("astrosystemctl", zen.root, "ollama")[1] == [f"{STRONG} 0 0  - 0 0"]


def test_the_backfill_finds_authors_and_peers(zen: Zen, swarm: SwarmCache) -> None:
    assert ask("backfill", zen.root)[1] == [
        f"author {STATION['captain_hex']}",
        f"author {STATION['hex']}",
        f"localhost:{STRONG}:{zen.swarm}/{STRONG}/x_strfry.sh",
        f"author {STATION['captain_hex']}",
        f"author {STATION['hex']}",
        "routable:wss://relay.example",
    ]


def test_the_bro_programs_find_a_relay_they_may_run(zen: Zen, tmp_path: Path, ipfs: FakeIpfs) -> None:
    catalogue = load_catalogue(overrides={"strfry": {"local_port": free_port()}})
    SwarmCache(zen, SELF, tmp_path / "swarm.json").lay([station(STRONG, "strfry")], catalogue, NOW)
    code, lines = ask("bro", zen.root, path=str(ipfs.path))
    assert (code, lines) == (0, [f"sender {STATION['hex']}", "ws://127.0.0.1:9999"])
    assert [each[2] for each in ipfs.tunnels] == [f"/p2p/{STRONG}"]


@pytest.mark.parametrize(("later", "says"), [(0, "kept"), (43_000, "kept"), (44_000, "stale")])
def test_another_stations_daemon_keeps_our_balise(zen: Zen, tmp_path: Path, later: int, says: str) -> None:
    Balise(zen, SELF, tmp_path / "balise.json").lay(
        facts(SELF), offers_of(SELF, "ollama", "strfry"), b"envelope", load_catalogue(), NOW
    )
    answer = ask("daemon", zen.root, str(zen.balise(SELF)), variables={"NOW": str(int(NOW) + later)})
    assert answer[0] == (says != "kept")
    assert answer[1][0] == (f"kept {STATION['channel']}" if says == "kept" else says)
    if says == "kept":
        assert answer[1][1] == "services ollama,strfry"


def test_a_fetched_copy_of_a_balise_is_as_good_as_what_is_laid_here(zen: Zen, tmp_path: Path, ipfs: FakeIpfs) -> None:
    """`ipfs get` brings the files without their x bits; readers go by `bash FILE`."""
    Balise(zen, STRONG, tmp_path / "balise.json").lay(
        facts(STRONG), offers_of(STRONG, "ollama", "ssh", "strfry"), None, load_catalogue(), NOW
    )
    zen.swarm.mkdir()
    shutil.copytree(zen.balise(STRONG), zen.swarm / STRONG)
    for file in (zen.swarm / STRONG).iterdir():
        file.chmod(0o644)
    assert len(ask("tunnel", zen.root)[1]) == 3
    assert ask("discover", zen.root)[1] == [f"{STRONG} 5 ollama,ssh,strfry http://127.0.0.1:54321"]
    assert ask("astrosystemctl", zen.root, "ollama")[1] == [f"{STRONG} 42 0 cap@example.org 192.0.2.7 43.60 1.44"]
    script = zen.swarm / STRONG / "x_ollama.sh"
    usual = f'NATIVE_PORT="{free_port()}"'
    script.write_text(script.read_text().replace('NATIVE_PORT="11434"', usual))
    assert ask("me", zen.root, "ollama", STRONG[:20], path=str(ipfs.path)) == (0, [STRONG])


def test_services_of_ones_own_have_their_port(zen: Zen, tmp_path: Path) -> None:
    entry = CatalogueEntry("my-own", 4711)
    node = station(STRONG, "ollama")
    offer = node.manifest.offers[0].model_copy(update={"slug": "my-own", "port": 4711, "protocol": f"/x/my-own-{STRONG}"})
    other = replace(node, manifest=node.manifest.model_copy(update={"offers": (offer,)}))
    SwarmCache(zen, SELF, tmp_path / "swarm.json").lay([other], load_catalogue(), NOW)
    assert f"|my-own|/x/my-own-{STRONG}|{entry.port}|" in ask("tunnel", zen.root)[1][0]


def test_a_port_that_is_taken_by_somebody_else_is_not_touched(zen: Zen, tmp_path: Path, ipfs: FakeIpfs) -> None:
    port = free_port()
    catalogue = load_catalogue(overrides={"ollama": {"port": port}})
    SwarmCache(zen, SELF, tmp_path / "swarm.json").lay([station(STRONG, "ollama")], catalogue, NOW)
    with socket.create_server(("127.0.0.1", port)):
        ask("me", zen.root, "ollama", path=str(ipfs.path))
        assert [each[1] for each in ipfs.tunnels] == [f"/ip4/127.0.0.1/tcp/{station_port(STRONG, 'ollama')}"]

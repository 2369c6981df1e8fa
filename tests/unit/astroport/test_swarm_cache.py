"""The directories of other nodes: made here from verified manifests, beside those that the station's own scripts bring."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from dragon.astroport import swarm_cache
from dragon.astroport.beacon_reading import read_beacon
from dragon.astroport.laying import Laid
from dragon.astroport.reading import read_script
from dragon.astroport.swarm_cache import FRESH, SILENT, SwarmCache
from dragon.astroport.zen import Zen
from dragon.errors import HomeError
from dragon.probe.catalogue import load_catalogue
from dragon.registry.entry import NodeView
from registry_schema import Manifest, make_offer
from tests.simulator.signers import Signer
from tests.testbed.bash_station import balise as bash_balise
from tests.unit.astroport.consumers import NOW, STATION, seen, station
from tests.unit.registry_schema.identities import ALICE, BOB, RSA
from tests.unit.registry_schema.samples import minimal
from tests.unit.registry_schema.strategies import manifests

A, B, SELF = ALICE.node_id, RSA.node_id, BOB.node_id
CATALOGUE = load_catalogue()


@pytest.fixture
def cache(zen: Zen, tmp_path: Path) -> SwarmCache:
    return SwarmCache(zen, SELF, tmp_path / "swarm.json")


def tree(zen: Zen) -> dict[str, bytes]:
    return {str(each.relative_to(zen.swarm)): each.read_bytes() for each in sorted(zen.swarm.rglob("*")) if each.is_file()}


def stamps(zen: Zen) -> dict[str, tuple[int, int]]:
    return {str(each): (each.lstat().st_ino, each.lstat().st_mtime_ns) for each in (zen.swarm, *zen.swarm.rglob("*"))}


def as_fetched(zen: Zen, node_id: str, at: float = NOW, services: Iterable[str] = ("ollama", "npm"), **changes: Any) -> None:
    """What `_12345.sh` does with a balise: removes the directory, moves the fetched one there, files without x bits."""
    shutil.rmtree(zen.swarm / node_id, ignore_errors=True)
    (zen.swarm / node_id).mkdir(parents=True)
    for name, data in bash_balise(node_id, int(at), dict.fromkeys(services, 11434), **changes).items():
        (zen.swarm / node_id / name).write_bytes(data)


def test_a_node_has_what_readers_look_for(cache: SwarmCache, zen: Zen) -> None:
    laid = cache.lay([station(A, "ollama", "ssh", "strfry")], CATALOGUE, NOW)
    assert laid.changed == tuple(f"{A}/{name}" for name in sorted([
        "12345.json", "HEX", "_MySwarm.moats", "_MySwarm.owl.html", "x_ollama.sh", "x_ssh.sh", "x_strfry.sh"]))  # fmt: skip
    folder = zen.swarm / A
    assert {each.stat().st_mode & 0o777 for each in folder.glob("x_*.sh")} == {0o755}
    assert (folder / "_MySwarm.moats").read_text() == f"{int(NOW) - 3}\n"
    assert (folder / "HEX").read_text() == str(STATION["hex"]) + "\n"
    assert str(STATION["channel"]) in (folder / "_MySwarm.owl.html").read_text()
    assert read_script((folder / "x_ssh.sh").read_bytes()).remote_user == "frd"
    assert 'NATIVE_PORT="9999"' in (folder / "x_strfry.sh").read_text()
    assert read_beacon((folder / "12345.json").read_bytes()).dropped == ()


@pytest.mark.parametrize(
    ("node", "laid"),
    [
        (station(A, "ollama"), True),
        (station(A), True),
        (seen(minimal(A, offers=station(A, "ollama").manifest.offers)), True),
        (seen(minimal(A)), False),
        (replace(station(A, "ollama"), state="silent", last_seen=SILENT), True),
        (replace(station(A, "ollama"), state="silent", last_seen=SILENT + 1), False),
        (replace(station(A, "ollama"), state="left"), False),
        (replace(station(A, "ollama"), state="skewed"), False),
        (replace(station(A, "ollama"), trust="ipns"), False),
        (replace(station(A, "ollama"), is_self=True), False),
        (station(SELF, "ollama"), False),
        (seen(minimal(A, leaving=True, station=dict(STATION))), False),
    ],
)
def test_who_has_a_directory(cache: SwarmCache, zen: Zen, node: NodeView, laid: bool) -> None:
    cache.lay([node], CATALOGUE, NOW)
    assert [each.name for each in zen.swarm.iterdir()] == ([node.node_id] if laid else [])


def test_the_same_again_rewrites_nothing(cache: SwarmCache, zen: Zen, tmp_path: Path) -> None:
    nodes = [station(A, "ollama", "ssh"), station(B, "strfry")]
    cache.lay(nodes, CATALOGUE, NOW)
    before = stamps(zen)
    beat = {"sequence": 9, "load": 7}
    beats = [replace(node, last_seen=0.0, manifest=node.manifest.model_copy(update=beat)) for node in nodes]
    for again in (cache, SwarmCache(zen, SELF, tmp_path / "swarm.json")):
        assert again.lay(beats, CATALOGUE, NOW + 1800) == Laid()
        assert again.lay(beats, load_catalogue(), NOW + 1800) == Laid()
    assert stamps(zen) == before


def test_only_what_changed_is_rewritten(cache: SwarmCache, zen: Zen) -> None:
    cache.lay([station(A, "ollama", "ssh"), station(B, "strfry")], CATALOGUE, NOW)
    before = stamps(zen)
    laid = cache.lay([station(A, "ollama", "comfyui"), station(B, "strfry")], CATALOGUE, NOW)
    assert laid == Laid((f"{A}/12345.json", f"{A}/x_comfyui.sh"), (f"{A}/x_ssh.sh",))
    unchanged = [place for place, stamp in stamps(zen).items() if before.get(place) == stamp]
    assert str(zen.swarm / A / "x_ollama.sh") in unchanged
    assert all(place in unchanged for place in before if B in place)


def test_times_are_kept_fresh_as_long_as_the_node_is_heard(cache: SwarmCache, zen: Zen) -> None:
    def moats() -> int:
        return int((zen.swarm / A / "_MySwarm.moats").read_text())

    node = replace(station(A, "ollama"), last_seen=0.0)
    cache.lay([node], CATALOGUE, NOW)
    cache.lay([node], CATALOGUE, NOW + FRESH)
    assert moats() == int(NOW + FRESH)
    assert json.loads((zen.swarm / A / "12345.json").read_text())["created"] == str(moats())
    silent = replace(node, state="silent", last_seen=7 * 3600.0)
    cache.lay([silent], CATALOGUE, NOW + FRESH + 7 * 3600)
    assert moats() == int(NOW + FRESH)  # it grows old as the node does
    cache.lay([replace(node, last_seen=9.0)], CATALOGUE, NOW)
    assert moats() == int(NOW) - 9  # our clock was set back


def test_a_node_that_is_gone_takes_its_directory(cache: SwarmCache, zen: Zen, tmp_path: Path) -> None:
    cache.lay([station(A, "ollama"), station(B, "strfry")], CATALOGUE, NOW)
    laid = SwarmCache(zen, SELF, tmp_path / "swarm.json").lay([station(B, "strfry")], CATALOGUE, NOW)
    assert laid.changed == ()
    assert all(name.startswith(A) for name in laid.removed)
    assert [each.name for each in zen.swarm.iterdir()] == [B]


def test_directories_of_stations_without_dragon_are_not_ours(cache: SwarmCache, zen: Zen) -> None:
    as_fetched(zen, B)
    (zen.swarm / ".bsize").write_text("1")
    before = tree(zen)
    cache.lay([station(A, "ollama"), replace(station(B, "ollama"), trust="ipns")], CATALOGUE, NOW)
    cache.lay([], CATALOGUE, NOW)
    assert tree(zen) == before


def test_without_the_stations_scripts_those_directories_are_made_here_too(zen: Zen, tmp_path: Path) -> None:
    cache = SwarmCache(zen, SELF, tmp_path / "swarm.json", unsigned=True)
    cache.lay([replace(station(B, "ollama"), trust="ipns")], CATALOGUE, NOW)
    assert "# Made by Dragon" in (zen.swarm / B / "x_ollama.sh").read_text()
    assert int((zen.swarm / B / "_MySwarm.moats").read_text()) == int(NOW) - 3, "its own time, so that nobody is revived"
    cache.lay([], CATALOGUE, NOW)
    assert not (zen.swarm / B).exists()


def test_what_the_stations_scripts_fetch_is_laid_over(cache: SwarmCache, zen: Zen) -> None:
    nodes = [station(A, "ollama", "ssh")]
    cache.lay(nodes, CATALOGUE, NOW)
    as_fetched(zen, A, captain="other@example.org", uptime="0:40:58")
    laid = cache.lay(nodes, CATALOGUE, NOW)
    folder = zen.swarm / A
    assert {f"{A}/x_ollama.sh", f"{A}/x_ssh.sh", f"{A}/12345.json"} <= set(laid.changed)
    assert "# Made by Dragon" in (folder / "x_ollama.sh").read_text()
    assert (folder / "x_ollama.sh").stat().st_mode & 0o777 == 0o755
    assert "# Made by Dragon" not in (folder / "x_npm.sh").read_text()  # its own DRAGON's, as it was without us
    document = json.loads((folder / "12345.json").read_text())
    assert (document["captain"], document["uptime"]) == ("cap@example.org", "0:40:58")
    assert document["dragon_services"] == "npm,ollama,ssh"
    assert cache.lay(nodes, CATALOGUE, NOW) == Laid()
    cache.lay([], CATALOGUE, NOW)
    left = ["_MySwarm.staom", "_MySwarm.vm.html", "myIPFS.txt", "x_npm.sh", "y_ssh.pub"]
    assert sorted(each.name for each in folder.iterdir()) == left


def test_an_older_balise_of_a_dragon_brings_no_service_back(cache: SwarmCache, zen: Zen) -> None:
    """`_12345.sh` gets it from IPNS for as long as that is cached; the manifest knows better."""
    cache.lay([station(A, "ollama", "ssh")], CATALOGUE, NOW)
    folder = zen.swarm / A
    older = (folder / "x_ollama.sh").read_text()
    without = [station(A, "ssh")]
    cache.lay(without, CATALOGUE, NOW)
    for _ in range(2):
        as_fetched(zen, A, services=("npm",))
        (folder / "x_ollama.sh").write_text(older)
        (folder / "x_vane.sh").symlink_to("x_ollama.sh")
        cache.lay(without, CATALOGUE, NOW)
        assert not (folder / "x_ollama.sh").exists()
        assert (folder / "x_npm.sh").exists(), "its own DRAGON's, as it was without us"
        assert json.loads((folder / "12345.json").read_text())["dragon_services"].split(",") == ["npm", "ssh", "vane"]
    assert cache.lay(without, CATALOGUE, NOW) == Laid()


@pytest.mark.parametrize(
    "planted",
    [
        b"x" * (2 << 20), b"[" * 100_000, b'{"a":' * 5000, b'{"ipfsnodeid": "\\ud800"}', b"\xff\xfe",
        b'{"capacities": {"a": NaN}}',
        b'{"ipfsnodeid": "' + A.encode() + b'", "x": "\\ud800", "y": ["$(touch canary)"], "z": 1e999}',
    ],
)  # fmt: skip
def test_a_hostile_document_is_replaced(cache: SwarmCache, zen: Zen, planted: bytes) -> None:
    as_fetched(zen, A)
    (zen.swarm / A / "12345.json").write_bytes(planted)
    cache.lay([station(A, "ollama")], CATALOGUE, NOW)
    text = (zen.swarm / A / "12345.json").read_text()
    assert "canary" not in text
    document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert document["captain"] == "cap@example.org"


def test_wiped_and_laid_again(cache: SwarmCache, zen: Zen) -> None:
    nodes = [station(A, "ollama"), station(B, "strfry")]
    cache.lay(nodes, CATALOGUE, NOW)
    before = tree(zen)
    shutil.rmtree(zen.tmp)
    cache.lay(nodes, CATALOGUE, NOW)
    assert tree(zen) == before


def test_the_catalogue_of_this_machine_counts(cache: SwarmCache, zen: Zen) -> None:
    cache.lay([station(A, "ollama")], CATALOGUE, NOW)
    laid = cache.lay([station(A, "ollama")], load_catalogue(overrides={"ollama": {"local_port": 4711}}), NOW)
    assert laid.changed == (f"{A}/x_ollama.sh",)
    assert 'NATIVE_PORT="4711"' in (zen.swarm / A / "x_ollama.sh").read_text()


def test_a_flood_of_strangers_is_bounded(cache: SwarmCache, zen: Zen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(swarm_cache, "MOST", 1)
    cache.lay([replace(station(A, "ollama"), known=False), station(B, "strfry")], CATALOGUE, NOW)
    assert [each.name for each in zen.swarm.iterdir()] == [B]


def test_who_goes_leaves_what_others_brought(cache: SwarmCache, zen: Zen) -> None:
    as_fetched(zen, B)
    before = tree(zen)
    cache.lay([station(A, "ollama")], CATALOGUE, NOW)
    assert f"{A}/x_ollama.sh" in cache.lay([], CATALOGUE, NOW).removed
    assert tree(zen) == before


def test_a_planted_link_is_refused_and_the_others_are_laid(cache: SwarmCache, zen: Zen, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    zen.swarm.mkdir(parents=True)
    (zen.swarm / A).symlink_to(tmp_path / "precious")
    with pytest.raises(HomeError, match=A):
        cache.lay([station(A, "ollama"), station(B, "strfry")], CATALOGUE, NOW)
    assert list((tmp_path / "precious").iterdir()) == []
    assert (zen.swarm / B / "x_strfry.sh").exists()


@given(manifest=manifests())
@settings(max_examples=40)
def test_whatever_a_manifest_says_no_word_of_it_runs(manifest: Manifest, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any valid manifest: names stay in their folder, scripts pass `bash -n` and say what the manifest says, no more."""
    base = tmp_path_factory.mktemp("any")
    zen = Zen(base / "zen")
    zen.root.mkdir()
    SwarmCache(zen, "none", base / "journal.json").lay([seen(manifest)], CATALOGUE, NOW)
    try:
        for file in zen.swarm.glob("*/*"):
            assert file.parent == zen.swarm / manifest.node
            assert re.fullmatch(r"x_[a-z0-9-]+\.sh|12345\.json|HEX|_MySwarm\.(moats|[A-Za-z0-9-]+\.html)", file.name)
            text = file.read_text()
            if file.suffix == ".sh":
                script = read_script(text.encode())
                assert (script.node_id, f"x_{script.slug}.sh") == (manifest.node, file.name)
        scripts = [str(each) for each in zen.swarm.glob("*/x_*.sh")][:8]
        for script_file in scripts:
            checked = subprocess.run(["bash", "-n", script_file], capture_output=True, text=True, timeout=30)
            assert (checked.stderr, checked.returncode) == ("", 0)
    finally:
        shutil.rmtree(base)


def test_five_hundred_directories_unchanged_are_looked_at_and_no_more(
    cache: SwarmCache, zen: Zen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged pass opens folders, never files, and renders nothing: counted, not timed."""
    nodes = []
    for number in range(500):
        node_id = Signer(f"n{number}").node_id
        offers = tuple(make_offer(f"s{n}", node_id, 1000 + n) for n in range(8))
        nodes.append(seen(minimal(node_id, offers=offers, station=dict(STATION))))
    assert len(cache.lay(nodes, CATALOGUE, NOW).changed) == 500 * 12
    opened: list[object] = []
    real = os.open

    def count(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if not flags & os.O_DIRECTORY:
            opened.append(path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", count)
    before = stamps(zen)
    assert cache.lay(nodes, CATALOGUE, NOW + 60) == Laid()
    assert opened == []
    assert stamps(zen) == before

"""`dragon astroport …` as it is typed: what is asked of the node, what is said, which exit code."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from dragon.cli.main import run
from dragon.cli.station_keys import speaking
from dragon.home import Home
from tests.testbed.backend import ALPHA, BETA, ServedBackend, a_peer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def zen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    zen = tmp_path / "home" / ".zen"
    for script in ("RUNTIME/DRAGON_p2p_ssh.sh", "IA/services/ollama.me.sh"):
        place = zen / "Astroport.ONE" / script
        place.parent.mkdir(parents=True)
        place.write_text("#!/bin/bash\n# the original\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZEN_HOME", str(zen))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return zen


def test_stop_and_start_ask_the_node(node: ServedBackend, capsys: Capture) -> None:
    assert run(["astroport", "stop"]) == 0
    assert run(["astroport", "start", "--json"]) == 0
    assert node.backend.asked == [("offering", False), ("offering", True)]
    said, document = capsys.readouterr().out.split("\n", 1)
    assert said == "offers are withdrawn"
    assert json.loads(document) == {"offering": True, "offers": 1}


def test_withdrawn_offers_are_seen_in_the_status(node: ServedBackend, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    async def status() -> dict[str, object]:
        return {"id": BETA, "alias": "beta", "swarm": "dragon", "offers": 0, "offering": False, "kubo": {}}

    monkeypatch.setattr(node.backend, "status", status)
    assert run(["status"]) == 0
    assert "dragon astroport start" in capsys.readouterr().out


@pytest.mark.parametrize("words", [["stop"], ["start"], ["keys", "--dry-run"]])
def test_without_a_node_that_is_said(home: Home, zen: Path, capsys: Capture, words: list[str]) -> None:
    assert run(["astroport", *words]) == 3
    assert "dragon serve" in capsys.readouterr().err


def test_a_takeover_is_shown_and_never_done_unasked(home: Home, zen: Path, capsys: Capture) -> None:
    before = {path: path.read_bytes() for path in zen.rglob("*") if path.is_file()}
    assert run(["astroport", "takeover", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert f"replace {zen}/Astroport.ONE/RUNTIME/DRAGON_p2p_ssh.sh" in shown
    assert "systemctl --user enable --now dragon-station.service" in shown
    assert run(["astroport", "takeover"]) == 2
    assert "--yes does it" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in zen.rglob("*") if path.is_file()} == before
    assert not home.config_file.exists()


def test_only_on_a_station_and_only_with_known_publishers(
    home: Home, zen: Path, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["astroport", "takeover", "--publisher", "me", "--yes"]) == 2
    assert "expected astroport or dragon" in capsys.readouterr().err
    monkeypatch.setenv("ZEN_HOME", str(tmp_path / "nowhere"))
    assert run(["astroport", "takeover", "--yes"]) == 1
    assert "no Astroport station" in capsys.readouterr().err
    assert run(["astroport", "release"]) == 0
    assert capsys.readouterr().out == "nothing was taken over\n"


def test_status_tells_who_does_what(home: Home, zen: Path, capsys: Capture) -> None:
    assert run(["astroport", "status", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["station"], document["node"], document["publishes"]) == (
        True,
        {"running": False, "offering": None},
        "nobody",
    )
    assert document["takeover"]["state"] == "none"
    assert document["bash"]["dragon_script"] == "original"
    assert run(["astroport", "status"]) == 0
    assert "node" in capsys.readouterr().out


def test_sync_scripts_are_written_only_where_asked(home: Home, tmp_path: Path, capsys: Capture) -> None:
    folder = tmp_path / "NIP-101"
    assert run(["astroport", "shims"]) == 2
    assert run(["astroport", "shims", "--nostr", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["backfill_constellation.sh", "constellation_sync_trigger.sh"]
    assert (folder / "constellation_sync_trigger.sh").read_text().endswith(' sync --as trigger "$@"\n')
    capsys.readouterr()
    assert run(["astroport", "shims", "--nostr", str(folder), "--json"]) == 0
    assert {one["change"] for one in json.loads(capsys.readouterr().out)} == {"unchanged"}


def test_keys_are_kept_only_where_that_is_switched_on(node: ServedBackend, zen: Path, capsys: Capture) -> None:
    assert run(["astroport", "keys"]) == 1
    assert "authorized_keys = true" in capsys.readouterr().err


def test_who_speaks_for_a_station() -> None:
    signed = a_peer(ALPHA, station={"hex": "a" * 64, "captain_hex": "ca" * 32})
    others = [
        a_peer(BETA, "beta", self=True, station={"hex": "b" * 64}),
        a_peer("12D3KooWIpns", trust="ipns", station={"hex": "c" * 64}),
        a_peer("12D3KooWSilent", state="silent", station={"hex": "d" * 64}),
        a_peer("12D3KooWPlain", station={}),
        a_peer("12D3KooWOld"),
    ]
    assert speaking([signed, *others]) == {ALPHA: frozenset({"a" * 64, "ca" * 32})}


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ('[astroport]\nenabled = "off"\n', 'set it to "auto" in'),
        ("[kubo]\nmanaged = true\n", "managed, binary and swarm_key out of [kubo]"),
    ],
)
def test_a_station_is_not_led_to_a_node_that_is_none_of_it(
    home: Home, zen: Path, capsys: Capture, config: str, says: str
) -> None:
    home.prepare()
    home.config_file.write_text(config)
    for words in (["--dry-run"], ["--yes"]):
        assert run(["astroport", "takeover", *words]) == 1
        assert says in capsys.readouterr().err
    assert (zen / "Astroport.ONE/RUNTIME/DRAGON_p2p_ssh.sh").read_text() == "#!/bin/bash\n# the original\n"
    assert not (home.root / "astroport").exists()


def test_never_two_publishers_on_one_name(home: Home, zen: Path, capsys: Capture) -> None:
    script = zen / "Astroport.ONE" / "_12345.sh"
    script.write_text("read line\n")
    with subprocess.Popen(["bash", str(script)], stdin=subprocess.PIPE) as publishing:
        assert run(["astroport", "takeover", "--publisher", "dragon", "--dry-run"]) == 1
        assert "systemctl disable --now astroport" in capsys.readouterr().err
        assert run(["astroport", "status", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert (document["publishes"], document["bash"]["running"]) == ("astroport", ["_12345.sh"])
        publishing.communicate(b"\n")
    assert run(["astroport", "takeover", "--publisher", "dragon", "--dry-run"]) == 0

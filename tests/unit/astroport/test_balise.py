"""A station's own directory, beside the programs that write there too."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from dragon.astroport.balise import FRESH, Balise
from dragon.astroport.laying import Laid
from dragon.astroport.levels import PublicKeys
from dragon.astroport.reading import read_listing, read_moats, read_script
from dragon.astroport.zen import Zen
from dragon.connect.station_port import station_port
from dragon.errors import HomeError
from dragon.probe.catalogue import load_catalogue
from registry_schema import seal
from tests.testbed.bash_station import balise as bash_balise
from tests.unit.astroport.consumers import NOW, STATION, facts, offers_of
from tests.unit.registry_schema.identities import ALICE
from tests.unit.registry_schema.samples import minimal

ID = ALICE.node_id
CATALOGUE = load_catalogue()
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDvSMxlSsDLGs4EKwQdqaVcgM9jQmdQwFB9sJ1JpWfJ frd@owl"
FULL = facts(ID, keys=PublicKeys(y=KEY))
OFFERS = offers_of(ID, "ollama", "ssh", "strfry")


def envelope(**changes: object) -> bytes:
    return seal(minimal(ID, **changes), sign=ALICE.sign)


@pytest.fixture
def balise(zen: Zen, tmp_path: Path) -> Balise:
    return Balise(zen, ID, tmp_path / "balise.json")


def lay(balise: Balise, now: float = NOW, *slugs: str, **fields: object) -> Laid:
    offers = offers_of(ID, *slugs) if slugs else OFFERS
    return balise.lay(facts(ID, keys=PublicKeys(y=KEY), **fields), offers, envelope(), CATALOGUE, now)


def names(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def document(zen: Zen) -> dict[str, object]:
    found: dict[str, object] = json.loads((zen.balise(ID) / "12345.json").read_text())
    return found


def as_bash(zen: Zen, at: float, services: dict[str, int]) -> None:
    """What `_12345.sh` and DRAGON_p2p_ssh.sh write there."""
    zen.balise(ID).mkdir(parents=True, exist_ok=True)
    for name, data in bash_balise(ID, int(at), services).items():
        (zen.balise(ID) / name).write_bytes(data)


def test_stopped_the_keys_of_the_higher_levels_go_with_the_scripts(balise: Balise, zen: Zen) -> None:
    lay(balise)
    laid = balise.lay(FULL, (), envelope(), CATALOGUE, NOW, stopped=True)
    assert laid.removed == ("x_ollama.sh", "x_ssh.sh", "x_strfry.sh", "y_ssh.pub")
    balise.lay(facts(ID, keys=PublicKeys(x=KEY)), (), envelope(), CATALOGUE, NOW, stopped=True)
    assert (zen.balise(ID) / "x_ssh.pub").read_text() == KEY + "\n"
    lay(balise)
    assert (zen.balise(ID) / "y_ssh.pub").read_text() == KEY + "\n"


def test_everything_that_readers_look_for(balise: Balise, zen: Zen) -> None:
    laid = lay(balise)
    folder = zen.balise(ID)
    assert names(folder) == [
        "12345.json", "HEX", "_MySwarm.moats", "_MySwarm.owl.html", "_MySwarm.staom", "dragon.manifest", "myIPFS.txt",
        "x_ollama.sh", "x_ssh.sh", "x_strfry.sh", "y_ssh.pub",
    ]  # fmt: skip
    assert sorted((*laid.changed, *laid.refreshed)) == names(folder)
    assert (folder / "_MySwarm.moats").read_text() == f"{int(NOW)}\n"
    assert f"/ipns/{STATION['channel']}" in (folder / "_MySwarm.owl.html").read_text()
    assert (folder / "myIPFS.txt").read_text() == f"/ip4/192.0.2.7/tcp/4001/p2p/{ID}\n"
    assert (folder / "HEX").read_text() == "a" * 64 + "\n"
    assert (folder / "y_ssh.pub").read_text() == KEY + "\n"
    assert (folder / "dragon.manifest").read_bytes() == envelope()
    assert {each.stat().st_mode & 0o777 for each in folder.glob("x_*.sh")} == {0o755}
    assert {each.stat().st_mode & 0o777 for each in folder.iterdir() if not each.name.endswith(".sh")} == {0o644}


def test_our_own_reader_understands_it(balise: Balise, zen: Zen) -> None:
    lay(balise)
    folder = zen.balise(ID)
    listing = read_listing(names(folder))
    assert (listing.slugs, listing.hostname, listing.level, listing.dropped) == (("ollama", "ssh", "strfry"), "owl", "y", 0)
    assert listing.has_manifest
    assert read_moats((folder / "_MySwarm.moats").read_bytes()) == int(NOW) * 1000
    for slug, native in (("ollama", 11434), ("ssh", 22), ("strfry", 9999)):
        script = read_script((folder / f"x_{slug}.sh").read_bytes())
        assert (script.node_id, script.slug, script.native_port) == (ID, slug, native)
        assert script.alt_port == station_port(ID, slug)
        assert script.remote_user == ("frd" if slug == "ssh" else None)


def test_again_nothing_happens_and_later_only_the_times(balise: Balise, zen: Zen, tmp_path: Path) -> None:
    lay(balise)
    before = {each: each.stat().st_mtime_ns for each in zen.balise(ID).iterdir()}
    assert lay(balise, NOW + FRESH - 1) == Laid()
    assert lay(Balise(zen, ID, tmp_path / "balise.json"), NOW + 10) == Laid()
    assert {each: each.stat().st_mtime_ns for each in zen.balise(ID).iterdir()} == before
    later = lay(balise, NOW + FRESH)
    assert not later
    assert sorted(later.refreshed) == ["12345.json", "_MySwarm.moats", "_MySwarm.staom"]
    assert document(zen)["created"] == str(int(NOW + FRESH))


@pytest.mark.parametrize("step", [-3600, 10**9])
def test_a_clock_that_jumps_is_followed(balise: Balise, zen: Zen, step: int) -> None:
    lay(balise)
    lay(balise, NOW + step)
    assert (zen.balise(ID) / "_MySwarm.moats").read_text() == f"{int(NOW + step)}\n"


def test_a_beat_is_no_news_and_a_change_is(balise: Balise, zen: Zen) -> None:
    balise.lay(FULL, OFFERS, envelope(), CATALOGUE, NOW)
    beat = envelope(sequence=minimal().sequence + 30_000, load=500)
    assert balise.lay(FULL, OFFERS, beat, CATALOGUE, NOW) == Laid(refreshed=("dragon.manifest",))
    assert (zen.balise(ID) / "dragon.manifest").read_bytes() == beat
    assert balise.lay(FULL, OFFERS, envelope(alias="other"), CATALOGUE, NOW).changed == ("dragon.manifest",)
    assert not balise.lay(FULL, OFFERS, None, CATALOGUE, NOW)  # a start, before the first word is out: the last one stays
    assert "dragon.manifest" in names(zen.balise(ID))


def test_a_service_that_is_gone_takes_its_file(balise: Balise, zen: Zen) -> None:
    lay(balise)
    laid = lay(balise, NOW, "ollama")
    assert laid.removed == ("x_ssh.sh", "x_strfry.sh")
    assert laid.changed == ("12345.json",)
    assert document(zen)["dragon_services"] == "ollama"


@pytest.mark.parametrize("gone", ["folder", "tmp"])
def test_the_daily_wipe_is_mended(balise: Balise, zen: Zen, gone: str) -> None:
    lay(balise)
    before = names(zen.balise(ID))
    shutil.rmtree(zen.tmp if gone == "tmp" else zen.balise(ID))
    assert lay(balise, NOW + 60).changed
    assert names(zen.balise(ID)) == before


def test_what_stop_removed_lies_there_again(balise: Balise, zen: Zen) -> None:
    lay(balise)
    for file in (*zen.balise(ID).glob("x_*.sh"), zen.balise(ID) / "y_ssh.pub"):
        file.unlink()
    assert lay(balise).changed == ("x_ollama.sh", "x_ssh.sh", "x_strfry.sh", "y_ssh.pub")


def test_beside_the_scripts_of_the_station(balise: Balise, zen: Zen) -> None:
    as_bash(zen, NOW - 100, {"ollama": 11434, "npm": 81})
    (zen.balise(ID) / "heartbox_analysis.json").write_text("{}")
    theirs = {name: (zen.balise(ID) / name).read_bytes() for name in ("x_npm.sh", "_MySwarm.vm.html", "heartbox_analysis.json")}
    lay(balise, NOW, hostname="vm", channel=str(STATION["channel"]))
    assert "# Made by Dragon" in (zen.balise(ID) / "x_ollama.sh").read_text()
    assert (zen.balise(ID) / "x_npm.sh").read_bytes() == theirs["x_npm.sh"]
    assert (zen.balise(ID) / "heartbox_analysis.json").read_bytes() == b"{}"
    assert (zen.balise(ID) / "_MySwarm.moats").read_text() == f"{int(NOW) - 100}\n"  # fresh enough, theirs
    said = document(zen)
    assert said["dragon_services"] == "npm,ollama,ssh,strfry"
    assert said["myIP"] == "10.77.0.1"
    assert lay(balise, NOW, hostname="vm", channel=str(STATION["channel"])) == Laid()
    lay(balise, NOW, "strfry", hostname="vm")
    assert document(zen)["dragon_services"] == "npm,strfry"
    assert "x_ollama.sh" not in names(zen.balise(ID))  # theirs before, but it led to a service that is gone


def test_their_page_stays_where_it_leads_to_the_same(balise: Balise, zen: Zen) -> None:
    zen.balise(ID).mkdir(parents=True)
    page = zen.balise(ID) / "_MySwarm.owl.html"
    theirs = f"<meta http-equiv='refresh' content='0; url=\"http://127.0.0.1:8080/ipns/{STATION['channel']}\"'>"
    page.write_text(theirs)
    lay(balise)
    assert page.read_text() == theirs
    lay(balise, NOW, channel="k51other")
    assert "/ipns/k51other" in page.read_text()


def test_what_the_operator_made_private_is_taken_away_whoever_published_it(balise: Balise, zen: Zen) -> None:
    as_bash(zen, NOW, {"ollama": 11434, "npm": 81, "qdrant": 6333, "icecast": 8111})
    laid = lay(balise, NOW, "ollama", private=frozenset({"qdrant", "npm", "dify"}))
    assert sorted(laid.removed) == ["x_npm.sh", "x_qdrant.sh"]
    assert document(zen)["dragon_services"] == "icecast,ollama"


def test_scripts_of_ours_are_known_without_a_journal(balise: Balise, zen: Zen, tmp_path: Path) -> None:
    lay(balise)
    as_bash_script = zen.balise(ID) / "x_npm.sh"
    as_bash_script.write_bytes(bash_balise(ID, int(NOW), {"npm": 81})["x_npm.sh"])
    fresh = Balise(zen, ID, tmp_path / "other.json")
    assert fresh.lay(FULL, offers_of(ID, "ollama"), None, CATALOGUE, NOW).removed == ("x_ssh.sh", "x_strfry.sh")
    assert as_bash_script.exists()


def test_a_peer_without_a_known_address_is_still_named(balise: Balise, zen: Zen) -> None:
    lay(balise, NOW, addresses=())
    assert (zen.balise(ID) / "myIPFS.txt").read_text() == f"/p2p/{ID}\n"


def test_places_that_cannot_be(zen: Zen, tmp_path: Path) -> None:
    balise = Balise(zen, ID, tmp_path / "balise.json")
    (tmp_path / "elsewhere").mkdir()
    zen.tmp.mkdir()
    zen.balise(ID).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HomeError, match="link"):
        lay(balise)
    assert names(tmp_path / "elsewhere") == []
    shutil.rmtree(zen.root)
    with pytest.raises(HomeError, match="missing"):
        lay(balise)
    assert not zen.root.exists()


@pytest.mark.parametrize("planted", ["x" * 9, "{", '{"a": 1}', "[]", "\x00", '{"ipfsnodeid": 7, "services": 3}'])
def test_a_torn_document_is_mended(balise: Balise, zen: Zen, planted: str) -> None:
    zen.balise(ID).mkdir(parents=True)
    (zen.balise(ID) / "12345.json").write_text(planted)
    lay(balise)
    assert document(zen)["ipfsnodeid"] == ID
    assert document(zen)["services"] == {"ipfs_p2p_services": ["x_ollama.sh", "x_ssh.sh", "x_strfry.sh"]}


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("planted", ["folder", "pipe", "link"])
def test_odd_things_under_our_names(balise: Balise, zen: Zen, tmp_path: Path, planted: str, later: bool) -> None:
    folder = zen.balise(ID)
    folder.mkdir(parents=True)
    if later:
        lay(balise)
    outside = tmp_path / "outside"
    outside.write_text("precious")
    for name in ("x_ollama.sh", "_MySwarm.moats", "12345.json", "dragon.manifest"):
        (folder / name).unlink(missing_ok=True)
        match planted:
            case "folder":
                (folder / name).mkdir()
            case "pipe":
                os.mkfifo(folder / name)
            case _:
                (folder / name).symlink_to(outside)
    if planted == "folder":
        with pytest.raises(HomeError):
            balise.lay(FULL, OFFERS, None if later else envelope(), CATALOGUE, NOW)
    else:
        balise.lay(FULL, OFFERS, None if later else envelope(), CATALOGUE, NOW)
        assert json.loads((folder / "12345.json").read_text())["ipfsnodeid"] == ID
    assert (folder / "x_ssh.sh").is_file()
    assert outside.read_text() == "precious"

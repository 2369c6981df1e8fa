"""`dragon sync --as backfill|trigger` on a station: the scripts' options, exit codes, logs, locks and stamps."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dragon.cli.main import run
from dragon.cli.sync_standin import Options, Unknown, parse
from dragon.constellation.kinds import STATION_KINDS
from dragon.home import Home
from tests.integration.cli.constellation import RelayBackend, relays
from tests.testbed.backend import served
from tests.testbed.events import Author, authors, many
from tests.testbed.relays import Relay
from tests.testbed.strfry_tool import calls, install
from tests.unit.constellation.test_lock import FLOCK_AND_PID, PID_ALONE, held_by
from tests.unit.constellation.test_report import read_by_the_station

NOW = int(time.time())


class Station:
    """A station's `~/.zen` with its relay and program, and peers that offer theirs."""

    def __init__(self, home: Home, zen: Path, people: list[Author], mine: Relay, **peers: int) -> None:
        self.home, self.zen, self.people = home, zen, people
        self.strfry = zen / "strfry"
        (zen / "Astroport.ONE" / "tools").mkdir(parents=True)
        (zen / "Astroport.ONE" / "tools" / "my.sh").write_text("echo never run; exit 1\n")
        (zen / "tmp").mkdir()
        self.program = install(self.strfry, mine)
        self.backend = RelayBackend(peers, mine.url, people, self.program, station={"zen": str(zen)}, uplanet="g1A")

    @contextmanager
    def serving(self) -> Iterator[Station]:
        with served(self.home, self.backend):
            yield self

    @property
    def log(self) -> str:
        return (self.strfry / "constellation-backfill.log").read_text()

    def runs(self) -> list[dict[str, Any]]:
        paths = sorted((self.home.root / "constellation" / "runs").glob("*.json"))
        return [json.loads(path.read_text()) for path in paths]


@pytest.fixture
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Relay]]:
    with relays(tmp_path_factory.mktemp("relays"), 2) as started:
        yield started


@pytest.fixture
def people() -> list[Author]:
    return authors("station", 3)


@pytest.fixture
def zen(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("zen")
    monkeypatch.setenv("ZEN_HOME", str(folder))
    return folder


def test_a_backfill_imports_logs_and_stamps_as_the_script_did(
    home: Home, zen: Path, people: list[Author], two: list[Relay], capfd: pytest.CaptureFixture[str]
) -> None:
    mine, alpha = two
    greeting = people[0].note("Hello NOSTR visitor.\nwelcome", created_at=NOW - 50)
    told = [
        *many(30, people, since=NOW - 5000, until=NOW - 60),
        people[0].event(30800, "{}", created_at=NOW - 70, tags=[["d", "did"]]),
    ]
    alpha.load([*told, people[1].event(4, "secret", created_at=NOW - 60), greeting])
    station = Station(home, zen, people, mine, alpha=alpha.port)
    with station.serving():
        assert run(["sync", "--as", "backfill", "--days", "1", "--no-dms"]) == 0
    assert mine.ids() == {event["id"] for event in told}
    assert [call["words"] for call in calls(station.program)] == [["import", "--no-verify"]], "verified before, by Dragon"
    found = read_by_the_station(station.log)
    assert (found["SYNC_STATS.events"], found["SYNC_STATS.did"], found["SYNC_STATS.dms"]) == (31, 1, 0)
    assert (found["SYNC_IMPORT.events"], found["SYNC_HEX.count"]) == (31, 3)
    assert (found["SYNC_PEERS.success"], found["SYNC_PEERS.total"]) == (1, 1)
    lines = station.log.splitlines()
    assert lines[0].startswith("# Constellation Backfill Log")
    assert lines[2].endswith("[INFO] Starting Astroport constellation backfill process")
    assert lines[-1].endswith("[INFO] Backfill process completed")
    for stamp in (zen / "tmp" / "backfill_constellation.lastrun", station.strfry / "last_constellation_sync"):
        assert NOW - 5 <= int(stamp.read_text()) <= time.time()
    for lock in ("constellation-sync.lock", "constellation-backfill.lock"):
        assert (station.strfry / lock).read_text() == ""
    assert "SYNC_IMPORT" in (station.strfry / "constellation-trigger.log").read_text()
    (report,) = station.runs()
    assert (report["mode"], tuple(report["kinds"])) == ("backfill", tuple(kind for kind in STATION_KINDS if kind != 4))
    assert capfd.readouterr().out == "", "quiet unless --verbose"


def test_what_killed_runs_left_half_written_is_removed(home: Home, zen: Path, people: list[Author], two: list[Relay]) -> None:
    station = Station(home, zen, people, two[0], alpha=two[1].port)
    (home.root / "constellation" / "runs").mkdir(parents=True)
    left = [
        home.root / "constellation" / "runs" / ".20261127T030000Z.json.abc",
        home.root / "constellation" / ".status.json.99",
    ]
    left += [station.strfry / name for name in ("backfill-response-123.json", "backfill-station-7_import.ndjson")]
    kept = [station.strfry / name for name in ("backfill-response-x.json", "strfry.conf", "backfill-notes.json")]
    for path in (*left, *kept):
        path.write_text("half")
    with station.serving():
        assert run(["sync", "--as", "backfill"]) == 0
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


def test_each_run_has_a_log_of_its_own_and_errors_add_up(
    home: Home, zen: Path, people: list[Author], two: list[Relay], capfd: pytest.CaptureFixture[str]
) -> None:
    mine, alpha = two
    station = Station(home, zen, people, mine, alpha=alpha.port, dead=0)
    with station.serving():
        for _ in range(2):
            assert run(["sync", "--as", "backfill"]) == 1, "D24: a peer that failed is no success"
            (told,) = capfd.readouterr().err.splitlines()
            assert told.startswith("[ERROR] WebSocket backfill failed for"), "who is quiet unless --verbose still says why"
    assert station.log.count("Starting Astroport") == 1
    assert read_by_the_station(station.log)["SYNC_PEERS.success"] == 1
    errors = (station.strfry / "constellation-backfill.error.log").read_text().splitlines()
    assert len([line for line in errors if "[ERROR] WebSocket backfill failed for" in line]) == 2
    assert not [line for line in errors if "[INFO]" in line]


@pytest.mark.parametrize("program", [FLOCK_AND_PID, PID_ALONE], ids=["flock", "pid"])
@pytest.mark.parametrize("lock", ["constellation-backfill.lock", "constellation-sync.lock"])
def test_the_scripts_own_run_is_let_be(
    lock: str, program: str, home: Home, zen: Path, people: list[Author], two: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    """D22: neither lock nor log of the run that goes on is cut off or removed."""
    station = Station(home, zen, people, two[0], alpha=two[1].port)
    (station.strfry / "constellation-backfill.log").write_text("the running one's\n")
    with held_by(program, station.strfry / lock) as other, station.serving():
        assert run(["sync", "--as", "backfill"]) == 0
        assert str(other.pid) in capsys.readouterr().err
        assert run(["sync"]) == 1
        assert str(other.pid) in capsys.readouterr().err
        assert run(["sync", "--as", "trigger"]) == 0
        assert (station.strfry / lock).read_text() == f"{other.pid}\n"
        assert station.log == "the running one's\n"
    assert station.runs() == []
    assert not (zen / "tmp" / "backfill_constellation.lastrun").exists()


def test_a_stamp_of_the_stations_hourly_run_holds_ours_back(
    home: Home, zen: Path, people: list[Author], two: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    station = Station(home, zen, people, two[0], alpha=two[1].port)
    (zen / "tmp" / "backfill_constellation.lastrun").write_text(f"{int(time.time()) - 1000}\n")
    with station.serving():
        assert run(["sync", "--scheduled"]) == 0
        assert "skipped" in capsys.readouterr().out
        (zen / "tmp" / "backfill_constellation.lastrun").write_text(f"{int(time.time()) - 3100}\n")
        assert run(["sync", "--scheduled", "--json"]) == 0
    (report,) = station.runs()
    assert report["kinds"] == list(STATION_KINDS), "an hourly run of a station keeps what its scripts kept"


def test_the_trigger_does_an_hours_work_and_tells_of_its_logs(
    home: Home, zen: Path, people: list[Author], two: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, alpha = two
    alpha.load(many(5, people, since=NOW - 500, until=NOW - 60))
    station = Station(home, zen, people, mine, alpha=alpha.port, dead=0)
    with station.serving() as running:
        assert run(["sync", "--as", "trigger", "--log-stats"]) == 0
        assert "constellation-trigger.log: not found" in capsys.readouterr().out
        assert not [word for word in running.backend.asked if word[0] == "forward"]
        assert run(["sync", "--as=trigger"]) == 0, "one peer was read"
        capsys.readouterr()
        assert run(["sync", "--as", "trigger", "--log-stats"]) == 0
        shown = capsys.readouterr().out
    assert "constellation-trigger.log: " in shown
    assert "not found" not in shown.splitlines()[0]
    assert len(mine.ids()) == 5
    assert station.runs()[0]["mode"] == "trigger"


def test_what_a_station_lacks_is_exit_1(
    home: Home, zen: Path, people: list[Author], two: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    station = Station(home, zen, people, two[0], alpha=two[1].port)
    assert run(["sync", "--as", "backfill"]) == 1
    assert "no node is running" in capsys.readouterr().err
    known = station.backend.known_constellation
    with station.serving():
        station.backend.known_constellation = {**known, "peers": []}
        assert run(["sync", "--as", "backfill"]) == 1
        assert "No constellation peers" in capsys.readouterr().err
        station.backend.known_constellation = {**known, "local": {"url": two[0].url, "tool": None}}
        assert run(["sync", "--as", "backfill"]) == 1
        assert "strfry is missing" in capsys.readouterr().err
        assert run(["sync"]) == 1
        assert "import program" in capsys.readouterr().err, "never past the write policy's notice, through the socket"
        (zen / "Astroport.ONE" / "tools" / "my.sh").unlink()
        station.backend.known_constellation = known
        assert run(["sync", "--as", "backfill"]) == 1
        assert "Astroport.ONE" in capsys.readouterr().err
    assert station.runs() == []


def test_a_dry_run_asks_nobody(
    home: Home, zen: Path, people: list[Author], two: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    station = Station(home, zen, people, two[0], alpha=two[1].port)
    with station.serving() as running:
        assert run(["sync", "--as", "backfill", "--DRYRUN", "--days", "3"]) == 0
        shown = capsys.readouterr().out
        assert not [word for word in running.backend.asked if word[0] == "forward"]
    for words in ("would ask 1 peers: alpha", "57 kinds of events of 3 public keys, 3 days back"):
        assert words in shown
    assert not (station.strfry / "constellation-backfill.log").exists()


@pytest.mark.parametrize("words", ["--nope", "--days", "--days x", "--days -1", "extra", "--days 1 --json"])
def test_words_that_the_script_would_not_take_are_exit_1(words: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", "--as", "backfill", *words.split()]) == 1
    assert "Usage" in capsys.readouterr().err


@pytest.mark.parametrize("words", ["", "other --days 1"])
def test_only_the_two_scripts_are_known(words: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", "--as", *words.split()]) == 2


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_starts_nothing(word: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", "--as", "backfill", "--days", "2", word]) == 0
    assert "--DRYRUN" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("", Options()),
        ("--days 7 -v --no-dms --no-profiles --verify", Options(days=7, verbose=True, dms=False, profiles=False)),
        ("--days 2 --days 3 --DRYRUN", Options(days=3, dry_run=True)),
        ("--days 0 --verbose", Options(days=0, verbose=True)),
        ("--stats --days 9 --show-hex", Options(days=9, only="stats")),
    ],
)
def test_options(words: str, options: Options) -> None:
    assert parse(words.split()) == options


def test_every_word_is_read_before_anything_is_done() -> None:
    with pytest.raises(Unknown):
        parse(["--stats", "--nope"])

"""A report in its forms: document, text, page, history, live status, a station's logs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dragon.constellation import history as keeping
from dragon.constellation.charts import ring, timeline
from dragon.constellation.health import findings
from dragon.constellation.history import History
from dragon.constellation.html import page
from dragon.constellation.journal import KEPT, ROTATE, Journal
from dragon.constellation.kinds import STATION_KINDS
from dragon.constellation.marks import beginning, ending
from dragon.constellation.names import KIND_NAMES, STATS, stats
from dragon.constellation.outcome import Outcome, PeerOutcome
from dragon.constellation.places import Places
from dragon.constellation.progress import Progress
from dragon.constellation.report import MOST_SAMPLES, About, Timeline, brought_nothing, document
from dragon.constellation.status import StatusFile
from dragon.constellation.text import plain
from dragon.errors import UsageError

HOSTILE = "</title><script>alert(1)</script>\x1b[2J\u202eevil\r\n[2026-01-01 00:00:00] [INFO] SYNC_PEERS: success=9 total=9"


def an_outcome(state: Any = "partial", **fields: Any) -> Outcome:
    good = PeerOutcome(
        "12D3KooWalpha", "alpha", "ws://127.0.0.1:9999", "nip77", "ok", received=120, new=90, duplicate=20,
        rejected=Counter({"bad signature": 6}), refused=Counter({"blocked": 4}), missing=100,
        by_kind=Counter({1: 60, 4: 20, 5: 3, 30023: 11}), bytes_in=50_000, bytes_out=3_000, seconds=1.5,
    )  # fmt: skip
    bad = PeerOutcome("12D3KooWbeta", "beta", state="failed", error="cannot be reached")
    made = Outcome(
        1_795_748_400.0, 1_795_748_403.5, state, "", [good, bad], stored=90, refused=Counter({"blocked": 4}), authors=37,
        kinds=(0, 1, 4), since=1_795_662_000, until=1_795_748_400, profiles_found=2, profiles_missing=5, deletions=1,
    )  # fmt: skip
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def a_report(run: str = "20261127T030000Z", state: Any = "partial", **fields: Any) -> dict[str, Any]:
    about = About(run, "12D3KooWme", "lyon", "dragon", "g1A", "scheduled", "0.1.0", "ws://127.0.0.1:7777", "", 12, ("a note",))
    return document(about, an_outcome(state, **fields), [(0.5, 10, 0), (1.5, 100, 50), (3.5, 120, 90)])


class Parsed(HTMLParser):
    """A page as a browser would take it: its tags, and what it would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.words: list[str] = []
        self.active: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in ("script", "img", "link", "iframe", "object", "embed", "base", "form", "a", "image", "use"):
            self.active.append(tag)
        self.active += [name for name, _ in attrs if name.startswith("on") or name in ("src", "href", "style", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_document_holds_what_is_promised() -> None:
    report = a_report()
    assert json.loads(json.dumps(report)) == report
    assert (report["peers_total"], report["peers_ok"], report["peers_failed"]) == (2, 1, 1)
    assert (report["received"], report["stored"], report["duplicate"]) == (120, 90, 20)
    assert (report["rejected"], report["refused"]) == ({"bad signature": 6}, {"blocked": 4})
    assert (report["pubkeys"], report["people"], report["by_kind"]["30023"]) == (37, 12, 11)


def test_the_text_tells_all_of_it() -> None:
    text = "\n".join(plain(a_report()))
    told = """partly done; 37 public keys, 12 of them; 2: 1 successful, 1 failed; 120 collected: 90 new; bad signature 6;
    blocked 4; articles 11; beta (12D3KooWbeta): failed cannot be reached; a note; 100 missing here"""
    for words in (each.strip() for each in told.split(";")):
        assert words in text


def test_the_page_stands_alone_and_tells_all_of_it() -> None:
    text = page(a_report())
    parsed = Parsed(text)
    assert parsed.active == [], "nothing is fetched, nothing runs"
    assert "url(" not in text
    assert "@import" not in text
    assert "default-src 'none'" in text
    assert "prefers-color-scheme:dark" in text.replace(" ", "")
    assert parsed.tags.count("svg") >= 4
    words = " ".join(parsed.words)
    for each in (
        "90 new events",
        "1 of 2",
        "120",
        "37",
        "articles",
        "alpha",
        "cannot be reached",
        "bad signature",
        "partly done",
    ):
        assert each in words


@pytest.mark.parametrize("state", ["ok", "partial", "failed", "timeout", "cancelled", "nothing"])
def test_every_end_has_a_page_and_a_text(state: Any) -> None:
    report = a_report(state=state, error="our own relay is away" if state == "failed" else "")
    assert Parsed(page(report)).active == []
    assert list(plain(report))


def test_a_run_without_anything_has_a_page_too() -> None:
    empty = document(About("20261127T030000Z"), Outcome(1.0))
    assert "Nothing new" in page(empty)
    assert list(plain(empty))


def test_the_window_of_a_run_over_everything_has_no_beginning() -> None:
    told = a_report(since=0)
    text, words = "\n".join(plain(told)), " ".join(Parsed(page(told)).words)
    assert "everything until 20" in text
    assert "everything until 20" in words


def test_a_comparison_says_what_is_missing() -> None:
    assert "100 events of the peers are missing here" in page(a_report(verify=True, stored=0))
    assert "Nothing is missing here" in page(a_report(verify=True, peers=[]))


def test_what_peers_say_is_shown_and_does_nothing() -> None:
    """THREATS 10: one corpus through every exit."""
    peer = PeerOutcome(HOSTILE, HOSTILE, state="failed", error=HOSTILE, rejected=Counter({HOSTILE: 3}))
    report = document(About(HOSTILE, HOSTILE, HOSTILE, HOSTILE, notes=(HOSTILE,)), an_outcome(peers=[peer], error=HOSTILE))
    text = page(report)
    assert "script" not in Parsed(text).tags
    for shown in (text, "\n".join(plain(report))):
        assert not set(shown) & set("\x1b\r\u202e")
    assert all("\n" not in line for line in plain(report))


def test_one_bad_event_among_many_is_seen_in_the_ring() -> None:
    drawn = ring([("new", "new", 1_000_000), ("rejected", "rejected", 1)], "1", "x")
    lengths = [float(length) for length in re.findall(r'stroke-dasharray="([\d.]+)', drawn)]
    assert len(lengths) == 2
    assert min(lengths) > 0.5


def test_a_timeline_needs_two_moments() -> None:
    assert timeline([]) == ""
    assert timeline([(1.0, 1, 1)]) == ""
    assert "polyline" in timeline([(0.0, 0, 0), (2.0, 5, 3)])


def test_a_long_runs_timeline_is_thinned_out_and_keeps_both_ends() -> None:
    kept = Timeline()
    for number in range(10_000):
        kept.add(Progress("events", 0, 1, (), 0, number, number, 0, 0, number / 10))
    assert len(kept.samples) <= MOST_SAMPLES + 1
    assert (kept.samples[0][0], kept.samples[-1][0]) == (0.0, 999.9)
    kept.add(Progress("events", 0, 1, (), 0, 0, 0, 0, 0, 3.0))
    assert kept.samples[-1][0] == 999.9, "time does not go back"


def test_only_runs_that_brought_nothing_are_not_worth_a_mail() -> None:
    assert not brought_nothing(a_report())
    assert not brought_nothing(a_report(stored=0)), "a peer failed"
    assert not brought_nothing(document(About("x"), an_outcome("failed", peers=[], stored=0)))
    assert brought_nothing(document(About("x"), an_outcome("ok", peers=[], stored=0)))


# -- history and status -----------------------------------------------------------------------------------------------


def test_runs_are_kept_latest_first_and_found_by_number_and_name(tmp_path: Path) -> None:
    kept = History(tmp_path / "runs")
    assert kept.runs() == []
    assert kept.last() is None
    names = []
    for at in (1_795_748_400.0, 1_795_748_400.4, 1_795_750_000.0):
        names.append(kept.new_run(at))
        assert kept.keep(a_report(names[-1])).read_text().startswith("<!DOCTYPE html>")
    assert names[1] == f"{names[0]}-2", "two runs in one second"
    assert kept.runs() == names[::-1]
    assert (kept.find("1"), kept.find(names[0])) == (names[2], names[0])
    for word in ("0", "4", "../../etc/passwd", "x"):
        with pytest.raises(UsageError):
            kept.find(word)


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "KEPT", 3)
    kept = History(tmp_path)
    names = [kept.new_run(1_795_748_400.0 + number) for number in range(5)]
    for name in names:
        kept.keep(a_report(name))
    assert kept.runs() == names[:1:-1]
    assert len(list(tmp_path.iterdir())) == 6


def test_a_torn_report_is_passed_over(tmp_path: Path) -> None:
    kept = History(tmp_path)
    kept.keep(a_report("20261127T030000Z"))
    (tmp_path / "20261127T040000Z.json").write_text('{"run": ')
    last = kept.last()
    assert last is not None
    assert last["run"] == "20261127T030000Z"


def test_the_live_status_is_that_of_a_living_process(tmp_path: Path) -> None:
    status = StatusFile(tmp_path / "status.json")
    assert status.read() is None
    status.write("run", 1.0, Progress("events", 1, 2, ("alpha",), 10, 5, 4, 0, 99, 0.5), mode="sync")
    told = status.read()
    assert told is not None
    assert (told["pid"], told["phase"], told["received"], told["mode"]) == (os.getpid(), "events", 5, "sync")
    told["pid"] = a_dead_pid()
    (tmp_path / "status.json").write_text(json.dumps(told))
    assert status.read() is None, "the run was killed: nothing goes on"
    status.clear()
    assert (tmp_path / "status.json").exists(), "what another process wrote is not ours to remove"


@pytest.mark.parametrize("text", ["", "[]", '{"pid": "x"}', '{"pid": -1}', "[" * 100_000])
def test_a_torn_status_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "status.json").write_text(text)
    assert StatusFile(tmp_path / "status.json").read() is None


def a_dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_the_doctor_tells_of_the_last_run(tmp_path: Path) -> None:
    places = Places(tmp_path)
    assert findings(places, enabled=True, every=3600) == []
    kept = History(places.runs)
    kept.keep(a_report(state="ok", started=9e9))
    (well,) = findings(places, enabled=True, every=3600)
    assert well.ok
    assert "90 new events from 1 of 2 peers" in well.detail
    kept.keep(a_report("20271127T030000Z", state="failed", error="our own relay is away", started=9e9))
    (ill,) = findings(places, enabled=True, every=3600)
    assert (ill.ok, ill.essential, "our own relay is away" in ill.detail) == (False, False, True)
    kept.keep(a_report("20281127T030000Z", state="ok", started=1.0))
    (late,) = findings(places, enabled=True, every=3600)
    assert not late.ok
    (off,) = findings(places, enabled=False, every=3600)
    assert off.ok


# -- a station's logs -------------------------------------------------------------------------------------------------


def read_by_the_station(log: str) -> dict[str, int]:
    """Do what the stations' report reader means to do (ASTROPORT facts 4.7): the last line of each mark, fields by name."""
    found: dict[str, int] = {}
    for mark in ("SYNC_STATS", "SYNC_IMPORT", "SYNC_PEERS", "SYNC_HEX", "SYNC_PROFILES"):
        lines = [line for line in log.splitlines() if f"{mark}: " in line]
        if lines:
            fields = dict(word.split("=", 1) for word in lines[-1].split(f"{mark}: ")[1].split())
            found |= {f"{mark}.{name}": int(value) for name, value in fields.items() if value.isdecimal()}
    return found


def test_the_stations_reader_finds_every_count(tmp_path: Path) -> None:
    """D27: the script's own reader always found nothing; suffixes of names (`files` in `profiles`) must not mix."""
    log = Journal(tmp_path / "constellation-backfill.log")
    log.begin("# Constellation Backfill Log", "# latest run only")
    report = a_report()
    for level, text in (*beginning(37, 1.0, ["alpha", "beta"]), *ending(report)):
        log.line(level, text)
    text = (tmp_path / "constellation-backfill.log").read_text()
    found = read_by_the_station(text)
    assert found["SYNC_STATS.events"] == 94
    assert (found["SYNC_STATS.dms"], found["SYNC_STATS.public"], found["SYNC_STATS.blog"]) == (20, 74, 11)
    assert (found["SYNC_STATS.profiles"], found["SYNC_STATS.files"], found["SYNC_STATS.deletions"]) == (0, 0, 3)
    assert (found["SYNC_IMPORT.events"], found["SYNC_HEX.count"]) == (90, 37)
    assert (found["SYNC_PEERS.success"], found["SYNC_PEERS.total"]) == (1, 2)
    assert (found["SYNC_PROFILES.found"], found["SYNC_PROFILES.missing"]) == (2, 5)
    assert "mode=verified" in text
    assert text.count("SYNC_STATS: ") == 1, "the reader takes the last one only"
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    assert lines[1].startswith("# ")
    assert all(re.fullmatch(r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[(INFO|WARN|ERROR)\] .+", line) for line in lines[2:])
    assert "Starting Astroport constellation backfill process" in lines[2]
    assert lines[-1].endswith("Backfill process completed")
    counted = [len(re.findall(words, text)) for words in ("Processing peer:", "backfill successful", "backfill failed")]
    assert counted == [2, 1, 1], "what the former trigger's report counts"
    assert len(re.findall("WebSocket.*failed", text)) == 1, "what the report script counts as failures"


def test_the_fields_of_a_stats_line_are_the_scripts_own_in_their_order() -> None:
    names = """events dms public deletions videos files comments voice tags tmdb channels playlists status did ore_spaces
    ore_meetings oracle economic_health workflows n2_memory nip52_calendar profiles text contacts reposts reactions blog drafts
    analytics encrypted_analytics badge_awards profile_badges badge_definitions love_ledger wotx2_objects wotx2_justice
    vibration_matches friction_reports zaps crowdfunding"""
    assert list(stats({})) == names.split()
    assert stats({1: 2, 4: 3, 99: 1})["public"] == 3


def test_every_kind_of_a_station_has_a_name_and_there_are_57() -> None:
    assert len(set(STATION_KINDS)) == 57
    assert set(STATION_KINDS) <= set(KIND_NAMES)
    assert len({name for name, _ in STATS}) == len(STATS)


def test_a_hostile_alias_forges_no_line(tmp_path: Path) -> None:
    log = Journal(tmp_path / "log")
    for level, text in (
        *beginning(1, 1.0, [HOSTILE]),
        *ending(document(About("x"), an_outcome(peers=[PeerOutcome("id", HOSTILE)]))),
    ):
        log.line(level, text)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line for line in lines if re.match(r"\[[^]]*\] \[INFO\] SYNC_PEERS: ", line)] == [
        line for line in lines if "SYNC_PEERS: success=0 total=1" in line
    ]


def test_the_error_log_takes_warnings_and_errors_alone(tmp_path: Path) -> None:
    log = Journal(tmp_path / "errors", frozenset({"WARN", "ERROR"}))
    log.line("INFO", "well")
    log.line("WARN", "odd")
    log.line("ERROR", "bad")
    assert [line.split("] ")[-1] for line in (tmp_path / "errors").read_text().splitlines()] == ["odd", "bad"]


def test_a_log_that_has_grown_is_put_aside_and_the_oldest_goes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for number in range(KEPT + 2):
        path.write_text(str(number))
        os.truncate(path, ROTATE + 1)
        Journal(path).rotate()
        assert not path.exists()
    kept = sorted(tmp_path.iterdir())
    assert [each.name for each in kept] == ["log.1", "log.2", "log.3"]
    assert [each.read_bytes()[:1] for each in kept] == [b"4", b"3", b"2"]
    path.write_text("small")
    Journal(path).rotate()
    assert path.read_text() == "small"


def test_a_log_that_cannot_be_written_costs_the_run_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = Journal(tmp_path / "none" / "log")
    log.line("INFO", "one")
    log.line("INFO", "two")
    assert caplog.text.count("is not written") == 1

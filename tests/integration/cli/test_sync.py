"""`dragon sync` against a node's real control API and real relays: what it stores, says, keeps, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dragon.cli.main import run
from dragon.constellation.places import Places
from dragon.home import Home
from tests.integration.cli.constellation import RelayBackend, node_id, relays
from tests.testbed.backend import served
from tests.testbed.events import Author, authors, many
from tests.testbed.node import wait_for
from tests.testbed.ports import free_port
from tests.testbed.relays import Relay

NOW = int(time.time())


@pytest.fixture(scope="module")
def people() -> list[Author]:
    return authors("sync", 4)


@pytest.fixture
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Relay]]:
    with relays(tmp_path_factory.mktemp("relays"), 3) as started:
        yield started


@contextmanager
def a_node(home: Home, backend: RelayBackend) -> Iterator[RelayBackend]:
    with served(home, backend):
        yield backend


def printed(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    got = run(["sync", *words.split()])
    out = capsys.readouterr()
    assert got == code, f"exit {got}\n{out.out}\n{out.err}"
    return out.out


def report_of(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> Any:
    return json.loads(printed(f"{words} --json", capsys, code))


def spawned(home: Home, *words: str) -> subprocess.Popen[str]:
    env = {**os.environ, "DRAGON_HOME": str(home.root)}
    command = [sys.executable, "-m", "dragon", "sync", *words]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def a_relay_that_stalls() -> Iterator[int]:
    """Accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server.getsockname()[1]


def runs(home: Home) -> list[Path]:
    return sorted((home.root / "constellation" / "runs").glob("*.json"))


def test_what_two_peers_have_is_stored_told_and_kept(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    """D26: peers behind tunnels serve the profiles too, however old those are."""
    mine, alpha, beta = three
    notes = many(60, people, since=NOW - 80_000, until=NOW - 60)
    alpha.load([*notes[:40], people[1].profile("old", created_at=NOW - 40_000_000)])
    beta.load(notes[20:])
    backend = RelayBackend({"alpha": alpha.port, "beta": beta.port}, mine.url, people)
    backend.standing.add(beta.port)  # somebody else uses that tunnel
    with a_node(home, backend):
        report = report_of("", capsys)
        assert (report["state"], report["stored"], report["peers_ok"]) == ("ok", 61, 2)
        assert mine.ids() == {event["id"] for event in notes} | (alpha.ids() - beta.ids())
        assert [word[1:] for word in backend.asked if word[0] == "off"] == [("strfry", alpha.port)], "only what it opened"
        assert (report["pubkeys"], report["profiles_found"], report["by_kind"]) == (4, 1, {"0": 1, "1": 60})
        again = report_of("", capsys)
        assert (again["stored"], again["received"], again["bytes_in"] < report["bytes_in"]) == (0, 0, True)
    listed = json.loads(printed("history --json", capsys))
    assert [one["run"] for one in listed] == [again["run"], report["run"]]
    assert json.loads(printed("history 2 --json", capsys)) == report
    page = Path(printed("history 2 --html", capsys).strip())
    assert "61 new events" in page.read_text()
    status = json.loads(printed("status --json", capsys))
    assert (status["state"], status["run"], status["last"]["run"]) == ("idle", None, again["run"])


def test_one_dead_peer_is_a_failure_of_that_peer_alone(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    """D24: a relay that cannot be reached was counted as a success after nine tries."""
    mine, alpha, _ = three
    alpha.load([people[0].note("hello", created_at=NOW - 60)])
    with a_node(home, RelayBackend({"alpha": alpha.port, "dead": 0}, mine.url, people)) as backend:
        report = report_of("", capsys)
        assert (report["state"], report["peers_ok"], report["peers_failed"], report["stored"]) == ("partial", 1, 1, 1)
        assert "not reached" in next(peer for peer in report["peers"] if peer["alias"] == "dead")["error"]
        assert len([word for word in backend.asked if word == ("forward", "strfry", node_id("dead"))]) <= 2
        again = report_of("", capsys)
        alive = next(peer for peer in again["peers"] if peer["alias"] == "alpha")
        assert (alive["state"], alive["received"]) == ("ok", 0), "a healthy relay with nothing new is no failure"


def test_only_dead_peers_are_a_failed_run_whose_report_is_kept(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    with a_node(home, RelayBackend({"dead": 0}, three[0].url, people)):
        assert report_of("", capsys, code=1)["state"] == "failed"
        assert "failed" in printed("history 1", capsys)
        assert len(runs(home)) == 1


@pytest.mark.parametrize("words", ["--dry-run", "--verify"])
def test_looking_changes_nothing(
    words: str, home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, alpha, _ = three
    alpha.load(many(10, people, since=NOW - 1000, until=NOW - 60))
    mine.load([people[0].note("only here", created_at=NOW - 60)])
    before = mine.ids(), alpha.ids()
    with a_node(home, RelayBackend({"alpha": alpha.port}, mine.url, people)):
        report = report_of(words, capsys)
    (peer,) = report["peers"]
    assert (peer["missing"], peer["lacking"]) == (10, 1 if words == "--verify" else peer["lacking"])
    assert report["mode"] == words.removeprefix("--")  # in the history, too, it is not taken for a run that stored nothing
    assert (mine.ids(), alpha.ids()) == before
    assert not (home.root / "constellation" / "lastrun").exists()


def test_options_reach_the_relays(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, alpha, _ = three
    message, note = people[0].event(4, "secret", created_at=NOW - 60), people[0].note("n", created_at=NOW - 70)
    old, reaction = people[0].note("old", created_at=NOW - 200_000), people[0].event(7, "+", created_at=NOW - 60)
    alpha.load([message, note, old, reaction])
    own = people[1].note("ours", created_at=NOW - 60)
    mine.load([own])
    with a_node(home, RelayBackend({"alpha": alpha.port}, mine.url, people)):
        report_of("--no-dms --kinds 1,4 --no-profiles", capsys)
        assert mine.ids() == {own["id"], note["id"]}
        report_of("--days 3", capsys)
        assert mine.ids() == {own["id"], note["id"], message["id"], old["id"], reaction["id"]}
        assert own["id"] not in alpha.ids()
        assert report_of("--dir both", capsys)["sent"] == 1
        assert own["id"] in alpha.ids()


def test_friends_are_found_in_the_relays_follow_lists_and_synced(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs: the first brings the follow list, and finds the friend; the second brings the friend's own friend as well."""
    mine, alpha, _ = three
    friend, further = Author("friend"), Author("further")
    alpha.load(
        [
            people[0].follows([friend], created_at=NOW - 60),
            friend.follows([further], created_at=NOW - 60),
            friend.note("of a friend", created_at=NOW - 60),
            further.note("of a friend's friend", created_at=NOW - 60),
        ]
    )
    with a_node(home, RelayBackend({"alpha": alpha.port}, mine.url, people)):
        report_of("", capsys)
        assert Places(home.root).friends.read_text() == f"{friend.pubkey}\n"
        assert report_of("", capsys)["pubkeys"] == 5
        assert Places(home.root).friends.read_text().split() == [friend.pubkey, further.pubkey]
        report_of("", capsys)
    assert mine.ids() == alpha.ids()


# -- what keeps a run from starting -----------------------------------------------------------------------------------


def test_without_a_node_it_says_so(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync"]) == 3
    assert "dragon serve" in capsys.readouterr().err
    assert run(["sync", "check"]) == 3
    assert "MISSING  node" in capsys.readouterr().out


def test_nobody_to_sync_with_is_exit_4(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    with a_node(home, RelayBackend({}, three[0].url, people)):
        assert run(["sync", "--json"]) == 4
    told = json.loads(capsys.readouterr().err)
    assert "no other node" in told["error"]
    assert told["hint"]


def test_everything_that_is_missing_is_named_at_once(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    with a_node(home, RelayBackend({}, "ws://127.0.0.1:1", [])):
        assert run(["sync"]) == 1
        error = capsys.readouterr().err
        for word in ("local relay: ws://127.0.0.1:1", "people", "peers", "[constellation] relay"):
            assert word in error
        assert len(error.splitlines()) == 1
        shown = printed("check", capsys, code=1)
        assert shown.count("MISSING") == 3
        documents = json.loads(printed("check --json", capsys, code=1))
        assert {need["name"] for need in documents if not need["ok"]} == {"local relay", "people", "peers"}
        assert all(need["how"] for need in documents if not need["ok"])
    assert not runs(home)


@pytest.mark.parametrize("words", ["--kinds x", "--kinds 70000", "--kinds ,", "--dir up", "--days -1", "--days x", "--nope",
                                   "--days nan", "--days inf", "--timeout nan", "--timeout 0", "--kinds 0000000099999",
                                   "--follow --dry-run", "--verify --follow",
                                   "--verbose --as backfill", "history 7", "history x", "history 1 --html"])  # fmt: skip
def test_wrong_words_are_exit_2(words: str, home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sync", *words.split()]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("words", ["--stats", "--show-hex", "--stats --dir both --days 5", "--as backfill --stats --days 3",
                                   "--as backfill --show-hex", "--as backfill --verbose --stats"])  # fmt: skip
def test_questions_never_start_a_sync(words: str, home: Home, people: list[Author], capsys: pytest.CaptureFixture[str]) -> None:
    """D21: with a count of zero `--stats` went on to a real sync, and `--show-hex` printed an error as a key."""
    with a_node(home, RelayBackend({"alpha": free_port()}, f"ws://127.0.0.1:{free_port()}", people)) as backend:
        shown = printed(words, capsys)
        assert not [word for word in backend.asked if word[0] == "forward"]
    assert not runs(home)
    assert not (home.root / "constellation" / "sync.lock").exists()
    if "hex" in words:
        assert shown.split() == [person.pubkey for person in people]


# -- how a run ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(number: signal.Signals, home: Home, people: list[Author], three: list[Relay]) -> None:
    mine, alpha, _ = three
    alpha.load([people[0].note("kept", created_at=NOW - 60)])
    with a_relay_that_stalls() as port, a_node(home, RelayBackend({"alpha": alpha.port, "stalls": port}, mine.url, people)):
        process = spawned(home, "--json")
        wait_for(mine.ids, 60)
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    report = json.loads(out)
    assert (report["state"], report["stored"]) == ("cancelled", 1)
    assert [path.stem for path in runs(home)] == [report["run"]]
    assert (home.root / "constellation" / "sync.lock").read_text() == ""


def test_out_of_time_keeps_what_came_and_says_so(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, alpha, _ = three
    alpha.load([people[0].note("kept", created_at=NOW - 60)])
    with a_relay_that_stalls() as port, a_node(home, RelayBackend({"alpha": alpha.port, "stalls": port}, mine.url, people)):
        report = report_of("--timeout 10", capsys, code=1)
    assert (report["state"], report["stored"], len(mine.ids())) == ("timeout", 1, 1)
    assert len(runs(home)) == 1


def test_two_at_once_are_one(home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]) -> None:
    mine = three[0]
    with a_relay_that_stalls() as port, a_node(home, RelayBackend({"stalls": port}, mine.url, people)):
        process = spawned(home, "--json")
        going = Places(home.root).status
        wait_for(lambda: going.exists(), 60)
        assert run(["sync"]) == 1
        assert f"pid {process.pid}" in capsys.readouterr().err
        assert run(["sync", "--as", "backfill"]) == 0, "as the script: nothing to do is done"
        status = json.loads(printed("status --json", capsys))
        assert (status["state"], status["run"]["pid"]) == ("running", process.pid)
        shown = printed("check", capsys, code=1)
        assert "MISSING  no other run" in shown
        process.terminate()
        process.communicate(timeout=60)
    assert len(runs(home)) == 1


def test_following_brings_what_appears_from_whoever_is_there(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    mine, alpha, beta = three
    before = people[0].note("before", created_at=NOW - 60)
    alpha.load([before])
    with a_node(home, RelayBackend({"alpha": alpha.port}, mine.url, people)) as backend:
        process = spawned(home, "--follow", "--json")

        def status() -> Any:
            return json.loads(printed("status --json", capsys))

        def following(*aliases: str) -> bool:
            peers = (status()["follow"] or {}).get("peers", [])
            return sorted(peer["alias"] for peer in peers if peer["state"] == "ok") == sorted(aliases)

        wait_for(lambda: following("alpha"), 60)
        assert mine.ids() == {before["id"]}, "the backfill came first"
        now = people[1].note("now", created_at=int(time.time()))
        alpha.load([now, Author("nobody").note("not of our people", created_at=int(time.time()))])
        wait_for(lambda: now["id"] in mine.ids(), 30)
        backend.join("beta", beta.port)
        wait_for(lambda: following("alpha", "beta"), 60)
        there = people[2].note("there", created_at=int(time.time()))
        beta.load([there])
        wait_for(lambda: there["id"] in mine.ids(), 30)
        assert run(["sync", "--days", "2"]) == 0, "a run goes on beside it"
        capsys.readouterr()
        process.terminate()
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, "to be stopped is how a follower ends"
        assert status()["state"] == "idle"
    report = json.loads(out)
    assert (report["mode"], report["state"], report["stored"]) == ("follow", "ok", 2)
    assert mine.ids() == {before["id"], now["id"], there["id"]}


def test_a_run_ends_with_the_node_that_started_it(home: Home, people: list[Author], three: list[Relay]) -> None:
    with a_relay_that_stalls() as port, a_node(home, RelayBackend({"stalls": port}, three[0].url, people)):
        process = spawned(home, "--scheduled", "--json", "--parent", "1")  # not its parent: that one is gone
        out, _ = process.communicate(timeout=60)
    assert json.loads(out)["state"] == "cancelled"


def test_an_hourly_run_leaves_room_for_the_last_one(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    with a_node(home, RelayBackend({"alpha": three[1].port}, three[0].url, people)):
        first = report_of("--scheduled", capsys)
        assert first["mode"] == "scheduled"
        assert printed("--scheduled", capsys) == "skipped: a run began lately\n"
        assert len(runs(home)) == 1


def test_a_node_that_says_foreign_things_is_shown_them_harmlessly(
    home: Home, people: list[Author], three: list[Relay], capsys: pytest.CaptureFixture[str]
) -> None:
    alias = "evil\x1b[2J\u202e<script>alert(1)</script>\r\n[INFO] SYNC_PEERS: success=9 total=9"
    with a_node(home, RelayBackend({alias: 0}, three[0].url, people)):
        shown = printed("", capsys, code=1)
    assert not set(shown) & set("\x1b\r\u202e")
    (page,) = (home.root / "constellation" / "runs").glob("*.html")
    assert "<script" not in page.read_text()

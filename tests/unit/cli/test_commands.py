"""Each command against a node's real control API: what it prints for people, pipes and programs, and its exit code."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dragon import errors
from dragon.cli import tables
from dragon.cli.main import run
from dragon.home import Home
from tests.testbed.backend import ALPHA, BETA, ServedBackend, a_peer, a_performance, a_provider

HOSTILE = "evil\x1b[2J\x1b]0;owned\x07\u202egnp.exe\u200b\r\nroot: \x9b31m$(reboot)\U000e0041"


def json_of(words: str, capsys: pytest.CaptureFixture[str]) -> Any:
    assert run([*words.split(), "--json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def text_of(words: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    assert run(words.split()) == code
    printed = capsys.readouterr()
    assert printed.err == ""
    return printed.out


def spawn(home: Home, *words: str, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "DRAGON_HOME": str(home.root), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "dragon", *words], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def test_peers_and_services_are_the_nodes_own_documents(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of("peers", capsys) == node.backend.known_peers
    assert json_of("services", capsys) == node.backend.known_services
    assert json_of("services ollama", capsys) == node.backend.known_services


def test_status(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(json_of("status", capsys)) >= {"id", "alias", "swarm", "addresses", "peers", "offers", "kubo", "dashboard"}
    shown = text_of("status", capsys)
    assert BETA in shown
    assert "0.43.0" in shown
    assert "managed" in shown
    assert shown.startswith("node")


def test_status_says_when_kubo_is_away() -> None:
    """Its version is not known then; an empty place would say nothing."""
    away = {"api": "/ip4/127.0.0.1/tcp/5001", "version": "", "managed": True, "problem": "Kubo does not answer at /ip4/…"}
    (row,) = [row for row in tables.status({"kubo": away}).rows if row[0].text == "kubo"]
    assert row[1].text == "Kubo does not answer at /ip4/… (managed)"


def test_peers_says_why_a_node_is_skewed() -> None:
    peer = {"alias": "a", "id": BETA, "state": "skewed", "reason": "its clock is 60 min ahead of ours"}
    ((_, _, state, *_),) = tables.peers([peer]).rows
    assert state.text == "skewed (its clock is 60 min ahead of ours)"


def test_forward_prints_the_url_alone_for_a_pipe(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of("forward ollama auto", capsys) == "http://127.0.0.1:11434\n"
    opened = json_of("forward ollama", capsys)
    assert set(opened) == {"slug", "provider", "route", "host", "port", "url", "reused"}
    assert opened["reused"] is True


def test_forward_hands_on_every_word(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    words = "forward ollama 2 --where model=llama3.2 --where gpu=a=b --via p2p --spread --port 9000 --raw"
    assert text_of(words, capsys) == "http://127.0.0.1:9000\n"
    where = {"model": "llama3.2", "gpu": "a=b"}
    assert node.backend.asked == [("forward", "ollama", "2", where, "p2p", True, 9000, True)]


def test_forwards_and_off(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no forward is open" in text_of("forwards", capsys)
    text_of("forward ollama", capsys)
    assert [one["slug"] for one in json_of("forwards", capsys)] == ["ollama"]
    assert "http://127.0.0.1:11434" in text_of("forwards", capsys)
    assert text_of("off ollama", capsys) == "closed 1 forward\n"
    assert json_of("off", capsys) == {"closed": 0}
    assert "no forward was open" in text_of("off", capsys)


def test_explain_names_candidate_and_rule(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    shown = text_of("explain ollama", capsys)
    assert "alpha" in shown
    assert "lowest latency" in shown
    assert "the only one" in shown
    assert json_of("explain ollama", capsys)["candidates"][0]["id"] == ALPHA


def test_env_is_for_a_shell_whatever_the_value(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "http://x/$(touch /tmp/never)`id`'\"; echo owned\\"
    node.backend.variables = {"OLLAMA_API_BASE": "http://127.0.0.1:11434", "B": hostile}
    lines = text_of("env ollama", capsys)
    assert lines.splitlines()[0] == "export OLLAMA_API_BASE=http://127.0.0.1:11434"
    sourced = subprocess.run(["sh", "-c", f'{lines}\nprintf %s "$B"'], capture_output=True, text=True, check=True)
    assert sourced.stdout == hostile
    assert json_of("env ollama", capsys) == {"slug": "ollama", "variables": node.backend.variables}


def test_a_variable_name_that_is_a_command_is_never_printed(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    node.backend.variables = {"A=1; reboot #": "x"}
    assert run(["env", "ollama"]) == 1
    assert capsys.readouterr().out == ""


def test_reload_and_refresh(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of("reload", capsys) == "changed: catalogue.private\n"
    assert json_of("reload", capsys) == {"changed": ["catalogue.private"], "restart": []}
    node.backend.restart = ["node.alias"]
    assert text_of("reload", capsys) == "changed: catalogue.private\nfrom the node's next start on: node.alias\n"
    text_of("peers --refresh", capsys)
    assert ("refresh",) in node.backend.asked


def test_version_with_and_without_a_node(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of("version", capsys).startswith("dragon 0.")
    assert json_of("version", capsys)["node"] is None


def test_version_of_the_running_node(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of("version", capsys)["node"]["api"] == 1


@pytest.mark.parametrize(
    "words",
    ["status", "peers", "peers --watch", "services", "forward ollama", "forwards", "off", "explain x", "env x", "reload"],
)
def test_without_a_node_every_command_is_exit_3_and_says_how_to_start_one(
    home: Home, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    assert run(words.split()) == 3
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"dragon: no node is running for {home.root}; start one: dragon serve\n"
    assert run([*words.split(), "--json"]) == 3
    told = json.loads(capsys.readouterr().err)
    assert told == {"error": f"no node is running for {home.root}", "hint": "start one: dragon serve"}


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        ("services olama", 2, "did you mean ollama?"),
        ("services Not/a/slug", 2, "not the name of a service"),
        ("forward comfyui", 4, "nobody offers comfyui"),
        ("forward", 2, "dragon forward --help"),
        ("forward ollama --port 0", 2, "--port"),
        ("forward ollama --port x", 2, "--port"),
        ("forward ollama --where gpu", 2, "KEY=VALUE"),
        ("forward ollama --where model=a --where model=b", 2, "both a and b"),
        ("forward ollama --via pigeon", 2, "via: expected local, ssh6, ssh4 or p2p"),
        ("peers --jsn", 2, "--json"),
        ("frobnicate", 2, "dragon --help"),
        ("peers extra", 2, "extra"),
    ],
)
def test_wrong_words_are_one_line_with_the_right_code(
    node: ServedBackend, capsys: pytest.CaptureFixture[str], words: str, code: int, told: str
) -> None:
    assert run(words.split()) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert told in printed.err
    assert run([*words.split(), "--json"]) == code
    assert set(json.loads(capsys.readouterr().err)) == {"error", "hint"}


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (errors.AmbiguousNode("two nodes match ab", "use more of the id"), 2),
        (errors.PortInUse("9 is taken", "choose another"), 1),
        (errors.KuboUnreachable("Kubo is away", "start it"), 1),
        (errors.PeerUnreachable("the peer is away"), 1),
        (ZeroDivisionError("a bug"), 1),
    ],
)
def test_failures_inside_the_node_keep_their_code(
    node: ServedBackend, capsys: pytest.CaptureFixture[str], failure: BaseException, code: int
) -> None:
    node.backend.failure = failure
    assert run(["forward", "ollama"]) == code
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    assert printed.count("\n") == 1


def test_version_as_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert text_of("--version", capsys).startswith("dragon 0.")


def test_without_a_word_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert "forward" in text_of("", capsys)


def test_a_pipe_gets_plain_aligned_columns(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    node.backend.known_peers = [a_peer(alias="日本 node"), a_peer(BETA, "b", state="silent", last_seen=7200.0)]
    lines = text_of("peers", capsys).splitlines()
    assert lines[0].split() == ["ALIAS", "ID", "STATE", "TRUST", "SEEN", "RTT", "OFFERS"]
    assert lines[1].startswith("日本 node  …")
    assert lines[2].startswith("b          …")
    assert "2h" in lines[2]
    assert "\x1b" not in "".join(lines)


def test_who_asks_for_one_service_is_told_of_that_one(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    node.backend.known_services = [{"slug": "comfyui", "providers": []}]
    assert text_of("services comfyui", capsys) == "nobody offers comfyui\n"
    node.backend.known_services = []
    assert text_of("services", capsys) == "nobody offers anything yet\n"


def test_services_show_number_provider_and_labels(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    providers = [a_provider(), a_provider(BETA, "beta", n=2, self=True, rtt_ms=None, load=None)]
    node.backend.known_services = [{"slug": "ollama", "providers": providers}]
    lines = text_of("services", capsys).splitlines()
    assert lines[1].split()[:3] == ["ollama", "1", "alpha"]
    assert "model=llama3.2" in lines[1]
    assert "25%" in lines[1]
    assert lines[2].split()[:4] == ["ollama", "2", "beta", "(self)"]


def hostile_backend(node: ServedBackend) -> None:
    offer = {**a_peer()["offers"][0], "slug": HOSTILE}
    node.backend.known_peers = [a_peer(HOSTILE, HOSTILE, state=HOSTILE, trust=HOSTILE, offers=[offer])]
    provider = a_provider(HOSTILE, HOSTILE, health=HOSTILE, labels={HOSTILE: HOSTILE})
    node.backend.known_services = [{"slug": HOSTILE, "providers": [provider]}]
    node.backend.open = [{"slug": HOSTILE, "url": HOSTILE, "provider": HOSTILE, "route": HOSTILE, "connections": HOSTILE}]
    node.backend.findings = [{"name": HOSTILE, "ok": False, "detail": HOSTILE, "fix": HOSTILE, "fixable": True}]


def fit_for_a_terminal(text: str, lines: int | None = None) -> None:
    assert not set(text) & set("\x1b\x07\x9b\r\u202e\u200b\U000e0041"), ascii(text)
    if lines is not None:
        assert text.count("\n") == lines, ascii(text)


@pytest.mark.parametrize("words", ["peers", "services", "forwards"])
def test_hostile_names_do_nothing_to_a_terminal(node: ServedBackend, capsys: pytest.CaptureFixture[str], words: str) -> None:
    """THREATS 10, at the exit that is the terminal: no control, bidi or hidden character, and no forged line."""
    hostile_backend(node)
    fit_for_a_terminal(text_of(words, capsys), lines=2)


def test_a_hostile_error_is_one_clean_line(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    node.backend.failure = errors.NoProvider(HOSTILE, HOSTILE)
    assert run(["forward", "ollama"]) == 4
    fit_for_a_terminal(capsys.readouterr().err, lines=1)


def on_terminal(home: Home, *words: str, **environ: str) -> str:
    """Run a command with its output on a real pseudo-terminal and return the bytes that the terminal got."""
    leader, follower = pty.openpty()
    env = {**os.environ, "DRAGON_HOME": str(home.root), "TERM": "xterm-256color", "COLUMNS": "200", **environ}
    if "NO_COLOR" not in environ:
        env.pop("NO_COLOR", None)
    process = subprocess.Popen([sys.executable, "-m", "dragon", *words], env=env, stdout=follower, stderr=follower)
    os.close(follower)
    got = b""
    try:
        while chunk := os.read(leader, 65536):
            got += chunk
    except OSError:  # Linux says EIO when the other end has closed
        pass
    finally:
        os.close(leader)
        process.wait(30)
    assert process.returncode == 0, got
    return got.decode()


def test_a_terminal_gets_a_coloured_table_and_no_color_is_respected(node: ServedBackend) -> None:
    coloured = on_terminal(node.home, "peers")
    assert "\x1b[32m" in coloured
    assert "alpha" in coloured
    bare = on_terminal(node.home, "peers", NO_COLOR="1")
    assert "alpha" in bare
    assert "\x1b[32m" not in bare


def test_markup_and_hostile_names_do_nothing_to_a_coloured_table(node: ServedBackend) -> None:
    node.backend.known_peers = [a_peer(alias="[red]a[/red] :bomb: " + HOSTILE)]
    shown = on_terminal(node.home, "peers", NO_COLOR="1")
    assert "[red]a[/red] :bomb: evil" in shown
    assert not set(shown) & set("\x07\x9b\u202e\u200b\U000e0041")
    assert "\x1b[2J" not in shown
    assert "\x1b]" not in shown


def test_watch_prints_one_document_a_line_on_each_change(node: ServedBackend) -> None:
    process = spawn(node.home, "peers", "--watch", "--json")
    assert process.stdout is not None
    try:
        assert len(json.loads(process.stdout.readline())) == 2
        node.backend.known_peers = [a_peer(alias="gamma")]
        node.change()
        assert [peer["alias"] for peer in json.loads(process.stdout.readline())] == ["gamma"]
    finally:
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert told == ""


def test_watch_in_a_pipe_prints_tables(node: ServedBackend) -> None:
    process = spawn(node.home, "services", "ollama", "--watch")
    assert process.stdout is not None
    try:
        assert process.stdout.readline().startswith("SERVICE")
        assert "alpha" in process.stdout.readline()
        node.backend.known_services = [{"slug": "ollama", "providers": [a_provider(alias="gamma")]}]
        node.change()
        assert [process.stdout.readline() for _ in range(3)][2].split()[2] == "gamma"
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def test_a_reader_that_leaves_is_no_failure(node: ServedBackend) -> None:
    node.backend.known_peers = [a_peer(alias=f"n{number}") for number in range(3000)]
    process = spawn(node.home, "peers")
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 0


def test_a_listing_imports_neither_aiohttp_nor_pydantic_nor_rich(node: ServedBackend) -> None:
    code = (
        "import sys; from dragon.cli.main import run; assert run(['peers']) == 0;"
        "sys.exit(str([m for m in ('aiohttp', 'asyncio', 'pydantic', 'rich', 'cryptography', 'msgpack') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_completion_offers_known_slugs_and_nothing_without_a_node(home: Home, node: ServedBackend) -> None:
    words = {"_DRAGON_COMPLETE": "complete_bash", "COMP_WORDS": "dragon forward o", "COMP_CWORD": "2"}
    done = subprocess.run([sys.executable, "-m", "dragon"], env={**os.environ, **words}, capture_output=True, text=True)
    assert done.stdout.split() == ["ollama"]
    done = subprocess.run(
        [sys.executable, "-m", "dragon"],
        env={**os.environ, **words, "DRAGON_HOME": str(Path(home.root) / "none")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == []
    assert "Traceback" not in done.stderr


def test_providers_shows_what_was_measured(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    assert json_of("providers ollama", capsys) == node.backend.performed
    heading, line = text_of("providers ollama", capsys).splitlines()
    assert heading.split()[:8] == ["N", "PROVIDER", "ID", "STATE", "ROUTE", "TRIED", "FAILED", "LATENCY"]
    for shown in ("alpha", "p2p", "12", "8.2ms", "7.0ms", "41ms", "2.5MB/s", "34MB", "1.2kB", "closed", "reset"):
        assert shown in line.split()
    node.backend.performed = [a_performance(route="", latency_ms=None, bytes_per_second=None, last_failure=HOSTILE)]
    shown = text_of("providers ollama", capsys)
    assert "never tried" in shown
    assert "\x1b" not in shown
    node.backend.performed = []
    assert "nobody offers it" in text_of("providers ollama", capsys)
    assert run(["providers", "olama"]) == 2


def test_forward_with_a_pool_and_how_it_is_shown(node: ServedBackend, capsys: pytest.CaptureFixture[str]) -> None:
    text_of("forward ollama --pool auto", capsys)
    text_of("forward ollama --pool 2", capsys)
    assert [step[-1] for step in node.backend.asked] == ["auto", 2]
    for wrong in ("many", "-1", "2.5", "9" * 50):
        assert run(["forward", "ollama", "--pool", wrong]) == 2, wrong
    capsys.readouterr()
    member = {"id": ALPHA, "alias": "alpha", "in_flight": 0, "proven": 1.0}
    node.backend.open[0] |= {
        "pool": {"wanted": 2, "auto": True, "resting": True, "members": [member, {**member, "alias": "beta"}]},
        "latency_ms": 12.5,
        "p95_ms": 40.0,
        "bytes_per_second": 1e6,
    }
    shown = text_of("forwards", capsys)
    assert "2/2 auto resting alpha beta" in shown
    for figure in ("12ms", "40ms", "1.0MB/s"):
        assert figure in shown.split()

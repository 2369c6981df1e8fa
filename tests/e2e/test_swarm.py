"""The project's main job, end to end: what runs beside one node is found and used from another. Real Kubo, real processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Swarm
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.services import RunningService, start_service


@pytest.fixture(scope="module")
def ollama(swarm: Swarm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """A process named `ollama` beside node a, on the port where that node expects it; seen by b and c when this returns."""
    home = tmp_path_factory.mktemp("ollama")
    with start_service(
        "http", name="ollama", port=swarm.port, models=["llama3.2:latest", "gemma3:latest"], home=home
    ) as service:
        for node in (swarm.b, swarm.c):
            wait_for(partial(providers, node, "ollama"), 30, lambda: f"{swarm.a.json('doctor')}\n{swarm.a.log}")
        yield service


def providers(node: DragonNode, slug: str) -> list[dict[str, Any]]:
    listing = node.json("services")
    return next((one["providers"] for one in listing if one["slug"] == slug), [])


def is_withdrawn(node: DragonNode, slug: str) -> bool:
    return not providers(node, slug)


def get(url: str, timeout: float = 10.0) -> Any:
    with urllib.request.urlopen(url, timeout=timeout) as answer:
        return json.loads(answer.read())


def test_status_tells_who_and_where(swarm: Swarm) -> None:
    for node, alias in zip(swarm.nodes, ("alpha", "beta", "gamma"), strict=True):
        status = node.json("status")
        assert status["alias"] == alias
        assert status["swarm"] == "e2e"
        assert status["dashboard"] is None
        assert status["kubo"]["managed"] is True
        assert status["addresses"]
        assert all(address.endswith(f"/p2p/{status['id']}") for address in status["addresses"])


def test_every_node_sees_every_node_with_the_documented_fields(swarm: Swarm) -> None:
    peers = swarm.b.json("peers")
    assert {peer["alias"] for peer in peers} == {"alpha", "beta", "gamma"}
    assert [peer["alias"] for peer in peers if peer["self"]] == ["beta"]
    for peer in peers:
        assert set(peer) >= {"id", "alias", "state", "trust", "last_seen", "sequence", "source", "rtt_ms", "offers", "self"}
        assert peer["state"] == "live"
        assert peer["trust"] == "signed"
        assert peer["last_seen"] >= 0


def test_a_service_beside_one_node_is_offered_to_all(swarm: Swarm, ollama: RunningService) -> None:
    for node in swarm.nodes:
        (provider,) = providers(node, "ollama")
        assert provider["alias"] == "alpha"
        assert provider["n"] == 1
        assert provider["state"] == "live"
        assert provider["health"] == "passing"
        assert 0 <= provider["load"] <= 1
        assert "llama3.2:latest" in provider["labels"].values()


def test_forward_auto_gives_a_local_port_that_answers(swarm: Swarm, ollama: RunningService) -> None:
    opened = swarm.b.json("forward", "ollama", "auto")
    assert set(opened) >= {"slug", "provider", "route", "host", "port", "url", "reused"}
    assert opened["route"] == "p2p"
    assert opened["provider"] == swarm.a.json("status")["id"]
    assert opened["host"] == "127.0.0.1"
    assert opened["url"] == f"http://127.0.0.1:{opened['port']}"
    assert opened["port"] != swarm.port
    assert get(f"{opened['url']}/whoami")["pid"] == ollama.pid
    assert {model["name"] for model in get(f"{opened['url']}/api/tags")["models"]} == {"llama3.2:latest", "gemma3:latest"}

    again = swarm.b.json("forward", "ollama", "auto")
    assert again["reused"] is True
    assert again["port"] == opened["port"]
    (listed,) = swarm.b.json("forwards")
    assert listed["slug"] == "ollama"
    assert listed["port"] == opened["port"]


def test_env_prints_what_a_shell_can_source(swarm: Swarm, ollama: RunningService) -> None:
    port = swarm.b.json("forward", "ollama")["port"]
    printed = swarm.b.run("env", "ollama")
    assert printed.returncode == 0
    sourced = subprocess.run(
        ["sh", "-c", f"{printed.stdout}\necho $OLLAMA_API_BASE"], capture_output=True, text=True, check=True
    )
    assert sourced.stdout.strip() == f"http://127.0.0.1:{port}"


def test_the_local_service_wins_over_a_tunnel(swarm: Swarm, ollama: RunningService) -> None:
    opened = swarm.a.json("forward", "ollama", "auto")
    assert opened["route"] == "local"
    assert opened["port"] == swarm.port


def test_a_provider_is_named_by_number_alias_or_part_of_its_id(swarm: Swarm, ollama: RunningService) -> None:
    node_id = swarm.a.json("status")["id"]
    for target in ("1", "alpha", node_id[-6:], node_id):
        assert swarm.c.json("forward", "ollama", target)["provider"] == node_id
    assert swarm.c.run("off").returncode == 0


def test_labels_choose_the_provider_that_has_the_model(swarm: Swarm, ollama: RunningService) -> None:
    assert swarm.c.json("forward", "ollama", "--where", "model=llama3.2")["route"] == "p2p"
    nobody = swarm.c.run("forward", "ollama", "--where", "model=gpt-oss", "--json")
    assert nobody.returncode == 4
    assert json.loads(nobody.stderr)["error"]
    assert swarm.c.run("off", "ollama").returncode == 0


def test_explain_names_every_candidate_and_the_reason(swarm: Swarm, ollama: RunningService) -> None:
    told = swarm.b.json("explain", "ollama")
    assert any(candidate["alias"] == "alpha" for candidate in told["candidates"])
    assert swarm.b.run("explain", "ollama").stdout.count("alpha") >= 1


def test_off_closes_the_port_and_leaves_no_tunnel(swarm: Swarm, ollama: RunningService) -> None:
    opened = swarm.b.json("forward", "ollama", "auto")
    assert swarm.b.run("off", "ollama").returncode == 0
    assert swarm.b.json("forwards") == []
    with pytest.raises(OSError):
        get(f"{opened['url']}/whoami")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("forward", "olama"), 2),
        (("forward", "comfyui"), 4),
        (("forward", "ollama", "zzzzzz"), 4),
        (("services", "nonsense"), 2),
        (("forward", "ollama", "99"), 4),
    ],
)
def test_wrong_words_have_their_exit_code_and_one_clear_line(
    swarm: Swarm, ollama: RunningService, words: tuple[str, ...], code: int
) -> None:
    done = swarm.c.run(*words)
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    told = json.loads(swarm.c.run(*words, "--json").stderr)
    assert set(told) >= {"error", "hint"}


def test_a_service_that_stops_is_withdrawn_and_comes_back(swarm: Swarm, ollama: RunningService, tmp_path: Path) -> None:
    ollama.kill()
    for node in (swarm.b, swarm.c):
        wait_for(partial(is_withdrawn, node, "ollama"), 30, lambda: swarm.a.log)
    assert swarm.c.run("forward", "ollama").returncode == 4
    with start_service("http", name="ollama", port=swarm.port, models=["gemma3:latest"], home=tmp_path):
        wait_for(lambda: providers(swarm.c, "ollama"), 30, lambda: swarm.a.log)
        assert "gemma3:latest" in providers(swarm.c, "ollama")[0]["labels"].values()


def test_serve_stops_cleanly_and_the_others_hear_it(swarm: Swarm) -> None:
    assert swarm.c.terminate() == 0
    assert swarm.c.kubo_pid() is None
    wait_for(lambda: state_of(swarm.b, "gamma") == "left", 15, lambda: str(swarm.b.json("peers")))
    assert swarm.c.run("status").returncode == 3
    swarm.c.start()
    wait_for(lambda: state_of(swarm.b, "gamma") == "live", 30, lambda: str(swarm.b.json("peers")))


def test_kill_9_of_a_node_costs_the_swarm_nothing_and_the_node_nothing(swarm: Swarm) -> None:
    """THREATS 2: its marks, its identity and its sequence survive; its left-over Kubo does not stop it from starting."""
    before = swarm.c.json("status")["id"]
    sequence = next(peer["sequence"] for peer in swarm.b.json("peers") if peer["alias"] == "gamma")
    swarm.c.kill()
    assert swarm.c.kubo_pid() is not None
    swarm.c.start()
    assert swarm.c.json("status")["id"] == before
    wait_for(
        lambda: next(p["sequence"] for p in swarm.b.json("peers") if p["alias"] == "gamma") > sequence,
        30,
        lambda: f"{swarm.b.json('peers')}\n{swarm.c.log}",
    )


def state_of(node: DragonNode, alias: str) -> str:
    return next((str(peer["state"]) for peer in node.json("peers") if peer["alias"] == alias), "unknown")


def test_watch_prints_one_document_a_line(swarm: Swarm) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dragon", "peers", "--watch", "--json"],
        env=swarm.b.env, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        assert {peer["alias"] for peer in first} >= {"alpha", "beta"}
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)

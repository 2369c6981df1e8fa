"""`dragon me` as stations' programs call it: two real nodes, an ollama beside one, callers that only know files and codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.conftest import NodeFactory, live
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.ports import free_port
from tests.testbed.services import RunningService, start_service

READER = Path(__file__).with_name("reader.sh")


@dataclass
class Station:
    """A consumer's node with its `~/.zen`; `provider` runs an ollama, `stub` is its process."""

    node: DragonNode
    provider: DragonNode
    stub: RunningService
    zen: Path

    def me(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dragon", "me", *words],
            env={**self.node.env, "ZEN_HOME": str(self.zen), **variables},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def done(self, *words: str, **variables: str) -> str:
        """Run a command that must succeed; return what it printed."""
        result = self.me(*words, **variables)
        assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}\n{self.node.log}"
        assert result.stderr == ""
        return result.stdout

    def read(self, script: str = "") -> str:
        """Return what a bash program gets that sources the status file and asks the service at CONNECTION_PORT."""
        return subprocess.run(
            ["bash", script or str(READER), str(self.zen / "tmp" / "ollama_connection.status")],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout

    @property
    def status_file(self) -> Path:
        return self.zen / "tmp" / "ollama_connection.status"

    @property
    def provider_id(self) -> str:
        return str(self.provider.json("status")["id"])


@pytest.fixture(scope="module")
def station(make_node: NodeFactory, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    port, native, home = free_port(), free_port(), tmp_path_factory.mktemp("stub")
    provider = make_node("owl", swarm="me", tables=f"[catalogue.ollama]\nport = {port}").start()
    join = provider.json("status")["addresses"]
    node = make_node("lark", swarm="me", join=join, tables=f"[catalogue.ollama]\nport = {native}").start()
    with start_service("http", name="ollama", port=port, models=["gemma3:latest"], home=home) as stub:
        wait_for(lambda: live(node) == {"owl", "lark"}, 30, lambda: node.log)
        wait_for(lambda: node.json("services"), 30, lambda: provider.log)
        yield Station(node, provider, stub, tmp_path_factory.mktemp("zen"))


@pytest.fixture(autouse=True)
def closed(station: Station) -> Iterator[None]:
    """Every test begins and ends without a connection."""
    yield
    station.me("ollama", "OFF")
    assert not station.status_file.exists()
    assert station.node.json("forwards") == []


def answers(port: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/whoami", timeout=10) as answer:
        return int(json.loads(answer.read())["pid"])


def test_no_word_connects_and_bash_finds_the_service_through_the_file(station: Station) -> None:
    printed = station.done("ollama")
    kind, details, port, body = station.read().splitlines()
    assert (kind, details) == ("P2P", station.provider_id)
    assert printed.splitlines()[-1] == f"Ollama API ready via P2P at http://localhost:{port}"
    assert answers(port) == station.stub.pid
    assert json.loads(body)["models"][0]["name"] == "gemma3:latest"
    assert oct(station.status_file.stat().st_mode & 0o777) == "0o644"

    station.done("ollama")  # again: the same connection
    assert station.read().splitlines()[2] == port
    assert len(station.node.json("forwards")) == 1


def test_each_way_to_name_the_node(station: Station) -> None:
    node_id = station.provider_id
    for words in ("P2P", "p2p auto", "swarm 1", "IPFS random", "P2P owl", f"P2P {node_id}", f"P2P {node_id[-7:-1]}"):
        station.done("ollama", *words.split())
        kind, details, port, _ = station.read().splitlines()
        assert (kind, details) == ("P2P", node_id), words
        assert answers(port) == station.stub.pid
        assert len(station.node.json("forwards")) == 1


def test_test_and_status_say_0_with_a_connection_and_1_without(station: Station) -> None:
    for word in ("TEST", "STATUS", "st"):
        without = station.me("ollama", word)
        assert without.returncode == 1
        assert "no connection to ollama" in without.stderr
    station.done("ollama", "P2P")
    assert "GET /api/tags → 200" in station.done("ollama", "test")
    shown = station.done("ollama", "status")
    assert "Ollama API ready via P2P at" in shown
    assert station.provider_id in shown


def test_models_are_read_through_the_connection(station: Station) -> None:
    assert station.me("ollama", "MODELS").returncode == 1
    station.done("ollama")
    assert station.done("ollama", "models") == "gemma3:latest\n"


def test_scan_numbers_the_nodes_and_ends_with_the_methods(station: Station) -> None:
    lines = station.done("ollama", "scan").splitlines()
    (row,) = [line.split() for line in lines if station.provider_id in line]
    assert row[:4] == ["1", "owl", station.provider_id, "passing"]
    assert lines[-1] == "Available methods: LOCAL=N SSH=N P2P=Y"
    assert station.node.json("forwards") == []


def test_where_the_service_runs_it_is_local_and_off_leaves_its_listener(station: Station) -> None:
    """OFF on a provider closed what it published, with the scripts (defect D13)."""
    own = Station(station.provider, station.node, station.stub, station.zen)
    assert own.done("ollama").splitlines() == [f"Ollama API ready at http://localhost:{station.stub.port}"]
    assert own.read().splitlines()[:3] == ["LOCAL", "Local service", str(station.stub.port)]
    assert own.done("ollama", "LOCAL").splitlines() == [f"Ollama API ready at http://localhost:{station.stub.port}"]
    assert own.done("ollama", "scan").splitlines()[-1] == "Available methods: LOCAL=Y SSH=N P2P=N"
    assert "Ollama API ready at" in own.done("ollama", "STATUS")
    own.done("ollama", "OFF")
    assert not own.status_file.exists()
    station.done("ollama", "P2P")
    assert answers(station.read().splitlines()[2]) == station.stub.pid


def test_the_port_of_the_environment_is_where_it_answers(station: Station) -> None:
    port = str(free_port())
    station.done("ollama", OLLAMA_PORT=port)
    assert station.read().splitlines()[2] == port
    assert answers(port) == station.stub.pid
    station.done("ollama", "OFF")
    station.done("ollama", OLLAMA_P2P_PORT=port)
    assert answers(port) == station.stub.pid
    refused = station.me("ollama", OLLAMA_PORT="$(reboot)")
    assert refused.returncode == 1
    assert "OLLAMA_PORT" in refused.stderr


@pytest.mark.parametrize("switch", ["IPFS_P2P_ENABLED", "SWARM_DISCOVERY_ENABLED"])
def test_without_p2p_there_is_no_connection_to_others(station: Station, switch: str) -> None:
    refused = station.me("ollama", **{switch: "false"})
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[0] == "Error: Failed to maintain Ollama connection"
    assert f"{switch}=false" in refused.stderr
    assert station.me("ollama", "P2P", **{switch: "false"}).returncode == 1
    assert station.done("ollama", "SCAN", **{switch: "false"}).splitlines()[-1] == "Available methods: LOCAL=N SSH=N P2P=N"
    assert not station.status_file.exists()
    station.done("ollama", LOAD_BALANCING_ENABLED="false")


REFUSED: list[tuple[list[str], str]] = [
    (["ollama", "CONNECT"], "words are STATUS"),
    (["ollama", "P2P", "9"], "Invalid selection: 9 (valid: 1-1)"),
    (["ollama", "P2P", "zzzz"], "Node not found: zzzz"),
    (["ollama", "P2P", "1", "2"], "too many words"),
    (["ollama", "LOCAL"], "does not run here"),
    (["ollama", "SSH"], "set `host` under [ssh]"),
    (["olama"], "did you mean ollama"),
    (["comfyui"], "Erreur : Le port ComfyUI n'est pas accessible"),
    (["perplexica"], "Could not establish connection to Perplexica API"),
    (["Orpheus", "P2P"], "Could not establish connection to any Orpheus TTS API"),
    (["dify.ai"], "nobody offers dify"),
    (["../etc"], "is not the name of a service"),
    ([], "SERVICE"),
]


def test_what_cannot_be_done_is_told_and_is_1(station: Station) -> None:
    for words, says in REFUSED:
        refused = station.me(*words)
        assert refused.returncode == 1, words
        assert says in refused.stderr, words
        assert "Traceback" not in refused.stderr
    assert station.node.json("forwards") == []


def test_help_needs_no_node_and_everything_else_says_that_none_runs(station: Station, tmp_path: Path) -> None:
    for word in ("HELP", "-h", "--help"):
        assert "P2P" in station.done("comfyui", word, DRAGON_HOME=str(tmp_path))
    for words in (["ollama"], ["ollama", "STATUS"], ["ollama", "OFF"]):
        refused = station.me(*words, DRAGON_HOME=str(tmp_path))
        assert refused.returncode == 1
        assert "no node is running" in refused.stderr


def test_ensure_connects_what_the_tags_need(station: Station) -> None:
    environment = {**station.node.env, "ZEN_HOME": str(station.zen)}

    def ensure(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dragon", "ensure", *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)

    alone = ensure("--tags", "#BRO good morning")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert station.read().splitlines()[0] == "P2P"

    both = ensure("--tags", "#BRO #image of a fox")
    assert both.returncode == 4
    assert "Erreur : Le port ComfyUI n'est pas accessible" in both.stderr.splitlines()

    told = ensure("--tags", "#pierre", "--json")
    assert told.returncode == 4
    assert [(one["service"], one["ok"], one["type"]) for one in json.loads(told.stdout)["services"]] == [
        ("ollama", True, "P2P"),
        ("orpheus", False, None),
    ]


def test_the_shims_are_the_scripts_that_callers_know(station: Station, tmp_path: Path) -> None:
    made = station.node.run("astroport", "shims", str(tmp_path / "services"))
    assert made.returncode == 0, made.stderr
    shim = tmp_path / "services" / "ollama.me.sh"
    environment = {**station.node.env, "ZEN_HOME": str(station.zen)}
    for command in ([str(shim)], ["bash", str(shim), "P2P", "1"]):
        assert subprocess.run(command, env=environment, capture_output=True, timeout=60).returncode == 0
    assert answers(station.read().splitlines()[2]) == station.stub.pid
    assert subprocess.run([str(shim), "no such word"], env=environment, capture_output=True, timeout=60).returncode == 1

"""Commands against a node that is a table: which forwards are asked for, what is printed, what the file says, 0 or 1."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from dragon.astroport import me
from dragon.astroport.connecting import Connector, node_lines
from dragon.astroport.environment import read
from dragon.astroport.nodes import nodes_of
from dragon.astroport.services import service_named
from dragon.astroport.status_file import StatusFile, parse
from dragon.astroport.veteran import days
from dragon.astroport.words import parse as parse_words
from dragon.errors import KuboUnreachable, NoProvider, NotRunning
from tests.unit.astroport.control import OWL, RAVEN, SELF, FakeControl, provider

TWO = [provider(OWL, "owl", 1, labels={"model": "gemma3:latest"}), provider(RAVEN, "raven", 2, load=0.5)]


class Caller:
    """Somebody who calls `dragon me`; keeps what was printed."""

    def __init__(self, control: FakeControl, zen: Path) -> None:
        self.control, self.zen = control, zen
        self.out: list[str] = []
        self.err: list[str] = []

    def __call__(self, words: str, **variables: str) -> int:
        self.out, self.err = [], []
        self.control.asked.clear()
        name, *rest = words.split()
        return me.run(self.control, name, rest, {"ZEN_HOME": str(self.zen), **variables}, self.out.append, self.err.append)

    def told(self, service: str = "ollama") -> tuple[str, ...]:
        """TYPE, DETAILS and PORT (or URL) of the status file; nothing where there is none."""
        fields = StatusFile(self.zen, service).read()
        keys = ("CONNECTION_TYPE", "CONNECTION_DETAILS", "CONNECTION_PORT", "RELAY_URL")
        return tuple(fields[key] for key in keys if key in fields)


@pytest.fixture
def control() -> FakeControl:
    return FakeControl({"ollama": TWO, "comfyui": TWO, "strfry": TWO, "perplexica": TWO})


@pytest.fixture
def call(control: FakeControl, tmp_path: Path) -> Caller:
    return Caller(control, tmp_path)


def test_no_word_lets_the_node_choose(call: Caller) -> None:
    assert call("ollama") == 0
    assert call.control.routes() == [("auto", None, None, None)]
    assert call.out == [f"Connected to {OWL} via IPFS P2P", "Ollama API ready via P2P at http://localhost:11434"]
    assert call.err == []
    assert call.told() == ("P2P", OWL, "11434")


def test_a_connection_that_stands_and_works_is_kept_one_that_does_not_is_left(call: Caller) -> None:
    call("ollama P2P 2")
    assert call("ollama") == 0
    assert call.control.routes() == []
    assert call.told() == ("P2P", RAVEN, "11434")
    call.control.dead = {RAVEN}
    assert call("ollama") == 0
    assert call.told() == ("P2P", OWL, "11434")
    assert [one["provider"] for one in call.control.open] == [OWL]


def test_another_node_takes_over_the_port_only_once_it_works(call: Caller) -> None:
    call("ollama P2P owl")
    assert call("ollama P2P raven") == 0
    assert call.told() == ("P2P", RAVEN, "11434")
    assert [(one["provider"], one["port"]) for one in call.control.open] == [(RAVEN, 11434)]
    call.control.dead = {OWL}
    assert call("ollama P2P owl") == 1
    assert call.told() == ("P2P", RAVEN, "11434")
    assert [(one["provider"], one["port"]) for one in call.control.open] == [(RAVEN, 11434)]


def test_forwards_of_others_are_left_alone(call: Caller) -> None:
    theirs = call.control.forward("ollama", RAVEN, via="p2p")
    call("ollama P2P owl")
    assert call.told() == ("P2P", OWL, "21220")
    call("ollama P2P raven")
    assert theirs["port"] in {one["port"] for one in call.control.open}


def test_bare_p2p_takes_the_best_and_names_the_nodes_when_there_are_several(call: Caller) -> None:
    assert call("ollama P2P") == 0
    assert call.control.routes() == [("auto", "p2p", None, None)]
    assert call.out[0] == "2 nodes offer ollama:"
    assert call.out[1].split() == ["1", "owl", OWL, "passing", "load", "0.00", "gemma3:latest"]
    assert call.out[2].split() == ["2", "raven", RAVEN, "passing", "load", "0.50"]
    call("ollama OFF")
    call.control.offers["ollama"] = TWO[:1]
    assert call("ollama P2P") == 0
    assert call.out == [f"Connected to {OWL} via IPFS P2P", "Ollama API ready via P2P at http://localhost:11434"]


@pytest.mark.parametrize(("words", "strategy"), [("P2P auto", None), ("P2P random", "random"), ("P2P", None)])
def test_random_is_a_strategy(call: Caller, words: str, strategy: str | None) -> None:
    call(f"ollama {words}")
    assert call.control.routes() == [("auto", "p2p", None, strategy)]


def test_numbers_are_handed_on_as_ids(call: Caller) -> None:
    call("ollama P2P 2")
    assert call.control.routes() == [(RAVEN, "p2p", None, None)]


@pytest.mark.parametrize("value", ["false", "FALSE", "0", "no"])
def test_switches_of_the_environment(call: Caller, value: str) -> None:
    assert call("ollama", LOAD_BALANCING_ENABLED=value) == 0
    assert call.control.routes() == [("auto", None, None, "first")]
    call("ollama OFF")
    for name in ("IPFS_P2P_ENABLED", "SWARM_DISCOVERY_ENABLED"):
        assert call("ollama", **{name: value}) == 1
        assert [route[1] for route in call.control.routes()] == ["local", "ssh6", "ssh4"]
        assert ("services", "ollama") not in call.control.asked
        assert call.err[0] == "Error: Failed to maintain Ollama connection"
        assert f"{name}=false" in call.err[1]
        call.control.ssh = ("ssh4",)
        assert call("ollama", **{name: value}) == 0
        assert call.told() == ("SSH_IPv4", "scorpio.example:2122", "11434")
        call("ollama OFF")
        call.control.ssh = ()
    call.control.local = {"ollama": 11434}
    assert call("ollama", IPFS_P2P_ENABLED=value) == 0
    assert call.told() == ("LOCAL", "Local service", "11434")
    assert call("ollama scan", SWARM_DISCOVERY_ENABLED=value) == 0
    assert ("services", "ollama") not in call.control.asked
    assert call.out[-1] == "Available methods: LOCAL=Y SSH=N P2P=N"


@pytest.mark.parametrize(
    ("service", "variables", "port"),
    [
        ("ollama", {"OLLAMA_PORT": "12000"}, 12000),
        ("ollama", {"OLLAMA_PORT": "11434"}, None),
        ("ollama", {"OLLAMA_P2P_PORT": "12001", "OLLAMA_PORT": "12000"}, 12001),
        ("comfyui", {"COMFYUI_PORT": "9000", "COMFYUI_URL": "http://127.0.0.1:9001"}, 9000),
        ("comfyui", {"COMFYUI_URL": "http://localhost:9001/"}, 9001),
        ("comfyui", {"COMFYUI_URL": "http://gpu.example:9001"}, None),
        ("comfyui", {"COMFYUI_URL": "http://127.0.0.1:8188"}, None),
        ("perplexica", {"PERPLEXICA_PORT": "4000"}, 4000),
        ("perplexica", {}, 3002),
        ("strfry", {"STRFRY_P2P_PORT": "9998"}, 9998),
        ("strfry", {"STRFRY_PORT": "7777"}, None),
    ],
)
def test_ports_of_the_environment(call: Caller, service: str, variables: dict[str, str], port: int | None) -> None:
    assert call(f"{service} P2P owl", **variables) == 0
    assert call.control.routes() == [(OWL, "p2p", port, None)]


@pytest.mark.parametrize("value", ["abc", "0", "65536", "$(reboot)", "-1", "٣"])
def test_a_port_that_is_none_is_told_before_anything_is_asked(call: Caller, value: str) -> None:
    for name in ("OLLAMA_PORT", "OLLAMA_P2P_PORT"):
        assert call("ollama", **{name: value}) == 1
        assert call.control.asked == []
        assert name in call.err[0]
    assert call("comfyui", COMFYUI_URL="http://127.0.0.1:99999") == 1


@pytest.mark.parametrize("name", ["perplexica", "vane"])
def test_a_service_whose_callers_look_elsewhere_is_brought_there_if_it_can_be(call: Caller, name: str) -> None:
    """Whoever offers it as perplexica listens on 3001; callers of both names look at 3002."""
    call.control.offers[name], call.control.native = TWO, {name: 3001}
    assert call(name) == 0
    assert call.told(name) == ("P2P", OWL, "3002")
    call(f"{name} OFF")
    call.control.taken = {3002}
    assert call(name) == 0
    assert call.told(name) == ("P2P", OWL, "3001")
    call(f"{name} OFF")
    call.control.taken, call.control.local = set(), {name: 3001}
    assert call(name) == 0
    assert call.told(name) == ("LOCAL", "Local service", "3002")


def test_a_port_that_was_asked_for_and_is_taken_is_a_failure(call: Caller) -> None:
    call.control.taken = {12000}
    assert call("ollama", OLLAMA_PORT="12000") == 1
    assert "port 12000" in call.err[1]
    assert call.told() == ()


def test_a_p2p_port_leaves_a_service_of_this_machine_where_it_is(call: Caller) -> None:
    call.control.local = {"strfry": 7777}
    assert call("strfry", STRFRY_P2P_PORT="9998") == 0
    assert call.told("strfry") == ("LOCAL", "Local strfry", "ws://127.0.0.1:7777")
    assert call.out == ["Strfry API ready at ws://localhost:7777"]


def test_ssh_tries_ipv6_before_ipv4(call: Caller) -> None:
    assert call("ollama ssh") == 1
    assert "ssh6 is not set up" in call.err[1]
    call.control.ssh = ("ssh4",)
    assert call("ollama SSH") == 0
    assert call.out == ["Ollama API ready via SSH at http://localhost:11434"]
    assert call.told() == ("SSH_IPv4", "scorpio.example:2122", "11434")
    assert call("ollama ipv6") == 1
    assert call.told() == ("SSH_IPv4", "scorpio.example:2122", "11434")


def test_a_private_service_of_this_machine_is_local(call: Caller) -> None:
    call.control.private = {"qdrant": 6333}
    for words in ("qdrant", "qdrant LOCAL"):
        assert call(words) == 0
        assert call.told("qdrant") == ("LOCAL", "Local service", "6333")
    call.control.dead = {SELF}
    assert call("qdrant") == 1


@pytest.mark.parametrize(
    ("production", "variables", "told"),
    [
        (False, {}, ("LOCAL", "Local service", "8188")),
        (False, {"COMFYUI_PORT": "9000"}, ("P2P", OWL, "9000")),
        (True, {}, ("P2P", OWL, "8188")),
    ],
)
def test_what_answers_here_is_used_whoever_started_it(
    call: Caller, production: bool, variables: dict[str, str], told: tuple[str, ...]
) -> None:
    """As the managers, which look at the port and the API first: a ComfyUI started by hand is no unit, and yet it works."""
    call.control.private, call.control.production = {"comfyui": 8188}, production
    assert call("comfyui P2P 1") == 0
    call("comfyui OFF")
    assert call("comfyui", **variables) == 0
    assert call.told("comfyui") == told


def test_status_and_test(call: Caller) -> None:
    for word in ("STATUS", "TEST", "MODELS"):
        assert call(f"ollama {word}") == 1
        assert call.err == ["dragon: no connection to ollama; open one"]
    call("ollama")
    assert call("ollama STATUS") == 0
    assert call.out[0] == "Ollama API ready via P2P at http://localhost:11434"
    assert call.out[1].split() == ["node", OWL]
    assert call.out[2].split()[0] == "since"
    assert call("ollama TEST") == 0
    call.control.dead = {OWL}
    assert call("ollama STATUS") == 1
    assert call("ollama TEST") == 1
    assert call.control.routes() == []
    call.control.open.clear()
    call.control.local = {"ollama": 11434}
    assert call("ollama STATUS") == 0
    assert call.out[0] == "Ollama API ready at http://localhost:11434"


def test_the_first_success_of_qdrant_is_kept_for_the_ranking_of_stations(call: Caller) -> None:
    stamp = call.zen / "tmp" / "qdrant_veteran_since"
    assert call("qdrant TEST") == 1
    assert not stamp.exists()
    call.control.private = {"qdrant": 6333}
    assert call("qdrant TEST") == 0
    assert days(stamp.read_text(), time.time() + 3 * 86400 + 60) == 3
    stamp.write_text("1700000000\n")
    assert call("qdrant TEST") == 0
    assert stamp.read_text() == "1700000000\n"
    stamp.unlink()
    stamp.parent.rmdir()
    stamp.parent.write_text("in the way")
    assert call("qdrant TEST") == 0
    assert "qdrant_veteran_since" in call.err[0]


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e9", "$(reboot)", "99999999999", "9" * 400, "٣"])
def test_a_stamp_that_tells_no_past_moment_counts_nothing(text: str) -> None:
    assert days(text, 1_800_000_000.0) is None


def test_scan(call: Caller) -> None:
    call.control.offers["orpheus"] = [provider(SELF, "self")]
    assert call("orpheus SCAN") == 0
    assert call.out[-1] == "Available methods: LOCAL=N P2P=N"
    call.control.ssh, call.control.local = ("ssh6",), {"ollama": 11434}
    assert call("ollama scan") == 0
    assert call.out[0] == "Ollama here: port 11434"
    assert call.out[-1] == "Available methods: LOCAL=Y SSH=Y P2P=Y"
    assert call.control.routes() == []


def test_off_closes_what_this_node_opened_and_removes_the_file(call: Caller) -> None:
    call("ollama")
    assert call("ollama OFF") == 0
    assert call.control.open == []
    assert call.told() == ()
    assert call("ollama OFF") == 0
    call("ollama")
    call.control.failure = NotRunning("no node is running for /h", "start one: dragon serve")
    assert call("ollama OFF") == 1
    assert call.told() == ()


@pytest.mark.parametrize(
    "words", ["ollama", "ollama P2P", "ollama STATUS", "ollama SCAN", "ollama TEST", "ollama FREE", "ollama ssh"]
)
def test_without_a_node_everything_is_1_with_a_clear_line(call: Caller, words: str) -> None:
    call.control.failure = NotRunning("no node is running for /h", "start one: dragon serve")
    assert call(words) == 1
    assert call.err[-1] == "dragon: no node is running for /h; start one: dragon serve"
    call.control.failure = KuboUnreachable("Kubo does not answer")
    assert call(words) == 1


def test_an_unknown_word_and_an_unknown_service_ask_for_nothing(call: Caller) -> None:
    assert call("ollama CONNECT") == 1
    assert call("dify whatever") == 1
    assert call.control.asked == []
    assert call("olama SCAN") == 1
    assert call.err == ["dragon: no service 'olama' in the catalogue; did you mean ollama?"]


def test_a_status_file_that_cannot_be_written_is_told_and_the_connection_stands(tmp_path: Path, control: FakeControl) -> None:
    (tmp_path / "zen").write_text("a file")
    call = Caller(control, tmp_path / "zen")
    assert call("ollama") == 0
    assert "status file could not be written" in call.err[0]


def test_a_hostile_name_stays_in_its_place(call: Caller) -> None:
    call.control.stations = {OWL: {"hex": "$(reboot)"}}
    assert call("comfyui P2P owl") == 0
    text = (call.zen / "tmp" / "comfyui_connection.status").read_text()
    assert parse(text)["CONNECTION_NODE_HEX"] == ""
    call.control.stations = {OWL: {"hex": "ab" * 32}}
    call("comfyui P2P raven")
    call("comfyui P2P owl")
    assert f"CONNECTION_NODE_HEX={'ab' * 32}\n" in (call.zen / "tmp" / "comfyui_connection.status").read_text()


# -- comfyui's queues --------------------------------------------------------------------------------------------------


def connector(control: FakeControl, zen: Path, jobs: dict[str, int | None], warned: list[str] | None = None) -> Connector:
    service = service_named("comfyui")

    def ask(port: int) -> int | None:
        return jobs[next(one["provider"] for one in control.open if one["port"] == port)]

    warn = warned.append if warned is not None else pytest.fail
    return Connector(control, service, read({"ZEN_HOME": str(zen)}, service), say=lambda _: None, warn=warn, jobs=ask)


@pytest.mark.parametrize(
    ("word", "jobs", "taken"),
    [
        ("IMAGE", {OWL: 2, RAVEN: 0}, OWL),
        ("IMAGE", {OWL: 3, RAVEN: 0}, RAVEN),
        ("MUSIC", {OWL: 2, RAVEN: 1}, RAVEN),
        ("", {OWL: 3, RAVEN: 2}, RAVEN),
        ("P2P", {OWL: None, RAVEN: 0}, RAVEN),
        ("P2P", {OWL: None, RAVEN: 3}, None),
        ("P2P 1", {OWL: 9, RAVEN: 0}, OWL),
        ("IMAGE", {OWL: 3, RAVEN: 9}, None),
        ("MUSIC", {OWL: None, RAVEN: 2}, None),
    ],
)
def test_a_busy_comfyui_is_passed_over(
    control: FakeControl, tmp_path: Path, word: str, jobs: dict[str, int | None], taken: str | None
) -> None:
    asking = connector(control, tmp_path, jobs)
    command = parse_words(service_named("comfyui"), word.split())
    if taken is None:
        with pytest.raises(NoProvider) as refused:
            asking.connect(command)
        assert "owl" in refused.value.args[0]
        assert "raven" in refused.value.args[0]
        assert control.open == []
        return
    assert asking.connect(command).provider == taken
    assert [(one["provider"], one["port"]) for one in control.open] == [(taken, 8188)]


@pytest.mark.parametrize("word", ["", "IMAGE", "P2P"])
def test_where_nobody_tells_its_queue_the_first_is_taken(control: FakeControl, tmp_path: Path, word: str) -> None:
    warned: list[str] = []
    asking = connector(control, tmp_path, {OWL: None, RAVEN: None}, warned)
    assert asking.connect(parse_words(service_named("comfyui"), word.split())).provider == OWL
    assert [(one["provider"], one["port"]) for one in control.open] == [(OWL, 8188)]
    assert warned == ["nobody tells how long a comfyui queue is; owl is taken all the same"]


def test_of_the_free_the_least_loaded_is_tried_first_and_the_dead_are_told(control: FakeControl, tmp_path: Path) -> None:
    crow, jay = OWL.replace("ALPHA", "GAMMA"), OWL.replace("ALPHA", "DELTA")
    control.offers["comfyui"] = [*TWO, provider(crow, "crow", 3, load=0.1), provider(jay, "jay", 4, load=0.2)]
    control.dead = {crow}
    warned: list[str] = []
    found = connector(control, tmp_path, {OWL: 5, RAVEN: 0, jay: 0}, warned).connect(
        parse_words(service_named("comfyui"), ["IMAGE"])
    )
    assert found.provider == jay
    assert [line.split(":")[0] for line in warned] == ["crow"]


def test_who_signs_nothing_is_tried_after_all_who_do_whatever_it_says_of_its_load(control: FakeControl, tmp_path: Path) -> None:
    crow = OWL.replace("ALPHA", "GAMMA")
    busy = [{**each, "load": 0.9} for each in TWO]
    control.offers["comfyui"] = [*busy, provider(crow, "crow", 3, trust="ipns")]
    jobs: dict[str, int | None] = {OWL: 5, RAVEN: 0, crow: 0}
    found = connector(control, tmp_path, jobs).connect(parse_words(service_named("comfyui"), ["IMAGE"]))
    assert found.provider == RAVEN
    marked = [line for line in node_lines(nodes_of(control.services("comfyui"))) if line.endswith("(ipns)")]
    assert ["crow" in line for line in marked] == [True]


def test_a_connection_that_stands_is_kept_whatever_its_queue(control: FakeControl, tmp_path: Path) -> None:
    jobs: dict[str, int | None] = {OWL: 0, RAVEN: 0}
    asking = connector(control, tmp_path, jobs)
    for _ in range(2):
        assert asking.connect(parse_words(service_named("comfyui"), ["MUSIC"])).provider == OWL
        jobs[OWL] = 9


def test_a_local_comfyui_is_never_too_busy(control: FakeControl, tmp_path: Path) -> None:
    control.local = {"comfyui": 8188}
    assert connector(control, tmp_path, {}).connect(parse_words(service_named("comfyui"), [])).route == "local"

"""Reading what processes, systemd and container engines say."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from dragon.probe.entry import Evidence
from dragon.probe.evidence import CannotTell, Sources, container, gather, process, systemd
from dragon.probe.evidence.container import Container, Engine
from dragon.probe.evidence.process import Process


@pytest.mark.parametrize(
    ("stat", "found"),
    [
        (b"812 (ollama) S 1 812 812 0 -1 4194560", Process(812, "ollama", 7)),
        (b"9 (a) b (c)) R 1 2", Process(9, "a) b (c)", 7)),  # a name may hold anything
        (b"812 (ollama) Z 1 812", None),
        (b"812 (ollama) X 1 812", None),
        (b"", None),
    ],
)
def test_stat_lines(stat: bytes, found: Process | None) -> None:
    assert process.parse_stat(stat, 7) == found


@pytest.mark.parametrize(
    ("pattern", "matches"),
    [("ollama", {1, 2}), ("^ollama$", {1}), ("oll.*_se", {2}), ("OLLAMA", set()), ("serve", set()), ("strfry", {3})],
)
def test_names_match_as_pgrep_does(pattern: str, matches: set[int]) -> None:
    processes = [Process(1, "ollama", 0), Process(2, "ollama_llama_se", 0), Process(3, "strfry", 0)]
    assert {each.pid for each in process.match(pattern, processes)} == matches
    assert process.sight(pattern, processes).holds is bool(matches)


def test_our_own_processes_are_no_evidence() -> None:
    pids = {each.pid for each in process.running()}
    assert os.getpid() in pids
    assert os.getpid() not in {each.pid for each in process.running(frozenset({os.getpid()}))}


@pytest.mark.parametrize(
    ("output", "states"),
    [
        ("active\n", {"a": "active"}),
        ("inactive\n", {"a": "inactive"}),
        ("activating", {"a": "activating"}),
    ],
)
def test_systemctl_words(output: str, states: dict[str, str]) -> None:
    assert systemd.parse(["a"], output, "") == states


@pytest.mark.parametrize(
    ("output", "errors", "words"),
    [
        ("", "Failed to connect to bus: No medium found\n", "Failed to connect to bus"),
        ("offline\n", "System has not been booted with systemd\n", "not been booted"),
        ("active\n", "", "did not answer"),  # one word for two units
    ],
)
def test_systemctl_without_a_manager_cannot_tell(output: str, errors: str, words: str) -> None:
    with pytest.raises(CannotTell, match=words):
        systemd.parse(["a", "b"], output, errors)


@pytest.mark.parametrize(
    ("system", "user", "holds"),
    [
        ({"a": "active"}, {"a": "inactive"}, True),
        ({"a": "inactive"}, {"a": "active"}, True),
        ({"a": "reloading"}, CannotTell("no bus"), True),
        ({"a": "activating"}, {"a": "failed"}, False),
        (CannotTell("no bus"), {"a": "inactive"}, False),
        (CannotTell("no bus"), CannotTell("no systemctl"), None),
    ],
)
def test_a_unit_runs_under_either_manager(
    system: dict[str, str] | CannotTell, user: dict[str, str] | CannotTell, holds: bool | None
) -> None:
    assert systemd.sight("a", {"system": system, "user": user}).holds is holds


def test_the_user_managers_folder_is_found_without_its_variable() -> None:
    assert systemd.environment({"XDG_RUNTIME_DIR": "/here"}, "user")["XDG_RUNTIME_DIR"] == "/here"
    found = systemd.environment({}, "user").get("XDG_RUNTIME_DIR")
    assert found == (f"/run/user/{os.getuid()}" if Path(f"/run/user/{os.getuid()}").is_dir() else None)
    assert systemd.environment({"LC_ALL": "fr_FR"}, "system")["LC_ALL"] == "C.UTF-8"


LISTED = [
    {"Names": ["/x-orpheus-1"], "Image": "ghcr.io/x/orpheus-fastapi:1", "Ports": []},
    {"Names": ["/search"], "Image": "itzcrazykns1337/vane:latest", "Ports": [
        {"PrivatePort": 3000, "PublicPort": 3002, "Type": "tcp", "IP": "0.0.0.0"},
        {"PrivatePort": 53, "PublicPort": 53, "Type": "udp"}, {"PrivatePort": 9, "Type": "tcp"}]},
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "image_only", "holds", "ports"),
    [
        ("orpheus", False, True, None),  # the machine's own network: its ports are not listed
        ("orpheus", True, True, None),
        ("x-orpheus", True, False, None),
        ("search", False, True, {3002}),
        ("vane", False, True, {3002}),
        ("perplexica", False, False, None),
    ],
)
def test_containers_by_name_or_image(text: str, image_only: bool, holds: bool, ports: set[int] | None) -> None:
    sighting = container.sight(text, container.parse(LISTED), [], image_only=image_only)
    assert (sighting.holds, sighting.ports) == (holds, None if ports is None else frozenset(ports))


def test_an_engine_that_cannot_be_asked_is_not_a_no() -> None:
    assert container.sight("a", [], ["/x: no permission"], image_only=False).holds is None
    assert container.sight("a", [Container(("a",), "b", None)], ["/x: no permission"], image_only=False).holds is True


@pytest.mark.parametrize("document", [{}, "x", None, 3])
def test_another_shape_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a list"):
        container.parse(document)


@pytest.mark.parametrize(
    ("environ", "found", "words"),
    [
        ({"DOCKER_HOST": "unix:///d.sock"}, [Engine(path="/d.sock")], ""),
        ({"DOCKER_HOST": "tcp://127.0.0.1:2375"}, [Engine(url="http://127.0.0.1:2375")], ""),
        ({"DOCKER_HOST": "tcp://127.0.0.1:2376", "DOCKER_TLS_VERIFY": "1"}, [], "wants TLS"),
        ({"DOCKER_HOST": "tcp://10.0.0.9:2375"}, [], "not on this machine"),
        ({"DOCKER_HOST": "ssh://me@host"}, [], "not on this machine"),
        ({"DOCKER_HOST": "unix:///d", "CONTAINER_HOST": "unix:///p"}, [Engine(path="/d"), Engine(path="/p")], ""),
    ],
)
def test_where_engines_listen(tmp_path: Path, environ: dict[str, str], found: list[Engine], words: str) -> None:
    empty = {"XDG_RUNTIME_DIR": str(tmp_path), "CONTAINER_HOST": "unix:///none", **environ}
    engines, troubles = container.engines(empty, tmp_path, 12345)
    assert [each for each in engines if each.path != "/none"] == found
    assert words in "".join(troubles)


def test_rootless_sockets_are_found(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "docker.sock"))
        engines, _ = container.engines({"XDG_RUNTIME_DIR": str(tmp_path)}, tmp_path, 1)
    assert Engine(path=str(tmp_path / "docker.sock")) in engines


async def test_sources_are_asked_at_once_and_only_when_needed() -> None:
    asked: list[str] = []
    together = asyncio.Barrier(3)  # two managers and one engine: broken unless all are asked at the same time

    async def units(scope: systemd.Scope, names: list[str], timeout: float) -> dict[str, str]:
        asked.append(f"{scope} {names}")
        await asyncio.wait_for(together.wait(), 30)
        return dict.fromkeys(names, "active" if scope == "user" else "inactive")

    async def containers(engine: Engine, timeout: float) -> list[Container]:
        asked.append(str(engine))
        await asyncio.wait_for(together.wait(), 30)
        return [Container(("orpheus",), "img", None)]

    def processes(own: frozenset[int]) -> list[Process]:
        asked.append("processes")
        return [Process(5, "ollama", 0)]

    sources = Sources(processes, units, lambda: ([Engine(path="/d")], []), containers)
    wanted = [Evidence("systemd", "a"), Evidence("systemd", "b"), Evidence("docker", "orpheus"), Evidence("port")]
    gathered = await gather(wanted, sources, timeout=5)
    assert {str(key): value.holds for key, value in gathered.sightings.items()} == {
        "systemd:a": True, "systemd:b": True, "docker:orpheus": True, "port": True,
    }  # fmt: skip
    assert sorted(asked) == ["/d", "system ['a', 'b']", "user ['a', 'b']"]
    asked.clear()
    assert (await gather([Evidence("process", "ollama")], sources, timeout=5)).sightings[Evidence("process", "ollama")].holds
    assert asked == ["processes"]


async def test_what_cannot_be_asked_is_stated() -> None:
    async def units(scope: systemd.Scope, names: list[str], timeout: float) -> dict[str, str]:
        raise CannotTell("there is no systemctl on this machine")

    async def containers(engine: Engine, timeout: float) -> list[Container]:
        raise CannotTell(f"{engine}: no permission")

    def processes(own: frozenset[int]) -> list[Process]:
        raise CannotTell("/proc cannot be read")

    sources = Sources(processes, units, lambda: ([Engine(path="/d")], ["DOCKER_HOST=x is not here"]), containers)
    wanted = [Evidence("systemd", "a"), Evidence("docker", "b"), Evidence("process", "c")]
    gathered = await gather(wanted, sources, timeout=5)
    assert [sighting.holds for sighting in gathered.sightings.values()] == [None, None, None]
    assert gathered.limits == [
        "/proc cannot be read",
        "systemd units are not seen: there is no systemctl on this machine",
        "containers are not seen: DOCKER_HOST=x is not here",
        "containers are not seen: /d: no permission",
    ]


async def test_without_systemctl(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CannotTell, match="no systemctl"):
        await systemd.ask("system", ["a.service"], 5)


def running_by(pid_file: Path) -> bool:
    return pid_file.exists() and Path("/proc", pid_file.read_text().strip()).exists()


async def test_a_systemctl_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script = tmp_path / "systemctl"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 1000\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(CannotTell, match="no answer within"):
        await systemd.ask("system", ["a.service"], 0.5)
    assert not running_by(tmp_path / "pid")


async def test_sockets_that_do_not_answer(tmp_path: Path) -> None:
    with pytest.raises(CannotTell, match="no such socket"):
        await container.ask(Engine(path=str(tmp_path / "none.sock")), 5)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "m.sock"))
        with pytest.raises(CannotTell, match="nobody answers"):
            await container.ask(Engine(path=str(tmp_path / "m.sock")), 5)
        mute.listen()
        with pytest.raises(CannotTell, match="no answer within"):
            await container.ask(Engine(path=str(tmp_path / "m.sock")), 0.2)

"""SSH as a user meets it: a real node, its config.toml, the command line, and a station's environment."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dragon.astroport.status_file import parse
from tests.testbed.fixtures_services import StartService
from tests.testbed.node import DragonNode, config_text
from tests.testbed.sshd import SshServer

StartHost = Callable[..., SshServer]
StartNode = Callable[..., DragonNode]


@pytest.fixture
def start_node(tmp_path: Path, kubo_binary: Path) -> Iterator[StartNode]:
    made: list[DragonNode] = []

    def start(tables: str, **env: str) -> DragonNode:
        words = {"DRAGON_KUBO_BINARY": str(kubo_binary), "ZEN_HOME": str(tmp_path / "zen"), **env}
        made.append(DragonNode(tmp_path / "home", config_text(alias="alpha", swarm="ssh", tables=tables), env=words))
        return made[-1].start()

    yield start
    for node in made:
        node.cleanup()


def test_a_host_of_the_settings_from_forward_to_off(
    start_node: StartNode, ssh_host: StartHost, http_service: StartService, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    server, service = ssh_host(), http_service(name="remote", models=["llama3.2:latest"])
    known = tmp_path / "known_hosts"
    known.write_text(server.known_line("127.0.0.1"))
    node = start_node(
        f'[ssh]\nhost = "127.0.0.1"\nuser = "{server.user}"\nport4 = {server.port}\nknown_hosts = ["{known}"]\n'
        f'keys = ["{server.user_key}"]\nagent = false\n[ssh.ollama]\nport = {service.port}\n'
        f"[ssh.comfyui]\nport = {unused_port()}\n"
        f"[catalogue.ollama]\nport = {unused_port()}\n"
    )
    result = node.json("forward", "ollama", "auto")
    provider = f"ssh4:{server.user}@127.0.0.1:{server.port}"
    assert (result["route"], result["provider"], result["reused"]) == ("ssh4", provider, False)
    with urllib.request.urlopen(f"{result['url']}/whoami", timeout=20) as answer:
        assert json.load(answer)["pid"] == service.pid
    [forward] = node.json("forwards")
    assert (forward["route"], forward["alias"], forward["healthy"]) == ("ssh4", "127.0.0.1", True)
    assert [line["route"] for line in node.json("explain", "ollama")["candidates"]] == ["ssh4"]
    for words, code, says in [
        (("ollama", "--via", "ssh6"), 2, "leads to no host"),
        (("orpheus", "--via", "ssh4"), 2, "does not allow route ssh4"),
        (("comfyui", "--via", "ssh4"), 4, "nothing answers on port"),
    ]:
        done = node.run("forward", *words)
        assert (done.returncode, says in done.stderr) == (code, True), done.stderr
    assert node.run("me", "ollama", "SSH").returncode == 0
    told = parse((tmp_path / "zen" / "tmp" / "ollama_connection.status").read_text())
    assert (told["CONNECTION_TYPE"], told["CONNECTION_DETAILS"]) == ("SSH_IPv4", f"127.0.0.1:{server.port}")
    assert node.run("off").returncode == 0
    server.new_key("host_key")
    server.kill()
    server.start()
    done = node.run("forward", "ollama", "--via", "ssh4")
    assert done.returncode == 1
    assert "HAS CHANGED" in done.stderr
    assert f"{known}:1" in done.stderr
    assert node.terminate() == 0


def test_a_host_of_the_stations_environment(
    start_node: StartNode, ssh_host: StartHost, http_service: StartService, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    server, service = ssh_host(), http_service(name="remote", models=["llama3.2:latest"])
    folder = tmp_path / "zen" / "Astroport.ONE"
    folder.mkdir(parents=True)
    (folder / ".env").write_text(f"SWARM_REMOTE_HOST=127.0.0.1\nSWARM_REMOTE_USER={server.user}\n")
    node = start_node(
        f'[ssh]\ntrust_on_first_use = true\nkeys = ["{server.user_key}"]\nknown_hosts = ["{tmp_path}/none"]\n'
        f"[ssh.ollama]\nport = {service.port}\n[catalogue.ollama]\nport = {unused_port()}\n",
        OLLAMA_REMOTE_PORT_IPV4=str(server.port),
    )
    result = node.json("forward", "ollama", "auto")
    assert result["provider"] == f"ssh4:{server.user}@127.0.0.1:{server.port}"
    assert (tmp_path / "home" / "known_hosts").read_text().startswith(f"[127.0.0.1]:{server.port} ssh-ed25519 ")
    assert "trusted on first use" in node.log
    assert node.terminate() == 0

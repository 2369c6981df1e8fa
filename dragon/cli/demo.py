"""`dragon demo`: three real nodes on this machine, a service beside one of them, found and used from another.

Everything lies in a temporary folder and a swarm of its own, on loopback, on free ports: a real ollama on this machine, a real
node and the public network are not touched. Everything that was started is ended by its process id.
"""

from __future__ import annotations

import json
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from dragon.cli import demo_service
from dragon.cli.demo_stage import STEP_BOUND, Node, Stage, end, wait
from dragon.errors import DragonError, LocalError
from dragon.home import Home
from dragon.text import clean


class Story:
    """Lines with the time since the beginning."""

    def __init__(self) -> None:
        self._began = time.perf_counter()

    def tell(self, text: str) -> None:
        print(f"[{time.perf_counter() - self._began:5.1f} s] {clean(text, 400)}", flush=True)

    def quote(self, text: str) -> None:
        for line in text.rstrip().splitlines():
            print(f"          {clean(line, 400)}", flush=True)

    def step(self, text: str) -> None:
        """For the installer of Kubo: a line of its own."""
        self.tell(text)

    def detail(self, text: str) -> None:
        """For the installer of Kubo: how far it is. A story leaves that out."""


def tell(*, once: bool) -> int:
    """Tell the story; return 0. With `once` end after it, else stay up until Ctrl-C. Raises what goes wrong."""
    from dragon.kubo.binary import find_or_install

    story = Story()
    story.tell("Dragon demo: three nodes on this machine, in a swarm of their own. Nothing else is touched.")
    binary = find_or_install(Home.locate(), progress=story)
    story.tell(f"the engine is {binary}")
    with Stage() as stage:
        swarm = f"demo-{secrets.token_hex(4)}"
        alpha = _raise_node(story, Node("alpha", stage.root, swarm, binary, []), stage)
        addresses = [str(address) for address in alpha.control.status()["addresses"]]
        beta, gamma = (Node(name, stage.root, swarm, binary, addresses) for name in ("beta", "gamma"))
        for node in (beta, gamma):
            node.start(stage)
        for node in (beta, gamma):
            _told_up(story, node)
        took = _timed(lambda: _all_see_all((alpha, beta, gamma)))
        story.tell(f"all three see one another, {took:.1f} s later:  dragon peers")
        story.quote(gamma.run("peers").stdout)
        service = _serve_and_find(story, alpha, gamma, stage)
        _use(story, gamma, service)
        _withdraw(story, gamma, service)
        if not once:
            _serve_and_find(story, alpha, gamma, stage)
            _stay(story, gamma)
    story.tell("done; everything is stopped and removed")
    return 0


def _stay(story: Story, gamma: Node) -> None:
    story.tell("the swarm stays up; try it in another terminal, and end it here with Ctrl-C:")
    story.quote(f"export DRAGON_HOME={gamma.home.root}\ndragon peers\ndragon forward ollama auto\ndragon explain ollama")
    with suppress(KeyboardInterrupt):
        signal.pause()


def _raise_node(story: Story, node: Node, stage: Stage) -> Node:
    node.start(stage)
    _told_up(story, node)
    return node


def _told_up(story: Story, node: Node) -> None:
    status = node.wait_until_ready()
    story.tell(f"{node.alias} is up: {status['id']}, with a Kubo {status['kubo']['version']} of its own")


def _all_see_all(nodes: tuple[Node, ...]) -> None:
    wanted = {node.alias for node in nodes}

    def seen() -> bool:
        return all(wanted == {peer["alias"] for peer in node.control.peers() if peer["state"] == "live"} for node in nodes)

    wait(seen, STEP_BOUND, "the nodes did not find one another")


def _serve_and_find(story: Story, alpha: Node, gamma: Node, stage: Stage) -> subprocess.Popen[bytes]:
    """Start the service beside alpha and wait until gamma sees it.

    By its file, not as a module of ours: a process that is a Dragon is never offered, since its ports lead into tunnels.
    """
    with stage.undisturbed():
        service = subprocess.Popen(
            [sys.executable, "-I", demo_service.__file__, str(alpha.port)], stdin=subprocess.DEVNULL, start_new_session=True
        )
        stage.callback(end, service)
    wait(lambda: _answers(alpha.port), STEP_BOUND, "the sample service did not start")
    story.tell(f"beside alpha, a process named ollama begins to answer on port {alpha.port}; nobody is told")
    took = _timed(lambda: wait(lambda: _provider(gamma), STEP_BOUND, "the service was not found"))
    story.tell(f"gamma sees it {took * 1000:.0f} ms later:  dragon services")
    story.quote(gamma.run("services").stdout)
    return service


def _use(story: Story, gamma: Node, service: subprocess.Popen[bytes]) -> None:
    began = time.perf_counter()
    opened = gamma.run("forward", "ollama", "auto", "--json")
    took = time.perf_counter() - began
    if opened.returncode != 0:
        raise LocalError(f"dragon forward failed: {opened.stderr.strip()}", "run: dragon doctor")
    forward = json.loads(opened.stdout)
    story.tell(f"on gamma:  dragon forward ollama auto  ->  {forward['url']}  (by {forward['route']}, {took * 1000:.0f} ms)")
    models = [model["name"] for model in _get(f"{forward['url']}/api/tags")["models"]]
    pid = _get(f"{forward['url']}/whoami")["pid"]
    if models != [demo_service.MODEL] or pid != service.pid:
        raise LocalError("the forward leads somewhere else than to alpha's service", "run: dragon doctor")
    story.tell(f"GET {forward['url']}/api/tags  ->  {', '.join(models)}, answered by process {pid} beside alpha")
    story.tell('and for programs:  eval "$(dragon env ollama)"')
    story.quote(gamma.run("env", "ollama").stdout)


def _withdraw(story: Story, gamma: Node, service: subprocess.Popen[bytes]) -> None:
    end(service)
    took = _timed(lambda: wait(lambda: not _provider(gamma), STEP_BOUND, "the service was not withdrawn"))
    story.tell(f"the process ends; {took * 1000:.0f} ms later nobody is led to it any more")
    gamma.run("off")


def _provider(node: Node) -> dict[str, Any] | None:
    """Return the first provider of ollama that `node` sees."""
    with suppress(DragonError):
        for service in node.control.services():
            if service["slug"] == "ollama" and service["providers"]:
                return dict(service["providers"][0])
    return None


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=STEP_BOUND) as answer:  # noqa: S310  the address is our own forward's
        return json.loads(answer.read())


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began

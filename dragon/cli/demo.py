"""`dragon demo`: three real nodes on this machine, a service beside one of them, found and used from another.

Everything lies in a temporary folder and a swarm of its own, on loopback, on free ports: a real ollama on this machine, a real
node and the public network are not touched. Everything that was started is ended by its process id.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from dragon.cli import demo_service
from dragon.client import Control
from dragon.errors import DragonError, LocalError, NotRunning
from dragon.home import Home
from dragon.text import clean

START_BOUND = 120.0
"""Seconds for a node to get ready: a second or two, and a minute on a machine that does three other things."""

STEP_BOUND = 60.0
"""Seconds for any step of the story, each of which usually takes far less than one."""

STOP_BOUND = 20.0
"""Seconds for a node to leave cleanly before it is killed; it takes a fraction of one."""

LOOK = 0.02
"""Seconds between two looks while waiting: small against what is being waited for."""

Found = TypeVar("Found")


class Node:
    """One `dragon serve` with a home of its own."""

    def __init__(self, alias: str, root: Path, swarm: str, binary: Path, join: list[str]) -> None:
        self.alias = alias
        self.home = Home(root / alias)
        self.port = _free_port()
        """Where this node would look for an ollama of its own: each looks elsewhere, since all share this machine."""
        self.home.root.mkdir()
        self.home.config_file.write_text(_config(alias, swarm, join, self.port))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DRAGON_", "IPFS_"))}
        self.environment = {**kept, "DRAGON_HOME": str(self.home.root), "DRAGON_KUBO_BINARY": str(binary)}
        self.control = Control(self.home)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dragon", "serve", "--quiet"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its nodes in order
            )

    def wait_until_ready(self) -> dict[str, Any]:
        """Return the node's status once it answers and has a peer id; `LocalError` with its last words when it ends instead."""

        def status() -> dict[str, Any] | None:
            assert self.process is not None
            if self.process.poll() is not None:
                raise LocalError(f"the node {self.alias} did not start: {self.last_words()}", "run: dragon doctor")
            with suppress(NotRunning):
                return self.control.status()
            return None

        found: dict[str, Any] = _wait(status, START_BOUND, f"the node {self.alias} did not get up")
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `dragon WORDS…` as a user of this node."""
        return subprocess.run(
            [sys.executable, "-m", "dragon", *words], env=self.environment, capture_output=True, text=True, timeout=STEP_BOUND
        )

    def stop(self) -> None:
        """End the node, and its Kubo where the node could not."""
        from dragon.kubo.process import left_over

        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_BOUND)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if (pid := left_over(self.home.kubo_repo)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    @property
    def log(self) -> Path:
        return self.home.root / "serve.log"


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
    with _ending_on_sigterm(), _stage() as (root, started):
        swarm = f"demo-{secrets.token_hex(4)}"
        alpha = _raise_node(story, Node("alpha", root, swarm, binary, []), started)
        addresses = [str(address) for address in alpha.control.status()["addresses"]]
        beta, gamma = (Node(name, root, swarm, binary, addresses) for name in ("beta", "gamma"))
        for node in (beta, gamma):
            started.append(node.stop)
            node.start()
        for node in (beta, gamma):
            _told_up(story, node)
        took = _timed(lambda: _all_see_all((alpha, beta, gamma)))
        story.tell(f"all three see one another, {took:.1f} s later:  dragon peers")
        story.quote(gamma.run("peers").stdout)
        service = _serve_and_find(story, alpha, gamma, started)
        _use(story, gamma, service)
        _withdraw(story, gamma, service)
        if not once:
            _serve_and_find(story, alpha, gamma, started)
            _stay(story, gamma)
    story.tell("done; everything is stopped and removed")
    return 0


def _stay(story: Story, gamma: Node) -> None:
    story.tell("the swarm stays up; try it in another terminal, and end it here with Ctrl-C:")
    story.quote(f"export DRAGON_HOME={gamma.home.root}\ndragon peers\ndragon forward ollama auto\ndragon explain ollama")
    with suppress(KeyboardInterrupt):
        signal.pause()


def _raise_node(story: Story, node: Node, started: list[Callable[[], None]]) -> Node:
    started.append(node.stop)
    node.start()
    _told_up(story, node)
    return node


def _told_up(story: Story, node: Node) -> None:
    status = node.wait_until_ready()
    story.tell(f"{node.alias} is up: {status['id']}, with a Kubo {status['kubo']['version']} of its own")


def _all_see_all(nodes: tuple[Node, ...]) -> None:
    wanted = {node.alias for node in nodes}

    def seen() -> bool:
        return all(wanted == {peer["alias"] for peer in node.control.peers() if peer["state"] == "live"} for node in nodes)

    _wait(seen, STEP_BOUND, "the nodes did not find one another")


def _serve_and_find(story: Story, alpha: Node, gamma: Node, started: list[Callable[[], None]]) -> subprocess.Popen[bytes]:
    """Start the service beside alpha and wait until gamma sees it.

    By its file, not as a module of ours: a process that is a Dragon is never offered, since its ports lead into tunnels.
    """
    service = subprocess.Popen(
        [sys.executable, "-I", demo_service.__file__, str(alpha.port)], stdin=subprocess.DEVNULL, start_new_session=True
    )
    started.append(lambda: _end(service))
    _wait(lambda: _answers(alpha.port), STEP_BOUND, "the sample service did not start")
    story.tell(f"beside alpha, a process named ollama begins to answer on port {alpha.port}; nobody is told")
    took = _timed(lambda: _wait(lambda: _provider(gamma), STEP_BOUND, "the service was not found"))
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
    _end(service)
    took = _timed(lambda: _wait(lambda: not _provider(gamma), STEP_BOUND, "the service was not withdrawn"))
    story.tell(f"the process ends; {took * 1000:.0f} ms later nobody is led to it any more")
    gamma.run("off")


@contextmanager
def _stage() -> Iterator[tuple[Path, list[Callable[[], None]]]]:
    """Give a temporary folder and a list of what ends whatever was started, called in reverse order, also after a failure."""
    root = Path(tempfile.mkdtemp(prefix="dragon-demo-"))
    started: list[Callable[[], None]] = []
    try:
        yield root, started
    finally:
        for end in reversed(started):
            end()
        shutil.rmtree(root, ignore_errors=True)


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    """Let SIGTERM end the demo as Ctrl-C does: in order."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _config(alias: str, swarm: str, join: list[str], port: int) -> str:
    evidence = "" if sys.platform == "linux" else 'evidence = ["port"]\n'  # elsewhere a process cannot name itself
    return (
        f'[node]\nalias = "{alias}"\nswarm = "{swarm}"\nisolated = true\njoin = {json.dumps(join)}\n\n'
        f'[catalogue]\nonly = ["ollama"]\n\n[catalogue.ollama]\nport = {port}\n{evidence}'
    )


def _provider(node: Node) -> dict[str, Any] | None:
    """Return the first provider of ollama that `node` sees."""
    with suppress(DragonError):
        for service in node.control.services():
            if service["slug"] == "ollama" and service["providers"]:
                return dict(service["providers"][0])
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=STEP_BOUND) as answer:  # noqa: S310  the address is our own forward's
        return json.loads(answer.read())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _wait(condition: Callable[[], Found], bound: float, otherwise: str) -> Any:
    """Return the first truthy value of `condition`; `LocalError` after `bound` seconds."""
    deadline = time.monotonic() + bound
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LocalError(f"{otherwise} within {bound:.0f} s", "run: dragon doctor")
        time.sleep(LOOK)
    return value

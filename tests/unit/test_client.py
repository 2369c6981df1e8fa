"""The client for programs: the sync transport and the async façade over a real control socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import dragon
from dragon import Dragon, errors
from dragon.client import Control
from dragon.home import Home
from tests.testbed.backend import PlainBackend, ServedBackend, a_peer, served


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    runtime = tempfile.mkdtemp(prefix="drt-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    yield Home(tmp_path)
    shutil.rmtree(runtime)


@pytest.fixture
def node(home: Home) -> Iterator[ServedBackend]:
    with served(home) as running:
        yield running


async def test_a_forward_for_the_time_of_a_context(node: ServedBackend) -> None:
    async with Dragon(node.home.root) as d, d.forward("ollama", where={"model": "llama3.2"}) as url:
        assert url == "http://127.0.0.1:11434"
    assert node.backend.open, "others may have been given the same port: it stays"
    assert node.backend.asked[0] == ("forward", "ollama", "auto", {"model": "llama3.2"}, None, False, None, False)


async def test_close_closes_what_this_call_opened_and_nothing_else(node: ServedBackend) -> None:
    async with Dragon(node.home.root) as d:
        async with d.forward("ollama", close=True):
            async with d.forward("ollama", close=True):
                pass
            assert node.backend.open
        assert node.backend.open == []


async def test_close_leaves_other_forwards_of_the_service(node: ServedBackend) -> None:
    async with Dragon(node.home.root) as d, d.forward("ollama", port=23456, close=True):
        node.backend.open.append({"slug": "ollama", "port": 11434})
    assert [one["port"] for one in node.backend.open] == [11434]


async def test_options_are_those_of_the_command(node: ServedBackend) -> None:
    async with Dragon(node.home.root) as d:
        await d.open("ollama", via="p2p", spread=True, port=23456, raw=True, strategy="first", pool=2)
        assert node.backend.asked[-1] == ("forward", "ollama", "auto", {}, "p2p", True, 23456, True, "first", 2)
        with pytest.raises(errors.UsageError, match="prot"):
            await d.open("ollama", prot=1)  # type: ignore[call-arg]


async def test_a_failure_inside_the_context_still_closes(node: ServedBackend) -> None:
    async with Dragon(node.home.root) as d:
        with pytest.raises(ZeroDivisionError):
            async with d.forward("ollama", close=True):
                raise ZeroDivisionError
        assert await d.forwards() == []


async def test_every_listing(node: ServedBackend) -> None:
    async with Dragon(str(node.home.root)) as d:
        assert await d.peers() == node.backend.known_peers
        assert await d.services() == await d.services("ollama") == node.backend.known_services
        assert (await d.status())["alias"] == "beta"
        assert (await d.explain("ollama"))["candidates"]
        assert await d.env("ollama") == {"OLLAMA_API_BASE": "http://127.0.0.1:11434"}
        assert await d.off() == 0


async def test_many_tasks_at_once(node: ServedBackend) -> None:
    async with Dragon(node.home.root) as d:
        assert len(await asyncio.gather(*(d.peers() for _ in range(20)))) == 20


async def test_a_program_whose_own_threads_are_all_busy_is_answered(node: ServedBackend) -> None:
    """And so the other way round: our requests never keep a program from resolving names."""
    loop, free = asyncio.get_running_loop(), threading.Event()
    with ThreadPoolExecutor(1) as threads:
        loop.set_default_executor(threads)
        busy = loop.run_in_executor(None, free.wait)
        try:
            async with asyncio.timeout(20), Dragon(node.home.root) as d:
                assert await d.peers()
        finally:
            free.set()
            await busy


@pytest.mark.parametrize(
    "kind",
    [
        errors.UnknownService,
        errors.AmbiguousNode,
        errors.UsageError,
        errors.NoProvider,
        errors.PortInUse,
        errors.KuboUnreachable,
    ],
)
async def test_errors_arrive_as_what_they_are(node: ServedBackend, kind: type[errors.LocalError]) -> None:
    node.backend.failure = kind("what", "hint")
    with pytest.raises(kind, match="what") as caught:
        async with Dragon(node.home.root) as d:
            await d.open("ollama")
    assert type(caught.value) is kind
    assert caught.value.hint == "hint"


async def test_without_a_node_it_says_so_at_once(home: Home) -> None:
    with pytest.raises(errors.NotRunning, match="no node is running"):
        async with Dragon(home.root):
            pass


def test_a_socket_that_nobody_answers_is_no_node(home: Home) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(home.control_socket))
    left.close()
    with pytest.raises(errors.NotRunning, match="no node is running"):
        Control(home).peers()


def test_where_many_wait_one_waits_too(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full queue of callers is no node that stopped."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door, ExitStack() as stack:
        door.bind(str(home.control_socket))
        door.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)).connect(str(home.control_socket))
        answer = (door, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        answering = threading.Thread(target=_answer_all, args=answer)
        rests: list[float] = []

        def rest(seconds: float) -> None:
            rests.append(seconds)
            if not answering.is_alive():
                answering.start()

        monkeypatch.setattr("dragon.client.time.sleep", rest)
        assert Control(home).peers() == []
        assert rests
        door.shutdown(socket.SHUT_RDWR)
        answering.join(60)


def _answer_all(door: socket.socket, answer: bytes) -> None:
    """Answer whoever comes until the door closes."""
    while True:
        try:
            caller, _ = door.accept()
        except OSError:
            return
        with caller, suppress(OSError):
            caller.settimeout(1.0)  # those who only wait say nothing
            caller.recv(65536)
            caller.sendall(answer)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", errors.NotRunning),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n[", errors.NotRunning),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", errors.NotRunning),
        (b"SSH-2.0-OpenSSH\r\n", errors.NotRunning),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", errors.LocalError),
        (b"HTTP/1.1 500 X\r\nContent-Length: 4\r\n\r\nnope", errors.LocalError),
        (b'HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n{"hi": 1}', errors.LocalError),
        (b'HTTP/1.1 500 X\r\nContent-Length: 32\r\n\r\n{"error":"x","kind":"Exception"}', errors.LocalError),
        (b'HTTP/1.1 500 X\r\nContent-Length: 28\r\n\r\n{"error":"x","exit_code": 4}', errors.NoProvider),
    ],
)
def test_an_answer_that_makes_no_sense_is_a_clear_error(home: Home, answer: bytes, kind: type[errors.LocalError]) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as door:
        door.bind(str(home.control_socket))
        door.listen()

        def once() -> None:
            caller, _ = door.accept()
            with caller:
                caller.recv(65536)
                caller.sendall(answer)

        thread = threading.Thread(target=once)
        thread.start()
        with pytest.raises(errors.LocalError) as caught:
            Control(home).peers()
        thread.join()
    assert type(caught.value) is kind
    assert "Traceback" not in str(caught.value)


def test_a_socket_of_another_user_is_not_talked_to(node: ServedBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """The temp folder is everybody's: somebody else's process behind our socket's name must not get our words."""
    credentials = struct.pack("3i", 1, 4242, 4242)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(socket.socket, "getsockopt", lambda self, *arguments: credentials)
    monkeypatch.setattr(type(node.home), "control_socket", node.home.control_socket)
    with pytest.raises(errors.NotRunning, match="not yours"):
        Control(node.home).peers()


def test_a_watch_ends_with_the_node(home: Home) -> None:
    with served(home, PlainBackend()) as node:
        documents = Control(home).watch("peers")
        assert len(next(documents)) == 2
        node.backend.known_peers = [a_peer()]
        node.change()
        assert len(next(documents)) == 1
    with pytest.raises(errors.NotRunning, match="stopped"):
        next(documents)


def test_importing_it_is_cheap() -> None:
    heavy = "('aiohttp', 'pydantic', 'rich', 'typer', 'cryptography', 'msgpack', 'asyncio')"
    code = f"import sys; from dragon import Dragon; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError):
        dragon.Nothing  # noqa: B018


def test_a_node_is_found_wherever_its_manager_put_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """systemd gives a service another runtime folder than cron gives a script: nobody has to know."""
    temporary = tempfile.mkdtemp(prefix="drt-")
    try:
        monkeypatch.setenv("XDG_RUNTIME_DIR", temporary)
        with served(Home(tmp_path)):
            monkeypatch.delenv("XDG_RUNTIME_DIR")
            assert Control(Home(tmp_path)).version()["api"] == 1
            with pytest.raises(errors.NotRunning, match="no node is running"):
                Control(Home(tmp_path / "other")).version()
        assert list(tmp_path.iterdir()) == []
    finally:
        shutil.rmtree(temporary)

"""The kernel's socket table, against sockets that this test opens."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from dragon import sockdiag
from dragon.sockdiag import ListeningWatch, Socket

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="netlink and /proc are Linux's")

EVERYWHERE = "0.0.0.0"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def listen(stack: ExitStack, host: str = "127.0.0.1", port: int = 0) -> tuple[socket.socket, int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = stack.enter_context(socket.socket(family))
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((host, port))
    server.listen(200)
    return server, server.getsockname()[1]


def inode_of(each: socket.socket) -> int:
    return os.fstat(each.fileno()).st_ino


@pytest.mark.parametrize("host", ["127.0.0.1", EVERYWHERE, "127.0.0.2", "::1", "::"])
def test_a_listener_is_seen_with_its_owner(stack: ExitStack, host: str) -> None:
    server, port = listen(stack, host)
    (found,) = (each for each in sockdiag.listening() if each.local_port == port and each.inode == inode_of(server))
    assert (found.local_ip, found.state, found.uid, found.remote_port) == (host, "listen", os.getuid(), 0)
    assert found.on_loopback is (host in ("127.0.0.1", EVERYWHERE, "::"))
    assert os.getpid() in (sockdiag.owner_pids(found.inode) or ())
    assert sockdiag.owner_pids(found.inode, {os.getpid()}) == {os.getpid()}
    assert not sockdiag.owner_pids(found.inode, {1, os.getppid()} - {os.getpid()})


def test_netlink_and_proc_say_the_same(stack: ExitStack) -> None:
    ours = {listen(stack, host)[1] for host in ("127.0.0.1", "::1", EVERYWHERE) for _ in range(5)}

    def of(sockets: list[Socket]) -> list[Socket]:
        return [each for each in sockets if each.local_port in ours]

    by_proc = sorted(sockdiag._read_proc("listen"))
    assert of(sockdiag.listening()) == of(by_proc)
    assert len(of(by_proc)) == 15


def test_a_watch_tells_only_what_is_new(stack: ExitStack) -> None:
    watch = stack.enter_context(ListeningWatch())
    if watch.source != "netlink":
        pytest.skip("this kernel answers no sock_diag: the netlink path cannot be tried here")
    _, first = listen(stack)
    assert first in {each.local_port for each in watch.look() or ()}
    server, second = listen(stack)
    seen = watch.look()
    assert seen is not None
    assert {first, second} <= {each.local_port for each in seen}
    server.close()
    seen = watch.look()
    assert seen is not None
    assert second not in {each.local_port for each in seen}


def test_a_watch_of_some_ports_tells_of_these_only(stack: ExitStack) -> None:
    watch = stack.enter_context(ListeningWatch())
    (_, first), (_, second) = listen(stack), listen(stack)
    assert {each.local_port for each in watch.look(frozenset({first})) or ()} == {first}
    both = watch.look(frozenset({first, second}))
    assert both is not None, "other ports are another question"
    assert {each.local_port for each in both} == {first, second}


def test_hundreds_of_listeners_take_several_messages(stack: ExitStack) -> None:
    ours = {listen(stack)[1] for _ in range(400)}
    assert ours <= {each.local_port for each in sockdiag.listening()}


def test_a_port_that_passes_to_another_socket_looks_otherwise(stack: ExitStack) -> None:
    def of(port: int) -> list[Socket]:
        return [each for each in sockdiag.listening() if each.local_port == port]

    server, port = listen(stack)
    before = of(port)
    server.close()
    assert of(port) == []
    listen(stack, port=port)
    assert of(port) != before


@pytest.mark.parametrize(("host", "dial"), [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("::", "127.0.0.1")])
def test_a_connection_leads_to_its_callers_socket(stack: ExitStack, host: str, dial: str) -> None:
    server, port = listen(stack, host)
    client = stack.enter_context(socket.create_connection((dial, port)))
    accepted = stack.enter_context(server.accept()[0])
    local, remote = client.getsockname()[:2], client.getpeername()[:2]
    found = sockdiag.connection(local, remote)
    assert found is not None
    assert (found.inode, found.state) == (inode_of(client), "established")
    served = sockdiag.connection(accepted.getsockname()[:2], accepted.getpeername()[:2])
    assert served is not None
    assert served.inode == inode_of(accepted)
    ours = [each.inode for each in sockdiag.established(local[1]) if each.remote_port == port]
    assert ours == [inode_of(client)], "others may call from a port of the same number"
    assert inode_of(accepted) in {each.inode for each in sockdiag.established(port)}
    assert sockdiag.connection(local, (remote[0], 1)) is None
    assert sockdiag.connection((remote[0], port), (local[0], 1)) is None, "a listener on the port is no connection"


def test_without_netlink_the_same_by_proc(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no netlink in this sandbox")

    monkeypatch.setattr(sockdiag, "SockDiag", refuse)
    server, port = listen(stack)
    client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
    accepted = stack.enter_context(server.accept()[0])
    watch = stack.enter_context(ListeningWatch())
    assert watch.source == "proc"
    assert inode_of(server) in {each.inode for each in watch.look() or ()}
    found = sockdiag.connection(client.getsockname(), client.getpeername())
    assert found is not None
    assert found.inode == inode_of(client)
    assert inode_of(accepted) in {each.inode for each in sockdiag.established(port)}


def test_an_owner_that_cannot_be_read_is_not_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> list[str]:
        if path == "/proc":
            return ["1", "self", str(os.getpid())]
        raise PermissionError(path)

    monkeypatch.setattr(os, "listdir", refuse)
    assert sockdiag.owner_pids(12345) is None
    monkeypatch.setattr(os, "listdir", lambda path: ["1"] if path == "/proc" else [])
    assert sockdiag.owner_pids(12345) == set()


def test_messages_cut_short_are_no_loop() -> None:
    assert list(sockdiag.parse(bytes(64))) == []
    assert list(sockdiag.parse(b"\x10\0\0\0")) == []

"""The gate on real sockets: who gets in, who does not, and that a refused caller gets nothing (THREATS 13, 14)."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from dragon.clock import SystemClock
from dragon.connect.caller import KuboOwner
from dragon.connect.gate import Book, Gate, Limits, read_caller
from dragon.connect.visitors import SHOWN, Visitor, gate_info
from registry_schema.ids import ed25519_node_id
from tests.testbed.ports import free_port
from tests.unit.connect.sockets import Server, connect, echo, end_of, pair, receive, receive_all, send, until

FRIEND, STRANGER = ed25519_node_id(b"f" * 32), ed25519_node_id(b"s" * 32)


GONE = ("reset", "end")
"""How a refused caller sees it: a reset, or its plain end when the reset already failed the caller's own words."""


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A service that speaks first: a refused caller would see it at once."""
    writer.write(b"secret banner\n")
    await writer.drain()
    await echo(reader, writer)


@pytest.fixture
async def service() -> AsyncIterator[Server]:
    async with Server(greet) as server:
        yield server


MakeGate = Callable[..., Gate]


@pytest.fixture
async def make_gate(service: Server) -> AsyncIterator[MakeGate]:
    gates: list[Gate] = []

    def make(members: set[str], *, port: int | None = None, is_kubo: bool = True, **options: object) -> Gate:
        settings = {"limits": Limits(), "book": Book(), "clock": SystemClock(), **options}
        gate = Gate("ollama", port or service.port, members.__contains__, is_kubo=lambda _: is_kubo, **settings)  # type: ignore[arg-type]
        gates.append(gate)
        return gate

    yield make
    for gate in gates:
        await gate.close()


async def call(gate: Gate, first: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", gate.port))
    connection.setblocking(False)
    with suppress(ConnectionError):  # it may be refused before it has said a word
        await send(connection, first)
    return connection


async def test_a_member_is_led_on_and_the_service_never_sees_the_line(make_gate: MakeGate) -> None:
    book = Book()
    gate = make_gate({FRIEND}, book=book)
    caller = await call(gate, FRIEND.encode() + b"\nhello")
    assert await receive(caller, 19) == b"secret banner\nhello"
    assert gate.visitors == book.open == 1
    caller.shutdown(socket.SHUT_WR)
    assert await receive_all(caller) == b""
    caller.close()
    await until(lambda: gate.visitors == 0)
    tally = book.callers[FRIEND]
    assert (tally.connections, tally.open, tally.sent, tally.received) == (1, 0, 5, 19)


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (STRANGER.encode() + b"\nhello", "not admitted"),
        (b"\n", "malformed peer id"),
        (b"GET / HTTP/1.1\r\n\r\n", "malformed peer id"),
        (b"12D3KooWfake\nhello", "malformed peer id"),
        (b"x" * 200, "malformed peer id"),
        (b"\xff\xfe\n", "malformed peer id"),
        (FRIEND.encode() + b" \nhello", "malformed peer id"),
        (FRIEND.encode() + b"\r\nhello", "malformed peer id"),
        (FRIEND.lower().encode() + b"\nhello", "malformed peer id"),
    ],
)
async def test_refused_callers_get_no_byte_of_the_service(
    make_gate: MakeGate, service: Server, first: bytes, reason: str
) -> None:
    book = Book()
    caller = await call(make_gate({FRIEND}, book=book), first)
    got = b""
    with suppress(ConnectionError):
        got = await receive_all(caller)
    caller.close()
    assert got == b""
    assert service.connections == 0
    assert book.refused == {reason: 1}


async def test_a_line_in_pieces_and_bytes_right_behind_it(make_gate: MakeGate) -> None:
    caller = await call(make_gate({FRIEND}), FRIEND[:10].encode())
    for piece in (FRIEND[10:30].encode(), FRIEND[30:].encode(), b"\n", b"hi"):
        await asyncio.sleep(0.005)
        await send(caller, piece)
    assert await receive(caller, 16) == b"secret banner\nhi"
    caller.close()


async def test_reading_the_line_takes_nothing_beyond_it() -> None:
    one, other = pair()
    await send(one, FRIEND.encode() + b"\n" + b"the rest")
    assert await read_caller(other) == FRIEND
    assert await receive(other, 8) == b"the rest"
    one.close()
    other.close()


async def test_who_says_nothing_is_shown_out(make_gate: MakeGate) -> None:
    book = Book()
    caller = await call(make_gate({FRIEND}, book=book, line_timeout=0.01), FRIEND.encode()[:5])
    assert await end_of(caller) in GONE
    assert book.refused == {"no peer id in time": 1}
    caller.close()


async def test_who_leaves_before_the_line(make_gate: MakeGate) -> None:
    book = Book()
    caller = await call(make_gate({FRIEND}, book=book), b"12D3")
    caller.close()
    await until(lambda: book.refused == {"gone at once": 1})


async def test_a_local_process_with_a_friends_id_is_refused(make_gate: MakeGate, service: Server) -> None:
    book = Book()
    caller = await call(make_gate({FRIEND}, is_kubo=False, book=book), FRIEND.encode() + b"\n")
    assert await end_of(caller) in GONE
    assert service.connections == 0
    assert book.refused == {"not Kubo": 1}
    caller.close()


async def test_revoking_ends_the_running_connections_of_that_caller_only(make_gate: MakeGate) -> None:
    members = {FRIEND, STRANGER}
    gate = make_gate(members)
    callers = [await call(gate, name.encode() + b"\n") for name in (FRIEND, STRANGER)]
    for caller in callers:
        assert await receive(caller, 14) == b"secret banner\n"
    members.discard(STRANGER)
    assert gate.recheck() == 1
    assert await end_of(callers[1]) == "reset"
    await send(callers[0], b"still here")
    assert await receive(callers[0], 10) == b"still here"
    for caller in callers:
        caller.close()


async def test_limits_close_at_once(make_gate: MakeGate) -> None:
    book = Book()
    gate = make_gate({FRIEND, STRANGER}, book=book, limits=Limits(per_caller=2, total=3))
    inside = [await call(gate, FRIEND.encode() + b"\n") for _ in range(2)]
    for caller in inside:
        assert await receive(caller, 14) == b"secret banner\n"
    third = await call(gate, FRIEND.encode() + b"\n")
    assert await end_of(third) in GONE
    other = await call(gate, STRANGER.encode() + b"\n")
    assert await receive(other, 14) == b"secret banner\n"
    beyond = await call(gate, b"")
    assert await end_of(beyond) in GONE
    assert book.refused == {"too many connections": 1, "overload": 1}
    for caller in (*inside, third, other, beyond):
        caller.close()
    await until(lambda: book.open == 0)


async def test_callers_are_told_with_what_they_use_now_and_used_before(make_gate: MakeGate) -> None:
    book, limits = Book(), Limits(per_caller=4, total=8)
    gate = make_gate({FRIEND, STRANGER}, book=book, limits=limits)
    before = await call(gate, STRANGER.encode() + b"\n" + b"12345")
    assert await receive(before, 19) == b"secret banner\n12345"
    before.close()
    await until(lambda: book.open == 0)
    running = [await call(gate, FRIEND.encode() + b"\n" + b"123") for _ in range(2)]
    for each in running:
        assert await receive(each, 17) == b"secret banner\n123"
    told = gate_info(book, [gate], limits)
    assert (told.open, told.limit, told.limit_per_caller, told.load) == (2, 8, 4, 0.25)
    assert told.callers == (Visitor(FRIEND, 2, 2, 6, 34), Visitor(STRANGER, 0, 1, 5, 19))
    for each in running:
        each.close()
    await until(lambda: book.open == 0)
    assert gate_info(book, [gate], limits).callers[0] == Visitor(FRIEND, 0, 2, 6, 34)


async def test_of_many_callers_the_last_are_told() -> None:
    book = Book()
    for number in range(500):
        book.of(f"caller {number}").connections += 1
    told = gate_info(book, [], Limits()).callers
    assert [each.id for each in told] == [f"caller {number}" for number in range(499, 499 - SHOWN, -1)]


async def test_a_service_that_is_gone(make_gate: MakeGate) -> None:
    book = Book()
    caller = await call(make_gate({FRIEND}, port=free_port(), book=book), FRIEND.encode() + b"\n")
    assert await end_of(caller) in GONE
    assert book.refused == {"service does not answer": 1}
    assert book.open == 0
    caller.close()


async def test_closing_ends_everything(make_gate: MakeGate) -> None:
    gate = make_gate({FRIEND})
    caller = await call(gate, FRIEND.encode() + b"\n")
    assert await receive(caller, 14) == b"secret banner\n"
    arriving = await call(gate, b"12D3")
    await until(lambda: gate.visitors == 1)
    await gate.close()
    assert await end_of(caller) in GONE
    assert await end_of(arriving) in GONE
    with pytest.raises(ConnectionError):
        await connect(gate.port)
    caller.close()
    arriving.close()


async def test_the_book_of_callers_is_bounded() -> None:
    book = Book()
    for number in range(5000):
        book.of(f"caller {number}").connections += 1
    assert len(book.callers) == 1024
    assert "caller 4999" in book.callers


ACT = "import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); sys.stdin.read()"


@pytest.mark.skipif(sys.platform != "linux", reason="the owner of a socket is read from sock_diag, which is Linux")
def test_the_owner_of_a_connection_is_told_by_the_kernel() -> None:
    """This process plays Kubo (it listens on the "API port"); another process of the same user is not it."""
    with socket.create_server(("127.0.0.1", 0)) as api, socket.create_server(("127.0.0.1", 0)) as gate:
        is_kubo = KuboOwner(lambda: int(api.getsockname()[1]))
        mine = socket.create_connection(gate.getsockname())
        accepted, _ = gate.accept()
        assert is_kubo(accepted)
        mine.close()
        accepted.close()
        port = str(gate.getsockname()[1])
        with subprocess.Popen([sys.executable, "-c", ACT, port], stdin=subprocess.PIPE) as other:
            accepted, _ = gate.accept()
            assert not is_kubo(accepted)
            accepted.close()
            other.communicate()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root on Linux to act as another user")
def test_another_user_is_not_kubo() -> None:
    with socket.create_server(("127.0.0.1", 0)) as api, socket.create_server(("127.0.0.1", 0)) as gate:
        is_kubo = KuboOwner(lambda: int(api.getsockname()[1]))
        port = str(gate.getsockname()[1])
        script = f"exec 3<>/dev/tcp/127.0.0.1/{port}; read"  # an interpreter that the other user may run
        with subprocess.Popen(["/bin/bash", "-c", script], stdin=subprocess.PIPE, user=65534) as other:
            accepted, _ = gate.accept()
            assert not is_kubo(accepted)
            accepted.close()
            other.communicate()


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root on Linux to act as another user")
def test_a_kubo_whose_socket_systemd_opened_is_kubo() -> None:
    """The socket belongs to root, who made it; the process that holds it, and calls, is of another user."""
    api = socket.create_server(("127.0.0.1", 0))
    api_port = int(api.getsockname()[1])
    with socket.create_server(("127.0.0.1", 0)) as gate:
        is_kubo = KuboOwner(lambda: api_port)
        # A descriptor of bash's choice: the API's own may have any number, also 3.
        script = f"exec {{door}}<>/dev/tcp/127.0.0.1/{gate.getsockname()[1]}; read"
        command = ["/bin/bash", "-c", script]
        with subprocess.Popen(command, stdin=subprocess.PIPE, user=65534, pass_fds=[api.fileno()]) as kubo:
            api.close()
            accepted, _ = gate.accept()
            assert is_kubo(accepted)
            accepted.close()
            kubo.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="SO_PEERCRED is Linux")
def test_kubos_api_may_be_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "api.sock")
    with socket.socket(socket.AF_UNIX) as api, socket.create_server(("127.0.0.1", 0)) as gate:
        api.bind(path)
        api.listen()
        is_kubo = KuboOwner(lambda: None, lambda: path)
        with socket.create_connection(gate.getsockname()):
            accepted, _ = gate.accept()
            assert is_kubo(accepted)
            accepted.close()
        port = str(gate.getsockname()[1])
        with subprocess.Popen([sys.executable, "-c", ACT, port], stdin=subprocess.PIPE) as other:
            accepted, _ = gate.accept()
            assert not is_kubo(accepted)
            accepted.close()
            other.communicate()


def test_nobody_listening_on_the_api_port_means_nobody_is_kubo() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gate, socket.create_connection(gate.getsockname()):
        accepted, _ = gate.accept()
        assert not KuboOwner(lambda: None)(accepted)
        accepted.close()

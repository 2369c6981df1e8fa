"""Peers that break the exchange, on purpose or not: counted, cut off, shunned; nobody else notices."""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dragon.errors import PeerUnreachable, ProtocolError, StoreError
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.tunnels import Tunnels
from dragon.registry import framing
from dragon.registry.answering import Limits
from dragon.registry.channel import Channel
from dragon.registry.exchange import Exchange
from dragon.registry.framing import Answer, Ask, Batch, End, Message, Refusal, frame
from dragon.registry.intake import Intake
from dragon.registry.view import Policy, View
from registry_schema import codec
from tests.testbed.kubo import until
from tests.unit.registry_io.support import SWARM, ManualClock, MemoryStore, Signer

QUICK = Limits(patience=0.2, idle=0.2, lifetime=2.0, connections=4, per_caller=2)
"""Bounds of real sockets, short enough for tests that wait for them."""

CALM = replace(QUICK, patience=20.0, idle=20.0, lifetime=60.0)
"""The same where nothing waits for them: a busy machine is no fault of the peer."""


class Partner:
    """One exchange on a fake daemon, without a registry around it."""

    def __init__(self, network: FakeNetwork, folder: Path, seed: int, limits: Limits = CALM) -> None:
        self.impostors = False
        self.clock = ManualClock()
        self.kubo = FakeKubo(network, seed)
        self.id = self.kubo.node_id
        self.view = View(self.id, SWARM, Policy(), {}, random.Random(seed))
        self.intake = Intake(self.view, MemoryStore(), self.clock, SWARM)
        self.tunnels = Tunnels(self.kubo, folder / f"{self.id}.json", self.clock)
        self.exchange = Exchange(self.id, self.tunnels, self.view, self.intake, self.clock, limits, is_kubo=self.is_kubo)

    def is_kubo(self, connection: socket.socket) -> bool:
        """The fake daemon lives in this very process; `impostors` says that callers come past it."""
        return not self.impostors

    @property
    def protocol(self) -> str:
        return f"/x/dragon-{self.id}"

    def hold(self, *seeds: int) -> None:
        for seed in seeds:
            stranger = Signer(seed)
            self.intake.take(stranger.envelope(self.clock.now_ms(), ["ollama"]), carrier=stranger.node_id, source="pubsub")

    @property
    def count(self) -> int:
        return len(self.view.members(self.clock.monotonic()))

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Partner]:
        try:
            async with self.exchange.listening() as claim:
                await claim()
                yield self
        finally:
            await self.kubo.close()

    @asynccontextmanager
    async def raw(self, target: Partner) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection from here to the exchange of `target`, with nobody's manners."""
        leg = await self.tunnels.open_leg(target.protocol, target.id)
        reader, writer = await asyncio.open_connection(leg.host, leg.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)
            await self.tunnels.close_leg(leg)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Partner, Partner]]:
    network = FakeNetwork()
    async with Partner(network, tmp_path, 1).serving() as one, Partner(network, tmp_path, 2).serving() as other:
        yield one, other


@pytest.fixture
async def hasty(tmp_path: Path) -> AsyncIterator[tuple[Partner, Partner]]:
    """The first has no patience."""
    network = FakeNetwork()
    async with Partner(network, tmp_path, 1, QUICK).serving() as one, Partner(network, tmp_path, 2).serving() as other:
        yield one, other


async def came_true(condition: Callable[[], object]) -> None:
    await until(condition, every=0.005)


def body(fields: object) -> bytes:
    data = codec.encode(fields)
    return len(data).to_bytes(4, "big") + data


HOSTILE = {
    "garbage": b"\x00\x00\x00\x05hello",
    "oversize": (framing.MAX_FRAME + 1).to_bytes(4, "big"),
    "4 GiB": b"\xff\xff\xff\xff",
    "empty": b"\0\0\0\0",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "an answer": frame(Answer({})),
    "a batch": frame(Batch(())),
    "buckets out of range": frame(Ask("buckets", {"buckets": [16]})),
    "buckets negative": body({"t": "ask", "q": "buckets", "b": {"buckets": [True]}}),
    "too many buckets": frame(Ask("buckets", {"buckets": [1] * 17})),
    "buckets of nothing": frame(Ask("buckets", {})),
    "no node": frame(Ask("envelope", {"node": "../../etc/passwd"})),
    "push of answers": frame(Ask("push", {})) + frame(Answer({})),
    "push with a wrong count": frame(Ask("push", {})) + frame(End(7)),
    "push of too many": frame(Ask("push", {})) + body({"t": "batch", "e": [[b"", 0]] * 65}),
}


async def test_a_local_process_that_names_a_node_is_not_heard_and_costs_it_nothing(pair: tuple[Partner, Partner]) -> None:
    """THREATS 14: it could speak for anybody, revive the dead with an age of its choice, or have a victim shunned."""
    one, other = pair
    one.impostors = True
    for data in (frame(Ask("sequence", {})), *[b"\xff\xff\xff\xff"] * 10):
        async with other.raw(one) as (reader, writer):
            writer.write(data)
            with suppress(OSError):
                assert await reader.read(1) == b""
    await came_true(lambda: one.exchange.served["local-processes"] == 11)
    assert one.exchange.served["asked"] == one.exchange.served["protocol-errors"] == 0
    one.impostors = False
    assert (await other.exchange.sequence(one.id)).sequence == 0
    assert one.exchange.served["shunned"] == 0


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
async def test_what_breaks_the_protocol_costs_the_connection_and_nothing_else(
    pair: tuple[Partner, Partner], data: bytes
) -> None:
    one, other = pair
    one.hold(11, 12)
    async with other.raw(one) as (reader, writer):
        writer.write(data)
        await reader.read()  # to its end: the connection is cut off
    await came_true(lambda: one.exchange.served["protocol-errors"] == 1)
    assert (await other.exchange.pull(one.id)).admitted == 2


async def test_whoever_goes_on_is_shunned_for_a_while(pair: tuple[Partner, Partner]) -> None:
    one, other = pair
    for _ in range(round(QUICK.faults)):
        async with other.raw(one) as (reader, writer):
            writer.write(b"\0\0\0\0")
            await reader.read()
    with pytest.raises(PeerUnreachable):
        await other.exchange.pull(one.id)
    assert one.exchange.served["shunned"] >= 1
    one.clock.advance(600)
    await other.exchange.pull(one.id)


async def test_a_connection_that_says_nothing_is_ended(hasty: tuple[Partner, Partner]) -> None:
    one, other = hasty
    async with other.raw(one) as (reader, _):
        assert await reader.read() == b""
    assert one.exchange.served["broken-off"] == 1


async def test_a_drip_of_bytes_is_ended(hasty: tuple[Partner, Partner]) -> None:
    one, other = hasty
    async with other.raw(one) as (reader, writer):
        writer.write(frame(Ask("digest", {}))[:-1])
        assert await reader.read() == b""
    assert one.exchange.served["broken-off"] == 1


async def test_connections_are_bounded_per_caller(pair: tuple[Partner, Partner]) -> None:
    one, other = pair
    async with other.raw(one), other.raw(one):
        await came_true(lambda: sum(one.exchange._answering._open.values()) == QUICK.per_caller)
        with pytest.raises(PeerUnreachable):
            await other.exchange.ask(one.id, "digest")
    await came_true(lambda: not one.exchange._answering._open)
    await other.exchange.ask(one.id, "digest")


async def test_connections_are_bounded_in_all(pair: tuple[Partner, Partner]) -> None:
    one, other = pair
    entry = next(each for each in await one.kubo.p2p_ls() if each.protocol == one.protocol)
    connections = [await asyncio.open_connection("127.0.0.1", entry.listener_port) for _ in range(QUICK.connections)]
    await came_true(lambda: len(one.exchange._answering._tasks) == QUICK.connections)
    with pytest.raises(PeerUnreachable):
        await other.exchange.ask(one.id, "digest")
    assert one.exchange.served["connections-refused"] >= 1
    for _, writer in connections:
        writer.close()
    await came_true(lambda: not one.exchange._answering._tasks)
    await other.exchange.ask(one.id, "digest")


@pytest.mark.parametrize(
    "line", [b"\n", b"me\n", b"12D3KooWfoo\n", b"x" * 200, b"12D3KooW" + b"1" * 44 + b" \n", b"\xff\xfe\n"]
)
async def test_a_local_process_without_a_callers_line_is_refused(pair: tuple[Partner, Partner], line: bytes) -> None:
    one, _ = pair
    entry = next(each for each in await one.kubo.p2p_ls() if each.protocol == one.protocol)
    reader, writer = await asyncio.open_connection("127.0.0.1", entry.listener_port)
    writer.write(line + frame(Ask("all", {})))
    with suppress(ConnectionResetError):  # it closed with our question unread
        assert await reader.read() == b""
    writer.close()
    await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    assert one.exchange.served["protocol-errors"] == 1


async def test_the_byte_budget_is_per_partner_and_refused_politely(tmp_path: Path) -> None:
    network = FakeNetwork()
    limits = Limits(patience=1.0, budget=2000, budget_rate=100)
    forty = [(Signer(seed).envelope(ManualClock().now_ms(), ["ollama"]), 0.0) for seed in range(40, 60)]
    async with (
        Partner(network, tmp_path, 1, limits).serving() as one,
        Partner(network, tmp_path, 2).serving() as greedy,
        Partner(network, tmp_path, 3).serving() as modest,
    ):
        one.hold(*range(10, 30))
        assert (await greedy.exchange.pull(one.id)).admitted == 20
        with pytest.raises(PeerUnreachable, match="budget"):
            await greedy.exchange.pull(one.id)
        with pytest.raises(PeerUnreachable, match="budget"):
            await greedy.exchange.push(one.id, forty)
        assert not one.exchange.served["protocol-errors"]
        assert (await modest.exchange.pull(one.id)).admitted == 20
        one.clock.advance(600)
        await greedy.exchange.pull(one.id)


async def test_an_unknown_question_is_refused_and_the_connection_goes_on(pair: tuple[Partner, Partner]) -> None:
    one, other = pair
    with pytest.raises(PeerUnreachable, match="unknown"):
        await other.exchange.ask(one.id, "the weather")
    async with other.raw(one) as (reader, writer):
        channel = Channel(reader, writer, patience=1)
        await channel.send(Ask("the weather", {}))
        assert await channel.receive() == Refusal("unknown")
        await channel.send(Ask("sequence", {}))
        assert await channel.receive() == Answer({"sequence": 0})


async def test_a_push_of_forged_old_and_foreign_envelopes_is_counted_and_harmless(pair: tuple[Partner, Partner]) -> None:
    one, other = pair
    stranger, wall = Signer(7), one.clock.now_ms()
    new, old = stranger.envelope(wall, ["ollama"]), stranger.envelope(wall - 1000, ["comfyui"])
    forged = bytearray(Signer(8).envelope(wall, ["ollama"]))
    forged[-1] ^= 1
    foreign = Signer(9).envelope(wall, ["ollama"], swarm="elsewhere")
    future = Signer(10).envelope(wall + 3_600_000, ["ollama"])
    pushed = [(data, 0.0) for data in (new, old, bytes(forged), foreign, future, b"", b"\xc1")]
    assert await other.exchange.push(one.id, pushed) == 1
    assert one.count == 1
    for reason in ("stale", "wrong-swarm", "from-the-future", "malformed"):
        assert one.view.counters[reason] >= 1, reason


# -- the asking side: partners that answer badly ----------------------------------------------------------------------


@asynccontextmanager
async def impostor(
    network: FakeNetwork, replies: list[bytes | None], *, hang: bool = False
) -> AsyncIterator[tuple[FakeKubo, list[int]]]:
    """A node whose exchange writes `replies[n]` on its n-th connection, whatever is asked, and closes."""
    kubo = FakeKubo(network, 99)
    count: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        count.append(len(count))
        reply = replies[min(len(count), len(replies)) - 1]
        if reply is not None:
            await reader.read(5)
            writer.write(reply)
        if hang:
            await reader.read()
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    await kubo.p2p_listen(f"/x/dragon-{kubo.node_id}", f"/ip4/127.0.0.1/tcp/{port}", report_peer_id=True)
    try:
        yield kubo, count
    finally:
        server.close()
        await kubo.close()


def framed(*messages: Message) -> bytes:
    return b"".join(frame(message) for message in messages)


async def test_a_short_reply_is_asked_for_once_more(tmp_path: Path) -> None:
    """KUBO.md, p2p trap 2: when the provider closes first a reply may arrive short or empty."""
    network = FakeNetwork()
    envelope = Signer(5).envelope(ManualClock().now_ms(), ["ollama"])
    whole = framed(Batch(((envelope, 0),)), End(1))
    async with Partner(network, tmp_path, 1).serving() as one:
        for short in (b"", whole[:3], whole[:-3], framed(Batch(((envelope, 0),)))):
            async with impostor(network, [short, whole]) as (kubo, count):
                outcome = await one.exchange.pull(kubo.node_id)
                assert outcome.received == 1
                assert len(count) == 2
        assert one.exchange.counters["cut-short"] == 4
        async with impostor(network, [b""]) as (kubo, count):
            with pytest.raises(PeerUnreachable):
                await one.exchange.pull(kubo.node_id)
            assert len(count) == 2, "once, not for ever"


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff" * 64,
        framed(End(3)),
        framed(Answer({})),
        framed(Ask("all", {})),
        body({"t": "batch", "e": [[b"x", -1]]}),
    ],
)
async def test_a_wrong_reply_is_the_peers_fault_and_not_asked_again(tmp_path: Path, reply: bytes) -> None:
    network = FakeNetwork()
    async with Partner(network, tmp_path, 1).serving() as one, impostor(network, [reply], hang=True) as (kubo, count):
        with pytest.raises(ProtocolError):
            await one.exchange.pull(kubo.node_id)
        assert len(count) == 1
        assert one.exchange.counters["protocol-errors"] == 1
        assert await one.kubo.p2p_ls() == [each for each in await one.kubo.p2p_ls() if each.is_listener], "no leg is left"


@pytest.mark.parametrize("digest", [[], [b""] * 16, [b"12345678"] * 15, "x", [1] * 16])
async def test_a_wrong_digest_is_the_peers_fault(tmp_path: Path, digest: codec.Value) -> None:
    network = FakeNetwork()
    reply = framed(Answer({"digest": digest}))
    async with Partner(network, tmp_path, 1).serving() as one, impostor(network, [reply], hang=True) as (kubo, _):
        with pytest.raises(ProtocolError):
            await one.exchange.reconcile(kubo.node_id)


async def test_a_partner_that_hangs_costs_our_own_patience_only(tmp_path: Path) -> None:
    """KUBO.md, p2p trap 6: a dial may hang for 30 s."""
    network = FakeNetwork()
    async with Partner(network, tmp_path, 1, QUICK).serving() as one, impostor(network, [None], hang=True) as (kubo, count):
        with pytest.raises(PeerUnreachable, match="no message within"):
            await one.exchange.pull(kubo.node_id)
        assert len(count) == 1


async def test_an_endless_reply_ends_at_the_limit(tmp_path: Path) -> None:
    network = FakeNetwork()
    reply = framed(*[Batch(((bytes([number]) * 30_000, 0),)) for number in range(40)])
    limits = Limits(patience=1.0, received=300_000)
    async with Partner(network, tmp_path, 1, limits).serving() as one, impostor(network, [reply], hang=True) as (kubo, _):
        with pytest.raises(ProtocolError, match="bytes in one exchange"):
            await one.exchange.pull(kubo.node_id)


async def test_an_age_only_grows_on_its_way(pair: tuple[Partner, Partner]) -> None:
    """THREATS 3: relayed back and forth, an envelope gets older by the true time at least, and its lease ends."""
    one, other = pair
    one.hold(42)
    heard = one.clock.monotonic()
    for _ in range(5):
        await other.exchange.reconcile(one.id)
        await one.exchange.reconcile(other.id)
        for partner in pair:
            partner.clock.advance(10.0)
    for partner in pair:
        node = partner.view.node(Signer(42).node_id, partner.clock.monotonic())
        assert node is not None
        assert node.last_seen >= partner.clock.monotonic() - heard
        partner.clock.advance(90)
        assert partner.count == 0


async def test_reconcile_takes_what_differs_and_gives_what_the_other_lacks(pair: tuple[Partner, Partner]) -> None:
    one, other = pair
    one.hold(*range(1, 30))
    other.hold(*range(20, 60))
    outcome = await one.exchange.reconcile(other.id)
    assert outcome.admitted == 30
    assert one.count == other.count == 59
    assert one.view.digest(one.clock.monotonic()) == other.view.digest(other.clock.monotonic())
    assert await one.exchange.reconcile(other.id) == type(outcome)(0, 0, 0, 0)


async def test_a_large_view_does_not_hold_up_the_loop(tmp_path: Path) -> None:
    """Between two turns of the loop at most a handful of envelopes are verified, however large the answer is."""
    network = FakeNetwork()
    async with (
        Partner(network, tmp_path, 1, Limits()).serving() as one,
        Partner(network, tmp_path, 2, Limits()).serving() as other,
    ):
        one.hold(*range(1, 400))
        jumps, before, done = [], 0, asyncio.Event()

        async def watch() -> None:
            nonlocal before
            while not done.is_set():
                now = other.intake.counters["admitted-exchange"]
                jumps.append(now - before)
                before = now
                await asyncio.sleep(0)

        watching = asyncio.create_task(watch())
        assert (await other.exchange.pull(one.id)).admitted == 399
        done.set()
        await watching
        assert max(jumps) <= 16


async def test_a_handler_of_another_room_that_cannot_answer_is_a_refusal(pair: tuple[Partner, Partner]) -> None:
    one, other = pair

    async def away(caller: str, asked: codec.Value) -> codec.Value:
        raise StoreError("the relay is away")

    async def large(caller: str, asked: codec.Value) -> codec.Value:
        return bytes(framing.MAX_FRAME)

    async def wrong(caller: str, asked: codec.Value) -> codec.Value:
        return 1.5  # type: ignore[return-value]

    async def blames(caller: str, asked: codec.Value) -> codec.Value:
        raise ProtocolError("this question has no body")

    for name, handler in {"away": away, "large": large, "wrong": wrong}.items():
        one.exchange.answer(name, handler)
        with pytest.raises(PeerUnreachable, match="busy"):
            await other.exchange.ask(one.id, name)
    assert one.exchange.served["unanswerable"] == 3
    one.exchange.answer("blames", blames)
    with pytest.raises(PeerUnreachable):
        await other.exchange.ask(one.id, "blames")
    assert one.exchange.served["protocol-errors"] == 2, "asked once more, as whatever is cut short"
    assert (await other.exchange.ask(one.id, "sequence")) == {"sequence": 0}


async def test_we_do_not_ask_ourselves(pair: tuple[Partner, Partner]) -> None:
    with pytest.raises(ValueError):
        await pair[0].exchange.pull(pair[0].id)

"""Forwards on an in-memory engine with real sockets: found, reused, moved on, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from dragon.config import ConnectSettings
from dragon.connect import ForwardRequest, ForwardResult
from dragon.connect.station_port import station_port
from dragon.errors import AmbiguousNode, LocalError, NoProvider, PortInUse, UnknownService, UsageError
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.probe import Finding
from registry_schema import make_offer
from tests.testbed.ports import free_port
from tests.unit.connect import swarm
from tests.unit.connect.sockets import (
    Server,
    answering,
    connect,
    echo,
    end_of,
    get,
    http,
    open_descriptors,
    receive,
    receive_all,
    send,
    until,
)


class World:
    """Any number of providers named alpha, beta, …; each with an ollama of its own, and one consumer."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.network = FakeNetwork()
        self.stack = AsyncExitStack()
        self.providers: list[swarm.Provider] = []
        self.services: list[Server] = []
        self.me: swarm.Consumer

    async def open(self, settings: ConnectSettings | None = None) -> None:
        kubo = FakeKubo(self.network, seed=0)
        self.stack.push_async_callback(kubo.close)
        self.me = await self.stack.enter_async_context(
            swarm.consumer(kubo, self.folder, settings=settings or ConnectSettings(test_timeout=2.0))
        )

    async def add(
        self, server: Server | None = None, *, slug: str = "ollama", models: tuple[str, ...] = ("llama3.2",), alias: str = ""
    ) -> swarm.Provider:
        number = len(self.providers)
        name = alias or ("alpha", "beta", "gamma", "delta")[number]
        service = await self.stack.enter_async_context(server or Server(http(name, models=models)))
        kubo = FakeKubo(self.network, seed=number + 1)
        self.stack.push_async_callback(kubo.close)
        provider = await self.stack.enter_async_context(swarm.provider(kubo, self.folder, name))
        labels = {"model" if n == 0 else f"model.{n + 1}": model for n, model in enumerate(models)} if slug == "ollama" else {}
        await provider.offer(slug, service.port, labels=labels)
        await self.me.hear(provider)
        self.providers.append(provider)
        self.services.append(service)
        return provider

    def of(self, node_id: str) -> int:
        return next(n for n, each in enumerate(self.providers) if each.node_id == node_id)

    async def forward(self, slug: str = "ollama", target: str = "auto", **options: object) -> ForwardResult:
        return await self.me.forwards.forward(ForwardRequest(slug, target, **options))  # type: ignore[arg-type]

    async def kill(self, number: int) -> None:
        """The provider's engine is gone at once, as after kill -9."""
        kubo = self.providers[number].kubo
        assert isinstance(kubo, FakeKubo)
        await kubo.stop()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        yield world


async def test_auto_leads_to_the_provider_and_the_second_call_is_reused(world: World) -> None:
    alpha = await world.add()
    first = await world.forward()
    assert (first.provider, first.route, first.host, first.reused) == (alpha.node_id, "p2p", "127.0.0.1", False)
    assert first.url == f"http://127.0.0.1:{first.port}"
    assert await get(first.port) == "alpha"
    again = await world.forward()
    assert (again.port, again.reused) == (first.port, True)
    assert len(world.me.forwards.list()) == 1


async def test_equal_requests_at_once_share_one_forward_and_one_leg(world: World) -> None:
    await world.add()
    results = await asyncio.gather(*(world.forward() for _ in range(100)))
    assert len({result.port for result in results}) == 1
    assert [result.reused for result in results].count(False) == 1
    assert len([entry for entry in await world.me.kubo.p2p_ls() if not entry.is_listener]) == 1


async def test_the_local_service_wins(world: World) -> None:
    await world.add()
    async with Server(http("mine")) as mine:
        world.me.local["ollama"] = Finding("ollama", mine.port, "passing", {}, 0, "test")
        result = await world.forward()
        assert (result.route, result.port, result.provider) == ("local", mine.port, world.me.node_id)
        assert world.me.forwards.list() == []
        assert (await world.forward(via="p2p")).route == "p2p"
        elsewhere = await world.forward(port=free_port())
        assert elsewhere.route == "local"
        assert elsewhere.port != mine.port
        assert await get(elsewhere.port) == "mine"
        wanting = await world.forward(where={"model": "llama3.2"})
        assert wanting.route == "p2p"


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"slug": "olama"}, UnknownService, "olama"),
        ({"slug": "comfyui"}, NoProvider, "nobody offers comfyui"),
        ({"target": "9"}, NoProvider, "number 9"),
        ({"target": "0"}, UsageError, "from 1"),
        ({"target": "nobody"}, NoProvider, "nobody"),
        ({"target": "12D3KooW"}, AmbiguousNode, "matches 2 nodes"),
        ({"where": {"model": "gpt"}}, NoProvider, "model=gpt"),
        ({"via": "ssh6"}, UsageError, "not set up"),
        ({"via": "pigeon"}, UsageError, "no route"),
        ({"via": "local"}, NoProvider, "does not run here"),
        ({"port": 70000}, UsageError, "not a port"),
        ({"raw": True, "spread": True}, UsageError, "one provider"),
        ({"pool": 17}, UsageError, "1 to 16 providers"),
    ],
)
async def test_what_cannot_be_done_is_said_in_one_line(
    world: World, words: dict[str, object], error: type[LocalError], says: str
) -> None:
    await world.add()
    await world.add()
    with pytest.raises(error) as caught:
        await world.forward(**words)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert "\n" not in str(caught.value) + caught.value.hint
    assert caught.value.hint
    assert world.me.forwards.list() == []


async def test_numbers_aliases_and_id_parts_name_a_provider(world: World) -> None:
    await world.add()
    await world.add()
    numbers = dict(world.me.forwards.numbered("ollama"))
    for number, node_id in numbers.items():
        assert (await world.forward(target=str(number))).provider == node_id
    beta = world.providers[1]
    assert (await world.forward(target="BETA")).provider == beta.node_id
    assert (await world.forward(target=beta.node_id[-6:])).provider == beta.node_id


async def test_a_label_finds_the_node_that_has_it(world: World) -> None:
    await world.add(models=("phi",))
    await world.add(models=("mistral", "llava:latest"))
    result = await world.forward(where={"model": "llava"})
    assert result.provider == world.providers[1].node_id


async def test_whom_the_operator_gives_weight_is_preferred(tmp_path: Path) -> None:
    strong = (await FakeKubo(FakeNetwork(), seed=1).identity()).node_id
    for weight, served in ((100.0, "alpha"), (0.01, "beta")):
        world = World(tmp_path / served)
        (tmp_path / served).mkdir()
        async with world.stack:
            await world.open(ConnectSettings(weights={strong: weight}))
            for _ in range(2):
                await world.add()
            taken = world.of((await world.forward()).provider)
            assert world.providers[taken].alias == served
            assert any(f"weight {weight:g}" in line.reason for line in world.me.forwards.explain("ollama").candidates) is (
                served == "beta"
            )


async def test_a_claim_that_the_service_denies_is_not_believed(world: World) -> None:
    liar = await world.add(models=("phi",))
    await liar.offer("ollama", world.services[0].port, labels={"model": "llava"})
    await world.me.hear(liar)
    await world.add(models=("llava",))
    for _ in range(3):
        result = await world.forward(where={"model": "llava"})
        assert result.provider == world.providers[1].node_id
        await world.me.forwards.off(None)


@pytest.mark.parametrize("kind", ["closes", "garbage", "critical", "error", "silent"])
async def test_a_provider_that_does_not_serve_is_passed_over(world: World, kind: str) -> None:
    async def bad(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        if kind == "garbage":
            writer.write(b"\x00\xff garbage \r\n\r\n")
        elif kind == "silent":
            await asyncio.sleep(3600)

    server = Server(http("bad", status=500)) if kind == "error" else Server(bad)
    sick = await world.add(server)
    if kind == "critical":
        await sick.offer("ollama", server.port, health="critical")
        await world.me.hear(sick)
    await world.add()
    for _ in range(3):
        result = await world.forward(via="p2p")
        assert result.provider == world.providers[1].node_id
        await world.me.forwards.off(None)


async def test_all_bad_says_what_each_failed_of(world: World) -> None:
    await world.add(Server(http("bad", status=500)))
    await world.add(Server(http("bad", status=503)))
    with pytest.raises(NoProvider) as caught:
        await world.forward()
    assert "2 offer ollama, none can be used" in str(caught.value)
    assert "500" in caught.value.hint
    assert "503" in caught.value.hint
    assert world.me.forwards.list() == []


async def test_a_provider_gone_between_choice_and_dial_is_passed_over(world: World) -> None:
    await world.add()
    await world.add()
    await world.kill(0)
    for _ in range(3):
        assert (await world.forward()).provider == world.providers[1].node_id
        await world.me.forwards.off(None)


async def test_sticky_stays_and_moves_on_the_same_port_when_its_provider_dies(world: World) -> None:
    for _ in range(3):
        await world.add()
    result = await world.forward()
    first = world.of(result.provider)
    assert {await get(result.port) for _ in range(5)} == {world.providers[first].alias}
    await world.kill(first)
    names = [await get(result.port) for _ in range(5)]
    assert len(set(names)) == 1
    assert names[0] not in ("", world.providers[first].alias)
    info = world.me.forwards.list()[0]
    assert (info.port, info.healthy) == (result.port, True)
    assert info.moved >= 1


async def test_a_provider_that_leaves_is_left(world: World) -> None:
    await world.add()
    await world.add()
    result = await world.forward()
    first = world.of(result.provider)
    await world.me.hear(world.providers[first], leaving=True)
    assert await get(result.port) == world.providers[1 - first].alias


async def test_spread_uses_everybody(world: World) -> None:
    for _ in range(3):
        await world.add()
    result = await world.forward(spread=True)
    assert await answering(result.port, {"alpha", "beta", "gamma"}) == {"alpha", "beta", "gamma"}
    await world.kill(1)
    assert await answering(result.port, {"alpha", "gamma"}) == {"alpha", "gamma"}


async def test_a_post_is_never_sent_twice(world: World) -> None:
    taken: list[bytes] = []

    async def takes_and_dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST"):
            taken.append(head)
            writer.transport.abort()
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    await world.add(Server(takes_and_dies))
    await world.add(Server(takes_and_dies))
    result = await world.forward()
    client = await connect(result.port)
    await send(client, b"POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
    assert await end_of(client) == "reset"
    client.close()
    assert len(taken) == 1


async def test_an_idle_connection_that_the_service_ends_is_no_failure(world: World) -> None:
    async def impatient(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 0.25)
        except TimeoutError:
            return
        assert head
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()

    await world.add(Server(impatient))
    result = await world.forward()
    for _ in range(4):
        client = await connect(result.port)
        assert await end_of(client) == "end"
        client.close()
    info = world.me.forwards.list()[0]
    assert (info.healthy, info.failed) == (True, 0)


async def test_ports_in_the_order_of_the_design(world: World) -> None:
    await world.add(slug="strfry", server=Server(http("relay")))
    first = await world.forward("strfry")
    assert first.url.startswith("ws://")
    others = {9999, station_port(first.provider, "strfry")}
    assert first.port in others or _taken(9999)
    asked = free_port()
    second = await world.forward("strfry", target="1", port=asked)
    assert second.port == asked


async def test_a_port_that_somebody_has_is_refused_loudly(world: World) -> None:
    await world.add()
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        with pytest.raises(PortInUse, match=f"port {port} .*taken by .*pid"):
            await world.forward(port=port)
        with pytest.raises(PortInUse):
            await world.forward(port=port, raw=True)
    assert world.me.forwards.list() == []
    assert [entry for entry in await world.me.kubo.p2p_ls() if entry.leg_port == port] == []


async def test_raw_hands_the_port_to_kubo_and_off_takes_it_back(world: World) -> None:
    await world.add()
    port = free_port()
    result = await world.forward(port=port, raw=True)
    assert result.port == port
    assert port in [entry.leg_port for entry in await world.me.kubo.p2p_ls()]
    assert await get(port) == "alpha"
    assert (await world.forward(port=port, raw=True)).reused
    assert world.me.forwards.list()[0].raw
    assert await world.me.forwards.off("ollama") == 1
    assert port not in [entry.leg_port for entry in await world.me.kubo.p2p_ls()]


async def test_off_closes_the_port_and_what_runs_through_it(world: World) -> None:
    await world.add(Server(echo), slug="echo")
    result = await world.forward("echo")
    client = await connect(result.port)
    await send(client, b"hello")
    assert await receive(client, 5) == b"hello"
    assert await world.me.forwards.off("echo") == 1
    assert await world.me.forwards.off("echo") == 0
    assert await end_of(client) == "reset"
    client.close()
    with pytest.raises(ConnectionError):
        await connect(result.port)
    with pytest.raises(UnknownService):
        await world.me.forwards.off("never heard of")


@pytest.mark.parametrize("client_waits", [3600.0, 0.5])
async def test_a_frozen_service_is_left_however_long_anybody_would_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_port: Callable[[], int], client_waits: float
) -> None:
    """Neither an hour that the settings give a test, nor a client that asks again before we would look, keeps us there."""
    monkeypatch.setattr("dragon.connect.forward.ANSWER_WITHIN", 0.2)
    frozen = asyncio.Event()
    world = World(tmp_path)
    async with world.stack:
        await world.open(ConnectSettings(test_timeout=3600.0))
        await world.add(Server(until_frozen("alpha", frozen)))
        result = await world.forward(port=unused_port())  # not ollama's own, where any node of this machine looks for it
        await world.add()
        frozen.set()

        async def answered() -> bool:
            with suppress(TimeoutError):
                async with asyncio.timeout(client_waits):
                    return await get(result.port) == "beta"
            return False

        await until(answered)
        [info] = world.me.forwards.list()
        assert info.alias == "beta"


async def test_a_frozen_service_is_noticed_on_a_kept_connection_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_port: Callable[[], int]
) -> None:
    """As clients keep them: what waits there cannot be moved, but whoever comes next is served at once by somebody else."""
    monkeypatch.setattr("dragon.connect.forward.ANSWER_WITHIN", 0.2)
    frozen = asyncio.Event()
    world = World(tmp_path)
    async with world.stack:
        await world.open(ConnectSettings(test_timeout=3600.0))
        await world.add(Server(until_frozen("alpha", frozen)))
        result = await world.forward(port=unused_port())
        await world.add()
        client = await connect(result.port)
        await send(client, b"GET / HTTP/1.1\r\n\r\n")
        assert (await receive(client, 12)) == b"HTTP/1.1 200"
        frozen.set()
        await send(client, b"POST / HTTP/1.1\r\n\r\n")
        await until(lambda: world.me.forwards.list()[0].alias == "beta")
        assert world.me.forwards.list()[0].connections == 1
        client.close()


def until_frozen(name: str, frozen: asyncio.Event) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a service that answers until it is `frozen`; then it takes what is said and is silent."""
    serve = http(name)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not frozen.is_set():
            freezing, serving = asyncio.create_task(frozen.wait()), asyncio.ensure_future(serve(reader, writer))
            try:
                await asyncio.wait((freezing, serving), return_when=asyncio.FIRST_COMPLETED)
            finally:
                serving.cancel()
                freezing.cancel()
        if frozen.is_set():
            await asyncio.Event().wait()

    return handle


async def test_idle_legs_close_and_the_port_opens_them_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.stack:
        await world.open(ConnectSettings(idle_seconds=0.05, test_timeout=2.0))
        await world.add()
        result = await world.forward()

        async def legs() -> int:
            await world.me.forwards.look()
            return len([entry for entry in await world.me.kubo.p2p_ls() if not entry.is_listener])

        async def none_left() -> bool:
            return await legs() == 0

        await until(none_left)
        assert await get(result.port) == "alpha"


async def test_nothing_is_closed_that_is_not_ours(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.stack:
        await world.open()
        alpha = await world.add()
        await world.me.kubo.p2p_forward("/x/other", f"/ip4/127.0.0.1/tcp/{free_port()}", alpha.node_id)
        before = await world.me.kubo.p2p_ls()
        await world.forward()
        await world.me.forwards.close()
        assert await world.me.kubo.p2p_ls() == before


async def test_a_provider_that_has_not_heard_of_us_is_told_and_asked_again(tmp_path: Path) -> None:
    network, told = FakeNetwork(), list[str]()
    async with AsyncExitStack() as stack:
        theirs, mine = FakeKubo(network, seed=1), FakeKubo(network, seed=2)
        stack.push_async_callback(theirs.close)
        stack.push_async_callback(mine.close)
        service = await stack.enter_async_context(Server(http("alpha")))
        alpha = await stack.enter_async_context(swarm.provider(theirs, tmp_path, "alpha", members=set()))
        await alpha.offer("ollama", service.port)

        async def introduce(node_id: str) -> None:
            told.append(node_id)
            alpha.members.add(mine.node_id)

        me = await stack.enter_async_context(swarm.consumer(mine, tmp_path, introduce=introduce))
        await me.hear(alpha)
        result = await me.forwards.forward(ForwardRequest("ollama"))
        assert await get(result.port) == "alpha"
        assert told == [alpha.node_id]


async def test_explain_tells_who_and_why(world: World) -> None:
    assert world.me.forwards.explain("ollama").chosen is None
    await world.add(models=("phi",))
    sick = await world.add()
    await sick.offer("ollama", world.services[1].port, health="critical")
    await world.me.hear(sick)
    gone = await world.add()
    await world.me.hear(gone, leaving=True)
    told = world.me.forwards.explain("ollama")
    assert told.chosen == world.providers[0].node_id
    by_alias = {line.alias: line for line in told.candidates}
    assert by_alias["alpha"].verdict == "chosen"
    assert by_alias["beta"].verdict == "refused"
    assert "critical" in by_alias["beta"].reason
    assert "stopped" in by_alias["gamma"].reason
    assert by_alias["alpha"].measured == {}
    await world.forward()
    told = world.me.forwards.explain("ollama")
    assert "is open and is used again" in told.because
    assert told.candidates[0].measured["samples"] == 1
    assert told.candidates[0].said["heard"] >= 0
    assert told.document()["candidates"][0]["id"] == told.chosen


async def test_a_choice_among_a_crowd_looks_at_a_part_of_it(world: World) -> None:
    alpha = await world.add()
    for number in range(80):
        kubo = FakeKubo(world.network, seed=1000 + number)
        claim = replace(alpha, kubo=kubo, node_id=kubo.node_id, alias=f"claims-{number}")
        await world.me.hear(claim, offers=(make_offer("ollama", kubo.node_id, 11434),))
    assert len(world.me.forwards.numbered("ollama")) == 81
    assert len(world.me.forwards.explain("ollama").candidates) == 64
    rare = await world.add(models=("rare",))
    assert (await world.forward(where={"model": "rare"})).provider == rare.node_id


async def test_out_of_descriptors_a_client_waits_and_no_provider_pays(world: World) -> None:
    await world.add()
    result = await world.forward()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    client = await connect(result.port)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # nothing new can be opened; what is open stays
        await send(client, b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.05)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert (await receive(client, 12)) == b"HTTP/1.1 200"
    client.close()
    assert world.me.forwards.explain("ollama").candidates[0].measured["failures"] == 0


async def test_a_client_that_asks_again_and_again_in_vain_does_not_fill_the_log(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    await world.add()
    result = await world.forward()
    await world.kill(0)
    caplog.set_level(logging.INFO, "dragon.connect.forward")
    for _ in range(20):
        client = await connect(result.port)
        await send(client, b"GET / HTTP/1.1\r\n\r\n")
        assert await end_of(client) == "reset"
        client.close()
    assert world.me.forwards.list()[0].failed >= 20
    assert [record.message.partition(": ")[0] for record in caplog.records if "serves nobody" in record.message] == [
        f"port {result.port} (ollama) serves nobody"
    ]


async def test_false_claims_drop_out_after_three_dials(world: World) -> None:
    """THREATS 23."""
    dials = 0

    async def liar(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal dials
        dials += 1
        writer.write(b"HTTP/1.1 500 no\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    await world.add(Server(liar))
    await world.add()
    for _ in range(12):
        await world.forward()
        await world.me.forwards.off(None)
    assert dials <= 3


async def test_soak_of_connections_leaves_nothing(world: World) -> None:
    await world.add(Server(echo), slug="echo")
    result = await world.forward("echo")

    async def converse(number: int) -> None:
        client = await connect(result.port)
        try:
            await send(client, b"x" * 100)
            if number % 3:
                assert await receive(client, 100) == b"x" * 100
            if number % 2:
                client.shutdown(socket.SHUT_WR)
                await receive_all(client)
        except ConnectionError:
            pass
        finally:
            client.close()

    await asyncio.gather(*(converse(n) for n in range(20)))
    await until(lambda: world.me.forwards.list()[0].connections == 0)
    await asyncio.sleep(0.1)
    gc.collect()
    before, tasks = open_descriptors(), len(asyncio.all_tasks())
    for batch in range(20):
        await asyncio.gather(*(converse(batch * 20 + n) for n in range(20)))
    await until(lambda: world.me.forwards.list()[0].connections == 0)
    await until(lambda: open_descriptors() <= before + 2 and len(asyncio.all_tasks()) <= tasks)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0

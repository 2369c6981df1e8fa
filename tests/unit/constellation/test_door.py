"""Published addresses: only listed hosts, only public addresses, dialled as checked; and the ways of a run, closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType, web

from dragon.constellation import door as doors
from dragon.constellation.door import Door, Published, checked_address, is_public, published
from dragon.constellation.ways import Ways
from dragon.errors import NoProvider, NotRunning, PeerUnreachable
from tests.testbed.loops import drained
from tests.testbed.ports import free_port

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "::1",
    "::",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd12:3456::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a00:1",
    "2002:7f00:1::",
    "2002:c0a8:101::",
    "localhost",
    "2130706433",
    "0x7f000001",
    "127.1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_lies_in_a_network_of_our_own_is_never_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.216.34", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"])
def test_what_lies_outside_is(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "leads"),
    [
        ("wss://relay.example.org", Published("relay.example.org", 443, True, "/")),
        ("wss://Relay.Example.org./x", Published("relay.example.org", 443, True, "/x")),
        ("ws://relay.example.org:7777", Published("relay.example.org", 7777, False, "/")),
        ("wss://other.example.org", None),
        ("wss://relay.example.org.evil.net", None),
        ("wss://relay.example.org@evil.net", None),
        ("wss://evil.net#relay.example.org", None),
        ("wss://user@relay.example.org", None),
        ("https://relay.example.org", None),
        ("wss://relay.example.org:99999", None),
        ("wss://relay.example.org:x", None),
        ("wss://relay.example.org/\r\nHost: x", None),
        ("wss://[::1]", None),
        ("", None),
    ],
)
def test_only_listed_hosts(url: str, leads: Published | None) -> None:
    assert published(url, ("relay.EXAMPLE.org",)) == leads


async def test_one_private_address_among_public_ones_closes_the_door() -> None:
    relay = Published("relay.example.org", 443, True, "/")
    assert await checked_address(relay, lambda host, port: ["1.1.1.1", "1.0.0.1"]) == "1.1.1.1"
    answers: list[list[str]] = [["1.1.1.1", "10.0.0.1"], ["127.0.0.1"], []]
    while answers:
        with pytest.raises(PeerUnreachable, match="not a public address"):
            await checked_address(relay, lambda host, port: answers.pop())


async def test_a_name_without_an_address_is_the_peers_failure() -> None:
    def lookup(host: str, port: int) -> list[str]:
        raise OSError("unknown name")

    with pytest.raises(PeerUnreachable, match="has no address"):
        await Door(Published("relay.example.org", 443, True, "/"), lookup).open()


async def test_the_address_that_was_checked_is_the_one_that_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name resolves once. A second answer, to which a rebinding name server would switch, is never asked for."""
    hosts: list[str] = []

    async def echo(request: web.Request) -> web.StreamResponse:
        hosts.append(request.headers["Host"])
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response({"name": "relay"})
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(message.data * 2)
        return socket

    app = web.Application()
    app.router.add_get("/deep", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    asked: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["10.0.0.1"]

    monkeypatch.setattr(doors, "is_public", lambda address: address == "127.0.0.1")  # the test's server cannot be elsewhere
    door = Door(Published("relay.example.org", port, False, "/deep"), lookup)
    try:
        url = await door.open()
        assert await door.open() == url, "asked again, it stands"
        async with ClientSession() as session:
            async with session.ws_connect(url) as socket:
                await socket.send_str("word" * 10_000)
                assert await socket.receive_str() == "word" * 20_000
            async with session.get(url.replace("ws", "http", 1)) as answer:
                assert await answer.json() == {"name": "relay"}
    finally:
        await door.close()
        await runner.cleanup()
        await drained()
    assert asked == ["relay.example.org"]
    assert hosts == [f"relay.example.org:{port}"] * 2
    with pytest.raises(OSError):
        await asyncio.open_connection("127.0.0.1", int(url.split(":")[2].split("/")[0]))


class Node:
    """Opens tunnels as told, and remembers what was closed."""

    def __init__(self, **tunnels: Mapping[str, Any] | Exception) -> None:
        self.tunnels, self.closed = tunnels, list[int]()

    def forward(self, slug: str, target: str = "auto") -> Mapping[str, Any]:
        assert slug == "strfry"
        tunnel = self.tunnels[target]
        if isinstance(tunnel, Exception):
            raise tunnel
        return {"provider": target, "route": "p2p", "host": "127.0.0.1", "reused": False, **tunnel}

    def off(self, slug: str | None = None, *, port: int | None = None) -> int:
        self.closed.append(port or 0)
        return 1


def a_peer(node_id: str, relay: str = "") -> dict[str, str]:
    return {"id": node_id, "alias": node_id, "trust": "signed", "relay": relay}


async def test_tunnels_opened_for_the_run_are_closed_with_it_and_others_left() -> None:
    node = Node(a={"port": 9999}, b={"port": 20001, "reused": True})
    ways = Ways(node)
    assert await ways.peer(a_peer("a")).open() == "ws://127.0.0.1:9999"
    assert await ways.peer(a_peer("b")).open() == "ws://127.0.0.1:20001"
    node.tunnels["a"] = {"port": 9999, "reused": True}  # opened anew after a break: still ours
    assert await ways.peer(a_peer("a")).open() == "ws://127.0.0.1:9999"
    await ways.close()
    assert node.closed == [9999]
    await ways.close()
    assert node.closed == [9999]


@pytest.mark.parametrize("tunnel", [{"port": 7777, "route": "local"}, {"port": 9999, "provider": "another"}])
async def test_our_own_relay_is_never_a_peer_of_itself(tunnel: Mapping[str, Any]) -> None:
    with pytest.raises(PeerUnreachable):
        await Ways(Node(a=tunnel)).peer(a_peer("a")).open()


async def test_without_a_tunnel_only_a_listed_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(a=NoProvider("not reached", "hint"))
    for hosts, relay, own in (
        ((), "wss://relay.example.org", ""),
        (("relay.example.org",), "wss://elsewhere.example.org", ""),
        (("relay.example.org",), "", ""),
        (("relay.example.org",), "wss://relay.example.org/", "wss://relay.example.org"),
    ):
        with pytest.raises(NoProvider):
            await Ways(node, hosts, own).peer(a_peer("a", relay)).open()
    monkeypatch.setattr(doors, "resolve", lambda host, port: ["10.0.0.1"])
    ways = Ways(node, ("relay.example.org",))
    monkeypatch.setattr(Door.__init__, "__defaults__", (doors.resolve, None))
    with pytest.raises(PeerUnreachable, match=r"10\.0\.0\.1"):
        await ways.peer(a_peer("a", "wss://relay.example.org")).open()
    await ways.close()


async def test_a_node_that_has_gone_takes_its_tunnels_with_it() -> None:
    node = Node(a={"port": 9999})
    ways = Ways(node)
    await ways.peer(a_peer("a")).open()

    def gone(slug: str | None = None, *, port: int | None = None) -> int:
        raise NotRunning("gone", "start it")

    node.off = gone  # type: ignore[method-assign]
    await ways.close()

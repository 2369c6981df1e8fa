"""The in-memory daemon behaves as the real one does, where rooms rely on it."""

from __future__ import annotations

import asyncio

import pytest

from dragon.errors import KuboRefused, KuboUnreachable
from dragon.kubo.client import KuboClient
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.types import MAX_MESSAGE, Kubo, loopback_target
from registry_schema.ids import key_of


def test_both_are_the_same_to_the_type_checker() -> None:
    fake: Kubo = FakeKubo(FakeNetwork(), seed=1)
    real: type[Kubo] = KuboClient
    assert fake
    assert real
    assert FakeKubo(FakeNetwork(), seed=1).node_id == FakeKubo(FakeNetwork(), seed=1).node_id


async def test_signatures_are_real() -> None:
    kubo = FakeKubo(FakeNetwork())
    key_of(kubo.node_id).verify(await kubo.sign(b"data"), b"data")
    assert (await kubo.identity()).node_id == kubo.node_id


async def test_messages_reach_all_subscribers_over_several_links_and_the_sender() -> None:
    network = FakeNetwork(mesh=False)
    nodes = [FakeKubo(network, seed=number) for number in range(3)]
    network.link(nodes[0].node_id, nodes[1].node_id)
    network.link(nodes[1].node_id, nodes[2].node_id)
    async with nodes[0].subscribe("t") as own, nodes[2].subscribe("t") as far, nodes[2].subscribe("u") as other:
        assert await nodes[1].topic_peers("t") == [nodes[0].node_id, nodes[2].node_id]
        await nodes[0].publish("t", b"1")
        assert (await anext(own)).data == b"1"
        message = await anext(far)
        assert (message.sender, message.data, message.topics) == (nodes[0].node_id, b"1", ("t",))
        network.cut(nodes[1].node_id, nodes[2].node_id)
        await nodes[0].publish("t", b"2")
        network.link(nodes[1].node_id, nodes[2].node_id)
        network.lose = lambda sender, receiver, topic: receiver == nodes[2].node_id
        await nodes[0].publish("t", b"3")
        network.lose = lambda sender, receiver, topic: False
        await nodes[0].publish("t", b"4")
        assert (await anext(far)).data == b"4"
        await nodes[2].stop()
        for stream in (far, other):
            with pytest.raises(KuboUnreachable):
                await anext(stream)
    with pytest.raises(KuboUnreachable):
        await nodes[2].p2p_ls()


async def test_too_large_a_message_is_refused() -> None:
    kubo = FakeKubo(FakeNetwork())
    await kubo.publish("t", bytes(MAX_MESSAGE))
    with pytest.raises(KuboRefused, match="too large"):
        await kubo.publish("t", bytes(MAX_MESSAGE + 1))


async def test_tunnels_carry_bytes_and_name_the_caller_and_have_no_half_close() -> None:
    network = FakeNetwork()
    provider, consumer = FakeKubo(network, seed=1), FakeKubo(network, seed=2)
    received: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readline())
        writer.write(await reader.readexactly(5))
        received.append(await reader.read())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    await provider.p2p_listen("/x/echo", loopback_target(server.sockets[0].getsockname()[1]), report_peer_id=True)
    with pytest.raises(KuboRefused, match="already registered"):
        await provider.p2p_listen("/x/echo", loopback_target(9))
    with pytest.raises(KuboRefused, match="/x/"):
        await provider.p2p_listen("/y/echo", loopback_target(9))
    await consumer.p2p_forward("/x/echo", loopback_target(0), provider.node_id)
    [leg] = await consumer.p2p_ls()
    reader, writer = await asyncio.open_connection("127.0.0.1", leg.leg_port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    assert [stream.protocol for stream in await consumer.p2p_streams()] == ["/x/echo"]
    writer.write_eof()
    assert await reader.read() == b""
    assert received == [consumer.node_id.encode() + b"\n", b""]
    writer.close()
    await writer.wait_closed()

    assert await provider.p2p_close(protocol="/x/echo") == 1
    reader, writer = await asyncio.open_connection("127.0.0.1", leg.leg_port)  # still accepts, then closes: as Kubo
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    server.close()
    await consumer.close()


async def test_directories_and_names() -> None:
    network = FakeNetwork()
    one, two = FakeKubo(network, seed=1), FakeKubo(network, seed=2)
    with pytest.raises(KuboRefused):
        await two.name_resolve(one.node_id)
    cid = await one.add_directory({"dragon.manifest": b"manifest"})
    await one.name_publish(cid, lifetime="48h", ttl="1m")
    assert await two.name_resolve(one.node_id) == f"/ipfs/{cid}"
    assert await two.cat(f"/ipns/{one.node_id}/dragon.manifest", limit=4) == b"mani"
    assert await two.ls(f"/ipns/{one.node_id}", limit=10) == ["dragon.manifest"]
    assert await two.ls(f"/ipfs/{cid}", limit=0) == []
    with pytest.raises(KuboRefused):
        await two.cat(f"/ipfs/{cid}/other", limit=4)

"""The client on real daemons."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dragon.errors import KuboRefused, KuboUnreachable
from dragon.kubo.client import KuboClient
from dragon.kubo.types import MAX_MESSAGE, P2PEntry, PubsubMessage, loopback_target
from registry_schema.ids import ed25519_node_id, key_of
from tests.integration.kubo.conftest import Kubos
from tests.testbed.kubo import KuboDaemon, until


async def meshed(publisher: KuboClient, subscriber_id: str, topic: str) -> None:
    """Wait until the publisher's daemon knows that the subscriber follows the topic."""

    async def known() -> bool:
        return subscriber_id in await publisher.topic_peers(topic)

    await until(known)


async def test_identity_is_the_daemons(client: KuboClient, kubos: Kubos) -> None:
    identity = await client.identity()
    assert identity.node_id == kubos[0].node_id
    assert identity.version == "0.43.0"
    assert identity.public_key.hex().startswith("08011220")
    assert kubos[0].address in identity.addresses
    assert "/x/" in identity.protocols


async def test_a_signature_verifies_with_the_node_id_alone(client: KuboClient, kubos: Kubos) -> None:
    data = os.urandom(300)
    signature = await client.sign(data)
    assert len(signature) == 64
    key_of(kubos[0].node_id).verify(signature, data)
    assert await asyncio.gather(*(client.sign(b"%d" % n) for n in range(20)))


async def test_binary_messages_arrive_as_they_were(client: KuboClient, other: KuboClient, kubos: Kubos, unique: str) -> None:
    payloads = [bytes(range(256)), b"", b"\n\r\n\0", os.urandom(32768), os.urandom(MAX_MESSAGE)]
    async with other.subscribe(f"topic/{unique} é") as messages:
        await meshed(client, kubos[1].node_id, f"topic/{unique} é")
        for payload in payloads:
            await client.publish(f"topic/{unique} é", payload)
        heard = [await asyncio.wait_for(anext(messages), 30) for _ in payloads]
    assert [message.data for message in heard] == payloads
    assert {message.sender for message in heard} == {kubos[0].node_id}
    assert {message.topics for message in heard} == {(f"topic/{unique} é",)}
    assert len({message.seqno for message in heard}) == len(payloads)


async def test_eight_concurrent_writers_lose_nothing(client: KuboClient, other: KuboClient, kubos: Kubos, unique: str) -> None:
    writers, each = 8, 12
    heard: set[bytes] = set()
    async with other.subscribe(unique) as messages:
        await meshed(client, kubos[1].node_id, unique)

        async def write(number: int) -> None:
            for step in range(each):
                await client.publish(unique, b"%d/%d" % (number, step))

        await asyncio.gather(*(write(number) for number in range(writers)))
        while len(heard) < writers * each:
            heard.add((await asyncio.wait_for(anext(messages), 30)).data)
    assert heard == {b"%d/%d" % (number, step) for number in range(writers) for step in range(each)}


async def test_oversize_and_unknown_things_are_refused_in_one_line(client: KuboClient, unique: str) -> None:
    with pytest.raises(KuboRefused, match="too large"):
        await client.publish(unique, os.urandom(MAX_MESSAGE + 1))
    with pytest.raises(KuboRefused, match="/x/"):
        await client.p2p_listen("/y/no", loopback_target(9))
    with pytest.raises(KuboRefused) as unknown:
        await client.ask("p2p/nonsense")
    assert "dragon doctor" in unknown.value.hint
    with pytest.raises(ValueError, match="name what"):
        await client.p2p_close()


async def test_a_tunnel_is_listened_forwarded_used_and_closed(
    client: KuboClient, other: KuboClient, kubos: Kubos, unique: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"caller " + await reader.readline() + b"said " + await reader.readline())
        await writer.drain()
        writer.close()

    protocol = f"/x/{unique}"
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        await client.p2p_listen(protocol, loopback_target(port), report_peer_id=True)
        with pytest.raises(KuboRefused, match="already registered") as twice:
            await client.p2p_listen(protocol, loopback_target(port))
        assert twice.value.hint
        assert P2PEntry(protocol, f"/p2p/{kubos[0].node_id}", loopback_target(port)) in await client.p2p_ls()

        await other.p2p_forward(protocol, loopback_target(0), kubos[0].node_id)
        [leg] = [entry for entry in await other.p2p_ls() if entry.protocol == protocol]
        assert leg.leg_port
        assert leg.remote == kubos[0].node_id
        assert not leg.is_listener

        reader, writer = await asyncio.open_connection("127.0.0.1", leg.leg_port)

        async def running() -> bool:
            return any(stream.protocol == protocol for stream in await other.p2p_streams())

        await until(running)
        writer.write(b"hello\n")
        assert await reader.read() == b"caller " + kubos[1].node_id.encode() + b"\nsaid hello\n"
        writer.close()

        assert await other.p2p_close(listen=leg.listen) == 1
        assert await other.p2p_close(listen=leg.listen) == 0
        assert await client.p2p_close(protocol=protocol) == 1
        assert protocol not in {entry.protocol for entry in await client.p2p_ls()}
    finally:
        server.close()


async def test_streams_are_ended_on_demand(client: KuboClient, other: KuboClient, kubos: Kubos, unique: str) -> None:
    protocol = f"/x/{unique}"
    opened = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened.set()
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    await client.p2p_listen(protocol, loopback_target(server.sockets[0].getsockname()[1]))
    await other.p2p_forward(protocol, loopback_target(0), kubos[0].node_id)
    [leg] = [entry for entry in await other.p2p_ls() if entry.protocol == protocol]
    reader, writer = await asyncio.open_connection("127.0.0.1", leg.leg_port)
    try:
        await asyncio.wait_for(opened.wait(), 30)
        running: list[str] = []

        async def listed() -> bool:  # the provider may see the connection before the consumer's daemon lists it
            running[:] = [each.id for each in await other.p2p_streams() if each.protocol == protocol]
            return len(running) == 1

        await until(listed)
        await other.p2p_stream_close(running[0])
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await asyncio.wait_for(reader.readexactly(1), 30)
    finally:
        writer.close()
        server.close()
        await other.p2p_close(protocol=protocol)
        await client.p2p_close(protocol=protocol)


async def test_peers_are_listed_pinged_and_peered_with(client: KuboClient, kubos: Kubos) -> None:
    found = {peer.node_id: peer for peer in await client.peers()}
    assert {kubos[1].node_id, kubos[2].node_id} <= set(found)
    assert not found[kubos[1].node_id].relayed
    assert 0 < await client.ping(kubos[1].node_id, 10) < 10
    await client.connect(kubos[2].address)
    await client.peering_add(kubos[2].address)
    with pytest.raises((KuboRefused, KuboUnreachable)):
        await client.connect("/ip4/127.0.0.1/tcp/1/p2p/12D3KooWNDTksApL4oZ2SWGUJwYRQ4TW7JDn6USnjuii4Vby6b5E")


async def test_a_directory_is_published_under_the_nodes_name_and_read_elsewhere(
    client: KuboClient, other: KuboClient, kubos: Kubos
) -> None:
    files = {"dragon.manifest": os.urandom(2000), "12345.json": b"{}", "x_ssh.sh": b"#!/bin/bash\n" * 30000}
    cid = await client.add_directory(files)
    await client.name_publish(cid, lifetime="48h", ttl="1m")

    async def resolved() -> bool:
        try:
            return await other.name_resolve(kubos[0].node_id, nocache=True) == f"/ipfs/{cid}"
        except KuboRefused:
            return False

    await until(resolved)
    for name, data in files.items():
        assert await other.cat(f"/ipns/{kubos[0].node_id}/{name}", limit=1 << 20) == data
    assert await other.cat(f"/ipfs/{cid}/x_ssh.sh", limit=11) == b"#!/bin/bash"
    with pytest.raises(KuboRefused):
        await other.cat(f"/ipfs/{cid}/none", limit=10)
    assert sorted(await other.ls(f"/ipns/{kubos[0].node_id}", limit=10)) == sorted(files)
    assert len(await other.ls(f"/ipfs/{cid}", limit=2)) == 2
    assert await other.ls(f"/ipfs/{cid}/12345.json", limit=2) == []


async def test_reading_a_name_that_nobody_publishes_ends_when_its_reader_gives_up(other: KuboClient) -> None:
    """And takes no thread of those that sign: fifty at once hold up nothing, though each of them may take two minutes."""
    nobody = ed25519_node_id(os.urandom(31) + b"\x01")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await asyncio.gather(*(other.cat(f"/ipns/{nobody}/12345.json", limit=10) for _ in range(50)))
    async with asyncio.timeout(30):
        assert len(await other.sign(b"data")) == 64


async def test_publications_and_names_do_not_cost_one_another(
    client: KuboClient, other: KuboClient, kubos: Kubos, unique: str
) -> None:
    cid = await client.add_directory({"a": os.urandom(10)})
    async with other.subscribe(unique) as messages:
        await meshed(client, kubos[1].node_id, unique)
        naming = asyncio.create_task(client.name_publish(cid, lifetime="48h", ttl="1m"))
        await naming
        await client.publish(unique, b"after the name")
        assert (await asyncio.wait_for(anext(messages), 30)).data == b"after the name"


@pytest.mark.parametrize("ending", ["terminate", "kill", "freeze", "restart"])
async def test_a_dead_subscription_is_noticed(kubo_factory: Callable[..., KuboDaemon], ending: str, unique: str) -> None:
    daemon = kubo_factory()
    async with KuboClient(daemon.api) as client:
        async with client.subscribe(unique) as messages:
            await client.publish(unique, b"alive")
            assert (await asyncio.wait_for(anext(messages), 30)).data == b"alive"
            waiting: asyncio.Future[PubsubMessage] = asyncio.ensure_future(anext(messages))
            await asyncio.sleep(0.6)  # the pulse has beaten at least once
            assert not waiting.done()
            if ending == "restart":
                daemon.kill()
                daemon.start()
            else:
                getattr(daemon, ending)()
            with pytest.raises(KuboUnreachable):
                await asyncio.wait_for(waiting, 20)  # SIGTERM leaves the bare stream open for 30 s
        if ending == "freeze":
            daemon.thaw()
        if ending in ("freeze", "restart"):
            async with client.subscribe(unique) as messages:
                await client.publish(unique, b"again")
                assert (await asyncio.wait_for(anext(messages), 30)).data == b"again"
        else:
            with pytest.raises(KuboUnreachable) as error:
                await client.identity()
            assert error.value.hint


async def test_closing_the_client_ends_its_subscriptions(kubos: Kubos, unique: str) -> None:
    client = KuboClient(kubos[0].api)
    async with client.subscribe(unique) as messages:
        waiting: asyncio.Future[PubsubMessage] = asyncio.ensure_future(anext(messages))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(KuboUnreachable):
            await asyncio.wait_for(waiting, 30)
    with pytest.raises(KuboUnreachable):
        await client.p2p_ls()
    with pytest.raises(KuboUnreachable):
        await client.sign(b"")


async def test_a_unix_socket_with_a_secret(kubo_factory: Callable[..., KuboDaemon], unique: str) -> None:
    socket = Path("/tmp") / f"dragon-test-{unique}.sock"  # unix paths end at 108 bytes, tmp_path may be longer
    daemon = kubo_factory(
        changes={
            "Addresses": {"API": f"/unix{socket}"},
            "API": {
                "Authorizations": {
                    "dragon": {"AuthSecret": "basic:dragon:p:ss", "AllowedPaths": ["/api/v0"]},
                    "token": {"AuthSecret": "bearer:secret", "AllowedPaths": ["/api/v0"]},
                }
            },
        },
        auth="bearer:secret",
    )
    try:
        assert daemon.api == f"/unix{socket}"
        for api, auth in ((daemon.api, "basic:dragon:p:ss"), (f"/unix/{socket}", "bearer:secret")):
            async with KuboClient(api, auth) as client:
                assert (await client.identity()).node_id == daemon.node_id
                key_of(daemon.node_id).verify(await client.sign(b"x"), b"x")
                async with client.subscribe(unique) as messages:
                    await client.publish(unique, b"x")
                    assert (await asyncio.wait_for(anext(messages), 30)).data == b"x"
        async with KuboClient(daemon.api, "bearer:wrong") as client:
            for call in (client.identity(), client.sign(b"")):
                with pytest.raises(KuboRefused) as refusal:
                    await call
                assert "[kubo] auth" in refusal.value.hint
    finally:
        socket.unlink(missing_ok=True)


async def test_nothing_there_is_one_clear_line() -> None:
    async with KuboClient("/ip4/127.0.0.1/tcp/1") as client:
        for call in (client.identity(), client.sign(b"")):
            with pytest.raises(KuboUnreachable, match=r"does not answer at /ip4/127\.0\.0\.1/tcp/1") as error:
                await call
            assert error.value.hint


async def test_something_else_there_is_one_clear_line() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with KuboClient(f"http://127.0.0.1:{port}") as client:
            with pytest.raises(KuboRefused, match="does not answer as Kubo"):
                await client.identity()
    finally:
        server.close()

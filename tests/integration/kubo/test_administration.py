"""The extended ipfshttpclient by itself: its new sections speak as Kubo does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dragon.errors import KuboUnreachable
from dragon.kubo.address import parse_address
from dragon.kubo.administration import Administration
from dragon.kubo.types import loopback_target
from registry_schema.ids import key_of
from tests.integration.kubo.conftest import Kubos
from tests.testbed.kubo import KuboDaemon


@pytest.fixture
async def administration(kubos: Kubos) -> AsyncIterator[Administration]:
    administration = Administration(parse_address(kubos[0].api), None)
    yield administration
    await administration.close()


async def test_the_p2p_section(administration: Administration, kubos: Kubos, unique: str) -> None:
    protocol = f"/x/{unique}"
    await administration.run(lambda client: client.p2p.listen(protocol, loopback_target(9), report_peer_id=True))
    await administration.run(lambda client: client.p2p.forward(protocol, loopback_target(0), f"/p2p/{kubos[1].node_id}"))
    answer = await administration.run(lambda client: client.p2p.ls())
    assert [entry["Protocol"] for entry in answer["Listeners"]].count(protocol) == 2
    assert await administration.run(lambda client: client.p2p.close(protocol=protocol, target_address=loopback_target(9))) == 1
    assert await administration.run(lambda client: client.p2p.close(protocol=protocol)) == 1
    assert await administration.run(lambda client: client.p2p.close(protocol=protocol)) == 0


async def test_the_key_section_signs(administration: Administration, kubos: Kubos) -> None:
    signature = await administration.run(lambda client: client.key.sign(b"\0\xffdata"))
    key_of(kubos[0].node_id).verify(signature, b"\0\xffdata")
    assert "self" in {key["Name"] for key in (await administration.run(lambda client: client.key.list()))["Keys"]}


async def test_the_pubsub_section_speaks_multibase(administration: Administration, unique: str) -> None:
    def round_trip(client: object) -> object:
        with client.pubsub.subscribe(unique, timeout=30) as subscription:  # type: ignore[attr-defined]
            assert unique in client.pubsub.ls()  # type: ignore[attr-defined]
            assert client.pubsub.peers(unique) == []  # type: ignore[attr-defined]
            client.pubsub.publish(unique, b"\0\xffdata")  # type: ignore[attr-defined]
            return subscription.read_message()["data"]

    assert await administration.run(round_trip) == "uAP9kYXRh"


@pytest.mark.parametrize("over", ["tcp", "unix"])
async def test_closing_ends_what_a_frozen_daemon_will_not_answer(
    kubo_factory: Callable[..., KuboDaemon], unique: str, over: str
) -> None:
    """A node that stops would wait two minutes for its name to be published."""
    path = Path("/tmp") / f"dragon-test-{unique}.sock"  # unix paths end at 108 bytes
    daemon = kubo_factory(changes={"Addresses": {"API": f"/unix{path}"}} if over == "unix" else {})
    try:
        administration = Administration(parse_address(daemon.api), None)
        cid = await administration.add_directory({"file": b"x"})
        daemon.freeze()
        under_way = asyncio.ensure_future(administration.name_publish(cid, lifetime="1h", ttl="1m", key="self"))
        await asyncio.wait([under_way], timeout=0.5)
        assert not under_way.done()
        await asyncio.wait_for(administration.close(), 30)
        with pytest.raises(KuboUnreachable):
            await under_way
    finally:
        daemon.thaw()
        path.unlink(missing_ok=True)

"""What is offered follows what runs and what the catalogue allows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dragon.clock import SystemClock
from dragon.config import GateSettings
from dragon.connect.offering import Offering
from dragon.connect.serving import Serving
from dragon.home import Home
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.tunnels import Tunnels
from dragon.probe import Finding, Survey, load_catalogue
from dragon.store import Store
from registry_schema import protocol_name
from tests.unit.connect.sockets import Server, connect, echo, end_of, receive, send, until


class House:
    """One node whose view says who is a member."""

    def __init__(self, folder: Path, settings: GateSettings | None = None) -> None:
        self.network = FakeNetwork()
        self.kubo = FakeKubo(self.network, seed=1)
        self.guest = FakeKubo(self.network, seed=2)
        self.members = {self.guest.node_id}
        self.tunnels = Tunnels(self.kubo, folder / "tunnels.json", SystemClock())
        self.serving = Serving(
            self.kubo.node_id, self.tunnels, load_catalogue(), lambda caller: caller in self.members, SystemClock(),
            settings or GateSettings(), is_kubo=lambda _: True,
        )  # fmt: skip
        self.changes = 0
        self.serving.on_change(self._changed)

    def _changed(self) -> None:
        self.changes += 1

    async def survey(self, *findings: Finding) -> None:
        self.serving.update(Survey(findings, {}, 0.0))
        await self.tunnels.settle()

    async def close(self) -> None:
        await self.serving.close()
        await self.tunnels.close()
        await self.guest.close()
        await self.kubo.close()

    def offered(self) -> list[str]:
        return [offer.slug for offer in self.serving.offers()]

    async def targets(self) -> dict[str, int | None]:
        return {entry.protocol: entry.listener_port for entry in await self.kubo.p2p_ls()}


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    house = House(tmp_path)
    yield house
    await house.close()


def finding(slug: str, port: int = 4242, **labels: str) -> Finding:
    return Finding(slug, port, "passing", labels, 0, "test")


async def test_an_offer_is_said_only_when_its_listener_is_confirmed(house: House) -> None:
    house.serving.update(Survey((finding("ollama", model="phi"),), {}, 0.0))
    assert house.offered() == []
    assert "ollama" in house.serving.problems()
    await house.tunnels.settle()
    assert house.offered() == ["ollama"]
    (offer,) = house.serving.offers()
    assert (offer.port, offer.scheme, offer.labels, offer.protocol) == (
        11434, "http", {"model": "phi"}, protocol_name("ollama", house.kubo.node_id),
    )  # fmt: skip
    assert house.serving.problems() == {}
    assert house.changes == 1


async def test_offers_end_with_the_service_and_with_the_engine(house: House) -> None:
    await house.survey(finding("ollama"), finding("comfyui", 4243))
    assert house.offered() == ["comfyui", "ollama"]
    await house.survey(finding("comfyui", 4243))
    assert house.offered() == ["comfyui"]
    assert list(await house.targets()) == [protocol_name("comfyui", house.kubo.node_id)]
    await house.kubo.stop()
    await house.tunnels.settle()
    assert house.offered() == []
    house.kubo.start()
    await house.tunnels.settle()
    assert house.offered() == ["comfyui"]


async def test_a_listener_leads_to_the_gate_and_a_public_one_to_the_service(house: House) -> None:
    await house.survey(finding("ollama"))
    protocol = protocol_name("ollama", house.kubo.node_id)
    assert set((await house.targets()).values()) == house.serving.ports()
    house.serving.replace_catalogue(load_catalogue(overrides={"ollama": {"access": "public"}}))
    await house.tunnels.settle()
    assert (await house.targets())[protocol] == 4242
    assert house.serving.ports() == frozenset()
    house.serving.replace_catalogue(load_catalogue())
    await house.tunnels.settle()
    assert (await house.targets())[protocol] != 4242


async def test_what_becomes_private_is_withdrawn_at_once_and_its_streams_end(house: House) -> None:
    async with Server(echo) as service:
        await house.survey(finding("ollama", service.port))
        protocol = protocol_name("ollama", house.kubo.node_id)
        await house.guest.p2p_forward(protocol, "/ip4/127.0.0.1/tcp/0", house.kubo.node_id)
        (leg,) = [entry.leg_port for entry in await house.guest.p2p_ls()]
        assert leg is not None
        client = await connect(leg)
        await send(client, b"hello")
        assert await receive(client, 5) == b"hello"
        house.serving.replace_catalogue(load_catalogue(private=["ollama"]))
        assert house.offered() == []
        await house.tunnels.settle()
        assert await house.targets() == {}
        assert await end_of(client) in ("end", "reset")
        client.close()
        await house.survey(finding("ollama", service.port))
        assert await house.targets() == {}


async def test_access_by_list_and_by_membership(house: House) -> None:
    async with Server(echo) as service:
        await house.survey(finding("ollama", service.port))
        protocol = protocol_name("ollama", house.kubo.node_id)
        await house.guest.p2p_forward(protocol, "/ip4/127.0.0.1/tcp/0", house.kubo.node_id)
        (leg,) = [entry.leg_port for entry in await house.guest.p2p_ls()]
        assert leg is not None

        async def served() -> bool:
            client = await connect(leg)
            try:
                await send(client, b"hello")
                return await receive(client, 5) == b"hello"
            except ConnectionError:
                return False
            finally:
                client.close()

        assert await served()
        house.members.clear()
        assert not await served()
        house.serving.replace_catalogue(load_catalogue(overrides={"ollama": {"access": [house.guest.node_id]}}))
        await until(served)
        house.serving.replace_catalogue(load_catalogue(overrides={"ollama": {"access": [house.kubo.node_id]}}))
        assert not await served()


async def test_a_service_that_moved_to_another_port(house: House) -> None:
    async with Server(echo) as first, Server(echo) as second:
        await house.survey(finding("ollama", first.port))
        before = house.serving.ports()
        await house.survey(finding("ollama", second.port))
        assert house.serving.ports() != before
        assert house.offered() == ["ollama"]


async def test_limits_come_from_the_settings_and_load_is_the_share_of_them(tmp_path: Path) -> None:
    house = House(tmp_path, GateSettings(connections=2, connections_per_caller=1))
    async with Server(echo) as service:
        await house.survey(finding("ollama", service.port))
        (gate,) = house.serving.ports()
        inside = await connect(gate)
        await send(inside, house.guest.node_id.encode() + b"\nhi")
        assert await receive(inside, 2) == b"hi"
        assert house.serving.load() == 500
        beyond = await connect(gate)
        await send(beyond, house.guest.node_id.encode() + b"\n")
        assert await end_of(beyond) in ("reset", "end")
        told = house.serving.gate()
        assert (told.open, told.limit, told.limit_per_caller, told.load) == (1, 2, 1, 0.5)
        assert told.refused == {"too many connections": 1}
        assert [(each.id, each.received) for each in told.callers] == [(house.guest.node_id, 2)]
        inside.close()
        beyond.close()
    await house.close()


async def test_load_alone_is_no_change(house: House) -> None:
    await house.survey(finding("ollama"))
    changes = house.changes
    house.serving.book.open = 500
    await house.survey(finding("ollama"))
    assert house.changes == changes
    assert house.serving.load() == 488
    house.serving.book.open = 0
    await house.survey(finding("ollama", model="phi"))
    assert house.changes == changes + 1


async def test_what_was_private_for_a_moment_is_offered_again_though_no_survey_tells_anything_new(house: House) -> None:
    await house.survey(finding("ollama"))
    house.serving.replace_catalogue(load_catalogue(private=["ollama"]))
    await house.tunnels.settle()
    house.serving.replace_catalogue(load_catalogue())
    await house.tunnels.settle()
    assert house.offered() == ["ollama"]
    assert set((await house.targets()).values()) == house.serving.ports()


async def test_paused_nothing_is_offered_and_resumed_all_that_runs_now(house: House) -> None:
    await house.survey(finding("ollama"), finding("strfry", 4243))
    house.serving.pause()
    await house.tunnels.settle()
    assert house.offered() == []
    assert await house.targets() == {}
    assert set(house.serving.problems()) == {"ollama", "strfry"}

    await house.survey(finding("ollama"), finding("comfyui", 4244))
    assert await house.targets() == {}
    house.serving.replace_catalogue(load_catalogue(private=["ollama"]))
    house.serving.resume()
    await house.tunnels.settle()
    assert house.offered() == ["comfyui"]
    assert house.serving.problems() == {}


async def test_paused_only_our_own_listeners_end(house: House) -> None:
    await house.kubo.p2p_listen("/x/other-program", "/ip4/127.0.0.1/tcp/7000")
    await house.survey(finding("ollama"))
    house.serving.pause()
    await house.tunnels.settle()
    assert await house.targets() == {"/x/other-program": 7000}


async def test_what_was_asked_holds_over_a_restart(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.prepare()
    for ask, expected in ((None, True), (False, False), (None, False), (True, True), (None, True)):
        house = House(tmp_path)
        async with Store.open(home) as store:
            offering = Offering(house.serving, store)
            await offering.recall()
            if ask is not None:
                await offering.turn(ask)
            await house.survey(finding("ollama"))
            assert (offering.on, house.offered() == ["ollama"]) == (expected, expected)
        await house.close()

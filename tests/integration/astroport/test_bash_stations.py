"""A station that only runs the scripts, on real Kubo daemons: its balise as `_12345.sh` publishes it, its service used."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from dragon.astroport.bash_stations import BashStations
from dragon.astroport.beacon_reading import MAX_BEACON
from dragon.astroport.zen import Zen
from dragon.clock import SystemClock
from dragon.connect import ForwardRequest
from dragon.errors import NoProvider
from dragon.kubo.client import KuboClient
from dragon.kubo.types import loopback_target
from tests.testbed.bash_station import balise, document
from tests.testbed.kubo import KuboDaemon, until
from tests.testbed.services import start_service
from tests.unit.connect import swarm
from tests.unit.connect.sockets import get

MakeKubo = Callable[..., KuboDaemon]

LARGE = 100_000_000


@dataclass
class Station:
    """A daemon whose owner publishes files with nothing but the `ipfs` command, as the scripts do."""

    daemon: KuboDaemon
    folder: Path

    @property
    def node_id(self) -> str:
        return self.daemon.node_id

    def listen(self, slug: str, port: int) -> None:
        self.daemon.ipfs("p2p", "listen", f"/x/{slug}-{self.node_id}", loopback_target(port))

    def publish(self, files: Mapping[str, bytes], *, key: str = "self") -> None:
        folder = self.folder / key
        for old in folder.glob("*"):
            old.unlink()
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        cid = self.daemon.ipfs("add", "-rwq", *(str(path) for path in folder.glob("*"))).split()[-1]
        self.daemon.ipfs("name", "publish", "--lifetime=24h", "--ttl=30m", f"--key={key}", "--allow-offline", f"/ipfs/{cid}")


@dataclass
class World:
    """`me`: a node with Dragon and its view. Stations are what it finds."""

    me: swarm.Consumer
    mine: KuboDaemon
    folder: Path
    make: MakeKubo
    stations: BashStations

    def station(self) -> Station:
        daemon = self.make()
        daemon.connect(self.mine)
        return Station(daemon, self.folder / daemon.node_id)

    def offers(self, station: Station) -> list[str] | None:
        node = self.me.view.node(station.node_id, time.monotonic())
        return None if node is None else [offer.slug for offer in node.manifest.offers]

    async def sees(self, station: Station, *slugs: str) -> None:
        """Refresh until the station is seen with `slugs`: IPNS over pubsub needs a moment after the first connection."""

        async def seen() -> bool:
            await self.stations.refresh()
            return self.offers(station) == sorted(slugs)

        await until(seen)


@pytest.fixture
async def world(kubo_factory: MakeKubo, tmp_path: Path) -> AsyncIterator[World]:
    mine = await asyncio.to_thread(kubo_factory)
    zen = Zen(tmp_path / ".zen")
    zen.game.mkdir(parents=True)
    async with AsyncExitStack() as stack:
        kubo = await stack.enter_async_context(KuboClient(mine.api))
        me = await stack.enter_async_context(swarm.consumer(kubo, tmp_path))
        rng = random.Random(1)
        stations = BashStations(kubo, me.view, zen, SystemClock(), rng, self_id=mine.node_id, admit=True)
        yield World(me, mine, tmp_path, kubo_factory, stations)


async def test_a_service_of_a_station_without_dragon_is_used_and_follows_its_files(world: World) -> None:
    station = await asyncio.to_thread(world.station)
    with start_service("http", home=world.folder, name="bash", models=["llama3.2:latest"]) as service:
        await asyncio.to_thread(station.listen, "ollama", service.port)
        files = balise(station.node_id, int(time.time()), {"ollama": 11434})
        await asyncio.to_thread(station.publish, files)
        await world.sees(station, "ollama")

        result = await world.me.forwards.forward(ForwardRequest("ollama"))
        assert (result.provider, result.route) == (station.node_id, "p2p")
        assert '"bash"' in await get(result.port, "/whoami")
        (line,) = world.me.forwards.explain("ollama").candidates
        assert (line.said["trust"], line.said["source"]) == ("ipns", "ipns")

        # Published again: it is seen within seconds, though the name may be cached for half an hour.
        again = balise(station.node_id, int(time.time()) + 1, {"ollama": 11434, "strfry": 9999})
        await asyncio.to_thread(station.publish, again)
        await world.sees(station, "ollama", "strfry")

        # Its files grow old: it is no provider any more, and files of yesterday do not bring it back.
        world.me.view.tick(time.monotonic() + 13 * 3600)
        await world.me.forwards.off(None)
        with pytest.raises(NoProvider, match="nobody offers ollama now"):
            await world.me.forwards.forward(ForwardRequest("ollama"))
        await asyncio.to_thread(station.publish, balise(station.node_id, int(time.time()) - 13 * 3600, {"ollama": 11434}))

        async def refused() -> bool:
            await world.stations.refresh()
            return world.stations.counters["unsigned-stale"] >= 1

        await until(refused)
        assert list(world.me.view.providers("ollama", at=time.monotonic())) == []


async def test_a_signed_provider_is_taken_first(world: World) -> None:
    """I4, over real tunnels: the unsigned one answers ten times as fast and is not asked."""
    station = await asyncio.to_thread(world.station)
    signed = await asyncio.to_thread(world.make)
    await asyncio.to_thread(signed.connect, world.mine)
    async with AsyncExitStack() as stack:
        fast = stack.enter_context(start_service("http", home=world.folder, name="bash"))
        slow = stack.enter_context(start_service("http", home=world.folder, name="signed", delay=0.2))
        await asyncio.to_thread(station.listen, "ollama", fast.port)
        await asyncio.to_thread(station.publish, balise(station.node_id, int(time.time()), {"ollama": 11434}))
        kubo = await stack.enter_async_context(KuboClient(signed.api))
        provider = await stack.enter_async_context(swarm.provider(kubo, world.folder, "signed"))
        await provider.offer("ollama", slow.port)
        await world.sees(station, "ollama")
        await world.me.hear(provider)
        for _ in range(5):
            result = await world.me.forwards.forward(ForwardRequest("ollama"))
            assert result.provider == provider.node_id
            await world.me.forwards.off("ollama")
        lines = {line.id: line for line in world.me.forwards.explain("ollama").candidates}
        assert lines[station.node_id].reason == "trust ipns ranks behind signed"
        slow.kill()
        assert (await world.me.forwards.forward(ForwardRequest("ollama"))).provider == station.node_id


async def test_a_swarm_map_under_a_key_of_its_own_leads_to_others(world: World) -> None:
    listed, mapped = [await asyncio.to_thread(world.station) for _ in range(2)]
    channel = (await asyncio.to_thread(listed.daemon.ipfs, "key", "gen", f"MySwarm_{listed.node_id}")).strip()
    files = balise(listed.node_id, int(time.time()), {}, g1swarm=f"http://127.0.0.1:8080/ipns/{channel}")
    await asyncio.to_thread(listed.publish, {f"{mapped.node_id}/12345.json": b"{}"}, key=f"MySwarm_{listed.node_id}")
    await asyncio.to_thread(listed.publish, files)
    await asyncio.to_thread(mapped.publish, balise(mapped.node_id, int(time.time())))
    await world.sees(listed)

    world.mine.ipfs("swarm", "disconnect", f"/p2p/{mapped.node_id}")
    await world.sees(mapped, "ollama", "ssh")
    assert world.stations.counters["maps"] >= 1


async def test_of_a_hundred_megabytes_a_fraction_is_fetched(world: World) -> None:
    """THREATS 19, I5: a 12345.json and a script without end; the rest of the balise counts."""
    station = await asyncio.to_thread(world.station)
    at = int(time.time())
    files = balise(station.node_id, at, {"ollama": 11434})
    files["12345.json"] = json.dumps(document(station.node_id, at)).encode()[:-1] + b"," + _noise(LARGE)
    files["x_qdrant.sh"] = b"#" + _noise(LARGE)
    before = await _received(world.mine)
    await asyncio.to_thread(station.publish, files)
    await world.sees(station, "ollama")
    assert {"beacon-large", "script-large"} <= world.stations.counters.keys()
    assert MAX_BEACON < await _received(world.mine) - before < LARGE / 10


async def test_links_and_folders_where_files_should_be(world: World) -> None:
    """THREATS 19: what they point at is not read, neither there nor here."""
    station = await asyncio.to_thread(world.station)
    folder = world.folder / "odd"
    folder.mkdir()
    files = balise(station.node_id, int(time.time()), {"ollama": 11434, "qdrant": 6333, "strfry": 9999})
    target = world.folder / "x_ollama.sh"
    for name, data in files.items():
        (folder / name if name != target.name else target).write_bytes(data)
    (folder / target.name).symlink_to(target)
    (folder / "x_qdrant.sh").unlink()
    (folder / "x_qdrant.sh").mkdir()
    (folder / "x_qdrant.sh" / "inner").write_bytes(b"inner")
    (folder / f"x_$(touch {world.folder.name}).sh").write_bytes(b"#!/bin/bash\n")
    (folder / "12345.json").unlink()
    (folder / "12345.json").symlink_to("/etc/passwd")
    cid = (await asyncio.to_thread(station.daemon.ipfs, "add", "-rQ", str(folder))).strip()
    await asyncio.to_thread(station.daemon.ipfs, "name", "publish", "--allow-offline", f"/ipfs/{cid}")
    await world.sees(station, "strfry")
    # Of a link Kubo returns the words where it points, which are no script and no JSON; a folder is no file.
    assert {"script-bare", "beacon-json", "script-missing", "script-name"} <= world.stations.counters.keys()


def _noise(count: int) -> bytes:
    """Bytes of which no two blocks are alike, so that none of them comes for nothing."""
    return random.Random(1).randbytes(count // 2).hex().encode()


async def _received(daemon: KuboDaemon) -> int:
    """Return the bytes of blocks that the daemon has received from others."""
    async with KuboClient(daemon.api) as kubo:
        return int((await kubo.ask("bitswap/stat"))["DataReceived"])

"""Stations that only run the scripts: found, read, used, forgotten; and hostile ones that change nothing and run nothing."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest

from dragon.astroport import bash_stations
from dragon.astroport.bash_files import Files, in_copy
from dragon.astroport.bash_stations import AGAIN, LOOK_EVERY, BashStations
from dragon.astroport.zen import Zen
from dragon.errors import KuboUnreachable
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.registry.policy import Policy
from dragon.registry.view import NodeView, View
from tests.simulator.signers import NOW_MS, SWARM, Signer
from tests.testbed.bash_station import CHANNEL, balise, document, script
from tests.unit.astroport.hostile.corpus import CANARY, cases
from tests.unit.kubo.clocks import HandClock

NOW = NOW_MS // 1000


class Clock(HandClock):
    """A hand-turned clock whose wall clock began at a real date."""

    def now_ms(self) -> int:
        return NOW_MS + int(self.at * 1000)


class World:
    """This station, and others that only run the scripts, on one network in memory."""

    def __init__(self, folder: Path, *, admit: bool = True) -> None:
        self.network = FakeNetwork()
        self.kubo = FakeKubo(self.network, seed=0)
        self.clock = Clock()
        self.zen = Zen(folder / ".zen")
        self.zen.game.mkdir(parents=True)
        self.view = View(self.kubo.node_id, SWARM, Policy(), {}, random.Random(1))
        self.stations = self.made(admit=admit)

    def made(self, *, admit: bool = True) -> BashStations:
        return BashStations(
            self.kubo, self.view, self.zen, self.clock, random.Random(2), self_id=self.kubo.node_id, admit=admit
        )

    async def station(self, seed: int, files: Mapping[str, bytes] | None = None, *, linked: bool = True) -> FakeKubo:
        """Let a node appear that publishes a balise; with `linked` it is a peer of ours."""
        self.network.mesh = linked
        kubo = FakeKubo(self.network, seed=seed)
        await publish(kubo, balise(kubo.node_id, self.now) if files is None else files)
        return kubo

    @property
    def now(self) -> int:
        return self.clock.now_ms() // 1000

    def shown(self, node: FakeKubo) -> NodeView | None:
        return self.view.node(node.node_id, self.clock.at)

    def offers(self, node: FakeKubo) -> list[str] | None:
        shown = self.shown(node)
        return None if shown is None else [offer.slug for offer in shown.manifest.offers]


async def publish(kubo: FakeKubo, files: Mapping[str, bytes], key: str = "self") -> None:
    await kubo.name_publish(await kubo.add_directory(files), lifetime="24h", ttl="30m", key=key)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    for node in world.network.nodes.values():
        await node.close()


async def test_a_peer_with_a_balise_is_shown_with_all_that_it_says(world: World) -> None:
    station = await world.station(1)
    await world.stations.refresh()
    shown = world.shown(station)
    assert shown is not None
    assert (shown.state, shown.trust, shown.source, shown.alias) == ("live", "ipns", "ipns", "vm.localhost")
    assert {offer.slug: (offer.port, offer.scheme, offer.protocol) for offer in shown.manifest.offers} == {
        "ollama": (11434, "http", f"/x/ollama-{station.node_id}"),
        "ssh": (22, "ssh", f"/x/ssh-{station.node_id}"),
    }
    station_fields = shown.manifest.station
    assert (station_fields["uplanet"], station_fields["hex"], station_fields["captain_hex"], station_fields["relay"]) == (
        "g1" + "U" * 46, "cd" * 32, "ab" * 32, "ws://127.0.0.1:7777"
    )  # fmt: skip
    assert (station_fields["level"], station_fields["ssh_user"]) == ("y", "pi")
    assert [provider.node_id for provider in world.view.providers("ollama", at=0.0)] == [station.node_id]
    assert world.view.is_member(station.node_id, 0.0)
    assert world.stations.counters == {"read": 1, "unreachable": 1}  # the balise, and a map that nobody has


async def test_where_the_operator_does_not_admit_them_they_are_only_shown(world: World) -> None:
    station = await world.station(1)
    await world.made(admit=False).refresh()
    assert world.offers(station) == ["ollama", "ssh"]
    assert list(world.view.providers("ollama", at=0.0)) == []
    assert not world.view.is_member(station.node_id, 0.0)


async def test_what_was_read_and_refused_is_told(world: World) -> None:
    assert world.stations.summary() == "0 known, used where nobody who signs can serve"
    station = await world.station(1)
    files = balise(station.node_id, NOW)
    await publish(station, {**files, "x_ollama.sh": files["x_ollama.sh"] + b'NATIVE_PORT="1"\n', "x_$(id).sh": b""})
    FakeKubo(world.network, seed=2)
    await world.stations.refresh()
    assert world.stations.summary() == (
        "1 known, used where nobody who signs can serve; refused so far: script-name 1, script-twice 1"
    )
    assert "shown only" in world.made(admit=False).summary()


async def test_services_without_a_script_have_the_catalogues_port(world: World) -> None:
    """12345.json is stale at times, a script is not always there; what nobody here knows has no port then."""
    node = FakeKubo(world.network, seed=1)
    files = balise(node.node_id, NOW, {"ollama": 11434})
    files["12345.json"] = json.dumps(document(node.node_id, NOW, "ollama,strfry,unheard-of,comfyui,vane")).encode()
    files["x_comfyui.sh"] = b"#!/bin/bash\nipfs p2p forward ...\n"  # of an older version
    files["x_orpheus.sh"] = files["x_comfyui.sh"]  # named by nobody else
    files["x_vane.sh"] = script(node.node_id, "vane", 3002, more='NATIVE_PORT="22"').encode()  # not right
    await publish(node, files)
    await world.stations.refresh()
    assert world.offers(node) == ["comfyui", "ollama", "strfry"]


async def test_the_bootstrap_list_and_swarm_maps_lead_further(world: World) -> None:
    """listed ──► its map names `mapped`; neither is a peer of ours, but both can be reached."""
    world.network.mesh = False
    between = FakeKubo(world.network, seed=5)
    world.network.link(world.kubo.node_id, between.node_id)
    listed, mapped = await world.station(1, linked=False), await world.station(2, linked=False)
    for node in (listed, mapped):
        world.network.link(between.node_id, node.node_id)
    # A swarm map is a directory under a key of its own, with one folder for each node.
    listed.names[CHANNEL] = f"/ipfs/{await listed.add_directory({f'{mapped.node_id}/12345.json': b'{}', '../x/y': b''})}"
    world.zen.game.joinpath("MY_boostrap_nodes.txt").write_text(
        f"# ours\n/ip4/127.0.0.1/tcp/4001/p2p/{listed.node_id} # vm\n$(touch {CANARY})\n/ip4/1.2.3.4/tcp/1/p2p/../x\n"
    )
    await world.stations.refresh()
    assert (world.offers(listed), world.offers(mapped)) == (["ollama", "ssh"], ["ollama", "ssh"])


async def test_without_any_peer_the_bootstrap_list_is_dialled(world: World) -> None:
    station = await world.station(1, linked=False)
    world.zen.programs.mkdir()
    (world.zen.programs / "A_boostrap_nodes.txt").write_text(f"/dns4/example.org/tcp/4001/p2p/{station.node_id}\n")
    await world.stations.refresh()
    assert world.network.neighbours(world.kubo.node_id) == [station.node_id]
    assert world.offers(station) == ["ollama", "ssh"]


async def test_it_is_read_again_when_it_is_due_and_only_what_changed(world: World) -> None:
    station = await world.station(1)
    task = asyncio.create_task(world.stations.run())
    try:
        assert await _passed(world, lambda: world.stations.counters["read"] == 1) == 0
        await publish(station, balise(station.node_id, NOW, {"strfry": 9999}))
        waited = await _passed(world, lambda: world.stations.counters["read"] == 2)
        assert 0.75 * AGAIN <= waited <= 1.25 * AGAIN + 2 * LOOK_EVERY
        assert world.offers(station) == ["strfry"]
        before = world.kubo.calls.count("cat")
        await _passed(world, lambda: world.stations.counters["unchanged"] == 2)
        assert world.kubo.calls.count("cat") == before
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _passed(world: World, condition: Callable[[], bool]) -> float:
    """Let time pass until `condition()` holds; return the seconds."""
    began = world.clock.at
    while world.clock.at < began + 86400:
        while not condition() and not world.clock.sleepers:  # a look is under way
            await asyncio.to_thread(int)  # it reads files in threads
        if condition():
            return world.clock.at - began
        await world.clock.turn(10)
    raise AssertionError("did not come true in a day")


async def test_refresh_reads_past_the_cache(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Kubo does: a name is cached for its ttl, unless asked otherwise."""
    station = await world.station(1)
    cache: dict[str, str] = {}
    resolve = world.kubo.name_resolve

    async def cached(name: str, *, nocache: bool = False) -> str:
        if nocache or name not in cache:
            cache[name] = await resolve(name)
        return cache[name]

    monkeypatch.setattr(world.kubo, "name_resolve", cached)
    await world.stations.refresh()
    await publish(station, balise(station.node_id, NOW, {"strfry": 9999}))
    await world.stations._look(fresh=False)
    assert world.offers(station) == ["ollama", "ssh"]
    await world.stations.refresh()
    assert world.offers(station) == ["strfry"]


async def test_who_has_no_balise_is_asked_ever_more_seldom(world: World) -> None:
    peer = FakeKubo(world.network, seed=1)
    asked = []
    for hour in range(48):
        before = world.kubo.calls.count("name_resolve")
        await world.stations._look(fresh=False)
        asked += [hour] * (world.kubo.calls.count("name_resolve") - before)
        await world.clock.turn(3600)
    assert asked[0] == 0
    assert 6 <= len(asked) <= 20
    assert world.shown(peer) is None


async def test_whoever_signs_is_left_alone(world: World) -> None:
    signer = Signer("dragon")
    world.view.admit(signer.envelope(NOW_MS, ["ollama"]), carrier=signer.node_id, source="pubsub", heard_at=0.0, now_ms=NOW_MS)
    folder = world.zen.swarm / signer.node_id
    lay(folder, balise(signer.node_id, NOW, {"qdrant": 6333}))
    world.zen.game.joinpath("MY_boostrap_nodes.txt").write_text(f"/ip4/127.0.0.1/tcp/1/p2p/{signer.node_id}\n")
    await world.stations.refresh()
    assert "name_resolve" not in world.kubo.calls
    assert world.view.slugs(0.0) == {"ollama": 1}


async def test_a_balise_with_a_manifest_ends_what_was_learnt_before(world: World) -> None:
    station = await world.station(1)
    await world.stations.refresh()
    await publish(station, {**balise(station.node_id, NOW), "dragon.manifest": b"signed"})
    await world.stations.refresh()
    assert world.shown(station) is None


async def test_it_falls_silent_when_its_moats_are_old(world: World) -> None:
    station = await world.station(1)
    await world.stations.refresh()
    await world.clock.turn(12 * 3600)
    await world.stations.refresh()
    shown = world.shown(station)
    assert shown is not None
    assert shown.state == "silent"
    assert list(world.view.providers("ollama", at=world.clock.at)) == []
    await publish(station, balise(station.node_id, world.now))
    await world.stations.refresh()
    assert world.offers(station) == ["ollama", "ssh"]


async def test_a_silent_daemon_and_slow_names_hold_nobody_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that cannot be resolved takes one of eight slots for its bound; the stations before it are read at once."""
    station = await world.station(1)
    await world.stations.refresh()
    monkeypatch.setattr(bash_stations, "REFRESH_BOUND", 0.05)
    resolve = world.kubo.name_resolve

    async def slow(name: str, *, nocache: bool = False) -> str:
        if name != station.node_id:
            await asyncio.Event().wait()
        return await resolve(name)

    monkeypatch.setattr(world.kubo, "name_resolve", slow)
    for seed in range(10, 16):
        FakeKubo(world.network, seed=seed)
    await publish(station, balise(station.node_id, NOW, {"strfry": 9999}))
    await world.stations.refresh()
    assert world.offers(station) == ["strfry"]
    await world.kubo.stop()
    with pytest.raises(KuboUnreachable):
        await world.stations.refresh()


# -- copies on disk ---------------------------------------------------------------------------------------------------


def lay(folder: Path, files: Mapping[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


async def test_copies_that_the_scripts_fetched_are_read_where_they_are_newer(world: World) -> None:
    one, other = Signer("one"), Signer("other")
    lay(world.zen.swarm / one.node_id, balise(one.node_id, NOW - 60, {"ollama": 11434}))
    lay(world.zen.swarm / other.node_id, balise(other.node_id, NOW - 13 * 3600))
    lay(world.zen.swarm / "not-an-id", balise(one.node_id, NOW))
    await world.stations.refresh()
    assert world.view.slugs(0.0) == {"ollama": 1}
    lay(world.zen.swarm / one.node_id, balise(one.node_id, NOW - 60, {"ollama": 11434, "qdrant": 1}))
    await world.stations.refresh()
    assert world.view.slugs(0.0) == {"ollama": 1}  # as old as what is held: its own name may have said more since
    lay(world.zen.swarm / one.node_id, balise(one.node_id, NOW - 59, {"ollama": 11434, "qdrant": 1}))
    await world.stations.refresh()
    assert world.view.slugs(0.0) == {"ollama": 1, "qdrant": 1}
    assert world.stations.counters == {"copies": 2, "unsigned-stale": 3}


async def test_copies_are_read_again_when_they_changed_or_are_due(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Signer("one"), Signer("other")
    read: list[str] = []

    def noted(folder: Path) -> Files | None:
        read.append(folder.name)
        return in_copy(folder)

    monkeypatch.setattr(bash_stations, "in_copy", noted)
    for node in (one, other):
        lay(world.zen.swarm / node.node_id, balise(node.node_id, NOW - 60))
    for _ in range(3):
        await world.stations._look(fresh=False)
    assert sorted(read) == sorted((one.node_id, other.node_id))
    lay(world.zen.swarm / one.node_id, {"x_new.sh": b""})
    await world.stations._look(fresh=False)
    assert read[2:] == [one.node_id]
    await world.clock.turn(AGAIN)
    await world.stations._look(fresh=False)
    assert sorted(read[3:]) == sorted((one.node_id, other.node_id))


async def test_a_copy_that_is_newer_than_the_record_is_no_failure_of_the_name(world: World) -> None:
    station = await world.station(1)
    lay(world.zen.swarm / station.node_id, balise(station.node_id, NOW + 60, {"strfry": 9999}))
    await world.stations.refresh()
    assert world.offers(station) == ["strfry"]
    assert "unsigned-superseded" not in world.stations.counters
    await publish(station, balise(station.node_id, NOW + 120))
    await world.clock.turn(AGAIN * 1.25)
    await world.stations._look(fresh=False)
    assert world.offers(station) == ["ollama", "ssh"]


async def test_copies_lead_nowhere_else(world: World, tmp_path: Path) -> None:
    """Links, pipes, folders, and what Dragon itself laid there."""
    secret = tmp_path / "secret"
    names = {name: Signer(name).node_id for name in ("folder-link", "moats-link", "script-link", "pipe", "ours")}
    lay(secret, balise(names["folder-link"], NOW))
    world.zen.swarm.mkdir(parents=True)
    (world.zen.swarm / names["folder-link"]).symlink_to(secret)
    for name in ("moats-link", "script-link", "pipe", "ours"):
        lay(world.zen.swarm / names[name], balise(names[name], NOW, {"ollama": 11434}))
    for name, file in (("moats-link", "_MySwarm.moats"), ("script-link", "x_ollama.sh")):
        path = world.zen.swarm / names[name] / file
        path.rename(secret / file)
        path.symlink_to(secret / file)
    pipe = world.zen.swarm / names["pipe"] / "x_ollama.sh"
    pipe.unlink()
    os.mkfifo(pipe)
    ours = "#!/bin/bash\n# Made by Dragon: a tunnel\n" + script(names["ours"], "ollama", 11434)
    (world.zen.swarm / names["ours"] / "x_ollama.sh").write_text(ours)
    await world.stations.refresh()
    assert {node.node_id: len(node.manifest.offers) for node in world.view.nodes(0.0)} == {
        names["script-link"]: 0, names["pipe"]: 0
    }  # fmt: skip
    assert world.stations.counters == {"no-moats": 1, "script-missing": 2, "copies": 2}


# -- the corpus -------------------------------------------------------------------------------------------------------

HOSTILE = Signer("hostile").node_id


@pytest.mark.parametrize("name", sorted(cases(HOSTILE, "x", NOW)))
async def test_a_hostile_balise_changes_nothing_and_runs_nothing(name: str, world: World, tmp_path: Path) -> None:
    """THREATS 19: over IPNS and as a copy on disk; what is off is counted by its reason."""
    honest = await world.station(1)
    await world.stations.refresh()
    hostile = FakeKubo(world.network, seed=666)
    case = cases(hostile.node_id, honest.node_id, NOW)[name]
    read: list[int] = []
    cat = world.kubo.cat

    async def counted(path: str, *, limit: int) -> bytes:
        data = await cat(path, limit=limit)
        read.append(len(data))
        return data

    world.kubo.cat = counted  # type: ignore[method-assign]
    await publish(hostile, case.files)
    await world.stations.refresh()
    assert case.refused <= world.stations.counters.keys()
    _unharmed(world, honest, hostile, case.slugs)
    assert sum(read) < 1 << 19  # of 2 MB too

    copied = World(tmp_path / "copied")
    for file, data in case.files.items():
        if "/" not in file and "\0" not in file:
            lay(copied.zen.swarm / hostile.node_id, {file: data})
    before = _everything_below(tmp_path)
    await copied.stations.refresh()
    assert case.refused - {"script-missing", "script-name", "signs"} <= copied.stations.counters.keys()
    assert _everything_below(tmp_path) == before
    if case.slugs is None:
        assert copied.shown(hostile) is None


def _everything_below(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


def _unharmed(world: World, honest: FakeKubo, hostile: FakeKubo, slugs: tuple[str, ...] | None) -> None:
    assert world.offers(honest) == ["ollama", "ssh"]
    assert world.offers(hostile) == (None if slugs is None else list(slugs))
    shown = world.shown(hostile)
    texts = [] if shown is None else [shown.alias, shown.manifest.version, *map(str, shown.manifest.station.values())]
    assert not any(set(text) & set("$`\n\0\x1b;|\"'") for text in texts)
    assert not Path(CANARY).exists()

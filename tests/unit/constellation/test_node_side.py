"""What a node tells a run: its own people, the constellation's, and from whom."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragon.config.model import ConstellationSettings
from dragon.constellation.lists import page_of
from dragon.constellation.node_side import FRESH, Constellation
from dragon.constellation.places import Places
from dragon.errors import PeerUnreachable
from registry_schema import codec, make_offer
from tests.simulator.signers import Signer
from tests.unit.registry.world import World


def key(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


@dataclass
class Files:
    """What a station's files name, and how often they were read."""

    people: tuple[str, ...] = ()
    station: tuple[str, ...] = ()
    friends: tuple[str, ...] = ()
    reads: int = 0

    def read(self) -> Files:
        self.reads += 1
        return self


class Here:
    """A node with a view, whose peers answer `lists`."""

    def __init__(self, home: Path, files: Files | None = None, relay: int | None = 7777, **settings: Any) -> None:
        self.world = World()
        self.lists: dict[str, list[str]] = {}
        self.asked: list[str] = []
        self.places = Places(home, home / "zen" if files else None)
        self.constellation = Constellation(
            self.world.me.node_id,
            ConstellationSettings(**settings),
            self.places,
            self.world.view,
            self.ask,
            self,
            people=files.read if files else None,
            relay_port=lambda: relay,
        )

    def monotonic(self) -> float:
        return self.world.at

    def now_ms(self) -> int:
        return self.world.now_ms

    async def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here waits")

    async def ask(self, node_id: str, question: str, body: codec.Value) -> codec.Value:
        self.asked.append(node_id)
        if node_id not in self.lists:
            raise PeerUnreachable("away")
        return page_of(self.lists[node_id], 0)

    def member(self, alias: str, *slugs: str, **station: str) -> Signer:
        signer = Signer(alias)
        offers = tuple(make_offer(slug, signer.node_id, 7777) for slug in slugs)
        self.world.beat(signer, alias=alias, offers=offers, station=station)
        return signer


async def test_off_a_station_the_configured_keys_and_the_friends_found_are_the_list(tmp_path: Path) -> None:
    here = Here(tmp_path, authors=(key("me"),))
    here.places.root.mkdir()
    here.places.own_friends.write_text(f"{key('friend')}\nnot a key\n{key('me')}\n")
    assert await here.constellation.own() == (key("me"), key("friend"))
    document = await here.constellation.document()
    assert (document["station"], document["people"]) == (None, [key("me")])
    assert document["local"] == {"url": "ws://127.0.0.1:7777", "tool": None}


async def test_the_document_is_the_union_of_all_who_offer_a_relay(tmp_path: Path) -> None:
    here = Here(tmp_path, Files((key("card"),), (key("node"),), (key("friend"),)))
    alpha, beta = here.member("alpha", "strfry", hex=key("alpha"), relay="wss://relay.example"), here.member("beta", "strfry")
    other = here.member("other", "ollama")
    here.lists = {alpha.node_id: [key("theirs"), key("card")]}
    document = await here.constellation.document()
    assert document["hexes"] == [key("card"), key("node"), key("friend"), key("alpha"), key("theirs")]
    assert document["authors"] == {
        "own": 3,
        "total": 5,
        "left_out": 0,
        "nodes": [
            {"id": alpha.node_id, "alias": "alpha", "count": 2, "error": ""},
            {"id": beta.node_id, "alias": "beta", "count": 0, "error": "away"},
        ],
    }
    assert [peer["alias"] for peer in document["peers"]] == ["alpha", "beta"]
    assert document["peers"][0]["relay"] == "wss://relay.example"
    assert other.node_id not in here.asked
    assert document["station"] == {"zen": str(tmp_path / "zen")}


async def test_only_nodes_of_the_same_uplanet_are_of_a_stations_constellation(tmp_path: Path) -> None:
    here = Here(tmp_path, Files())
    me = here.world.me
    here.world.beat(me, alias="me", offers=(make_offer("strfry", me.node_id, 7777),), station={"uplanet": "g1A"})
    same = here.member("same", "strfry", uplanet="g1A")
    here.member("another", "strfry", uplanet="g1B")
    here.member("none", "strfry")
    document = await here.constellation.document()
    assert [peer["id"] for peer in document["peers"]] == [same.node_id], "and never ourselves"
    assert document["uplanet"] == "g1A"


async def test_keys_of_all_stations_count_also_of_those_without_a_relay_now(tmp_path: Path) -> None:
    """ASTROPORT facts 4.2: captain and node of every station in the swarm."""
    here = Here(tmp_path, Files())
    here.member("silent", "strfry", hex=key("silent"))
    here.world.wait(3600)
    here.member("no relay", "ollama", hex=key("node"), captain_hex=key("captain"))
    document = await here.constellation.document()
    assert set(document["hexes"]) == {key("silent"), key("node"), key("captain")}
    assert document["peers"] == []


async def test_a_station_that_is_only_shown_is_neither_peer_nor_author(tmp_path: Path) -> None:
    here = Here(tmp_path)
    for alias, usable in (("admitted", True), ("shown", False)):
        manifest = Signer(alias).manifest(here.world.now_ms, ("strfry",), alias=alias, station={"hex": key(alias)})
        here.world.view.learn(manifest, at=here.world.at, now_ms=here.world.now_ms, usable=usable)
    document = await here.constellation.document()
    assert [peer["alias"] for peer in document["peers"]] == ["admitted"]
    assert document["hexes"] == [key("admitted")]


async def test_silent_nodes_are_no_peers(tmp_path: Path) -> None:
    here = Here(tmp_path)
    here.member("alpha", "strfry")
    here.world.wait(3600)
    assert (await here.constellation.document())["peers"] == []


async def test_what_another_asks_is_our_list_and_costs_one_reading_of_the_files(tmp_path: Path) -> None:
    files = Files((key("card"),))
    here = Here(tmp_path, files)
    alpha = here.member("alpha", "strfry")
    for _ in range(100):
        answer = await here.constellation.gathering.answer(alpha.node_id, {"page": 0})
    assert answer == page_of([key("card")], 0)
    assert files.reads == 1
    here.world.wait(FRESH + 1)
    await here.constellation.own()
    assert files.reads == 2
    assert await here.constellation.gathering.answer(Signer("stranger").node_id, {"page": 0}) != answer


async def test_a_run_is_worth_it_with_a_relay_somebody_and_a_peer(tmp_path: Path) -> None:
    assert not await Here(tmp_path, relay=7777, authors=(key("me"),)).constellation.is_worth_a_run(), "no peer"
    for relay, authors, worth in ((None, (key("me"),), False), (7777, (), False), (7777, (key("me"),), True)):
        here = Here(tmp_path, relay=relay, authors=authors)
        here.member("alpha", "strfry")
        assert await here.constellation.is_worth_a_run() is worth


async def test_the_stations_own_program_imports_unless_another_is_named(tmp_path: Path) -> None:
    here = Here(tmp_path, Files())
    program = tmp_path / "zen" / "strfry" / "strfry"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    assert (await here.constellation.document())["local"]["tool"] is None, "it cannot be run"
    program.chmod(0o755)
    assert (await here.constellation.document())["local"]["tool"] == str(program)
    named = tmp_path / "mine"
    named.write_text("#!/bin/sh\n")
    named.chmod(0o755)
    assert (await Here(tmp_path, Files(), tool=str(named)).constellation.document())["local"]["tool"] == str(named)

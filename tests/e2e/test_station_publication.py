"""Dragon in the place of `_12345.sh`: two IPNS names and port 12345, read by stations that only have bash and `ipfs`."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from dragon.astroport.g1 import node_id_of
from registry_schema.ids import base58_decode, base58_encode
from tests.e2e.test_station import BOUND, findings, in_cache, listing
from tests.testbed.netns import unable
from tests.testbed.station import OLLAMA, Station, Stations, wait_for

pytestmark = pytest.mark.skipif(bool(why := unable()), reason=why or "")

READER = Path(__file__).with_name("discovery.sh")
TABLES = '[registry]\npublisher = "dragon"\n'


@pytest.fixture(scope="module")
def stations(tmp_path_factory: pytest.TempPathFactory, kubo_binary: Path) -> Iterator[Stations]:
    with Stations(tmp_path_factory.mktemp("publication"), kubo_binary) as made:
        yield made


@pytest.fixture(scope="module")
def three(stations: Stations) -> tuple[Station, Station, Station]:
    """Two stations that publish by Dragon, each with an ollama, and one that has nothing but bash and a Kubo."""
    one, two, reader = stations.add("one"), stations.add("two"), stations.add("reader")
    for station in (one, two):
        (station.balise / "TW" / "a+b@example.org").mkdir(parents=True)
        (station.balise / "TW" / "a+b@example.org" / "index.html").write_text("<p>of another program")
        (station.balise / ".secret").write_text("stays home")
        (station.balise / "link").symlink_to(station.kubo.repo / "config")
        (station.balise / "empty").touch()
        station.run_service()
        station.serve(tables=TABLES)
    wait_for(in_cache(one, two), BOUND, lambda: one.dragon.log)
    reader.balise.mkdir()
    (reader.balise / "_MySwarm.moats").write_text(f"{int(time.time())}\n")
    (reader.balise / "12345.json").write_text(json.dumps({"ipfsnodeid": reader.id, "hostname": "reader"}))
    script = f'NODE_ID="{reader.id}"\nPROTO="/x/orpheus-{reader.id}"\nNATIVE_PORT="5005"\nALT_PORT="21300"\n'
    (reader.balise / "x_orpheus.sh").write_text(f"#!/bin/bash\n{script}touch {reader.folder}/was-run\n")
    reader.publish_by_hand()
    return one, two, reader


def under_name(station: Station, name: str) -> str:
    """What a station's own Kubo lists under an IPNS name; "" while there is nothing."""
    try:
        return station.ipfs("ls", station.ipfs("--timeout=5s", "name", "resolve", "--nocache", name).strip())
    except AssertionError:
        return ""


def lists(station: Station, name: str, entry: str) -> bool:
    return entry in under_name(station, name)


def told(station: Station) -> str:
    return station.dragon.log


def channel(station: Station) -> str:
    return str(json.loads((station.balise / "12345.json").read_text())["g1swarm"].rpartition("/")[2])


def published(station: Station) -> str:
    return str(findings(station)["IPNS"]["detail"])


def discover(reader: Station, *peers: Station) -> list[str]:
    done = reader.bash(READER, str(reader.swarm), *[peer.id for peer in peers])
    assert done.returncode == 0, done
    return done.stdout.splitlines()


async def visit(request: str) -> tuple[str, str]:
    """Return head and body of the beacon's answer; it ends the connection itself."""
    stream, writer = await asyncio.open_connection("127.0.0.1", 12345)
    writer.write(request.encode())
    head, _, body = (await stream.read()).decode().partition("\r\n\r\n")
    writer.close()
    return head, body


def test_a_bash_consumer_discovers_both_stations_and_uses_one(three: tuple[Station, Station, Station]) -> None:
    one, two, reader = three
    for station, other in ((one, two), (two, one)):  # a reader's Kubo keeps what it resolved for a minute
        wait_for(partial(lists, station, station.id, "x_ollama.sh"), BOUND, partial(told, station))
        wait_for(partial(lists, station, channel(station), other.id), BOUND, partial(told, station))
    assert set(discover(reader, one)) == {f"accepted {one.id}", f"accepted {two.id}"}
    got = reader.swarm / one.id
    assert (got / "TW" / "a+b@example.org" / "index.html").read_text() == "<p>of another program"
    assert {path.name for path in got.iterdir()} >= {"12345.json", "HEX", "dragon.manifest", "myIPFS.txt", "empty"}
    assert not [name for name in listing(got) if name.startswith(".") or "link" in name], "dotted names and links stay home"
    assert two.dragon.run("peers", "--refresh").returncode == 0
    wait_for(lambda: two.sees(reader), BOUND, partial(told, two))  # by its own balise: now it is a member
    opened = reader.bash(reader.swarm / two.id / "x_ollama.sh")
    assert opened.returncode == 0, opened
    assert reader.ask(OLLAMA)["name"] == "ollama"
    assert reader.bash(reader.swarm / two.id / "x_ollama.sh", "off").returncode == 0


def test_without_12345_sh_the_cache_has_stations_without_dragon_too(three: tuple[Station, Station, Station]) -> None:
    _, two, reader = three
    wait_for(in_cache(two, reader, "orpheus"), BOUND, partial(told, two))
    made = (two.swarm / reader.id / "x_orpheus.sh").read_text()
    assert made.startswith("#!/bin/bash\n# Made by Dragon")
    assert "was-run" not in made
    assert not (reader.folder / "was-run").exists()


def test_the_beacon_answers_every_path_with_the_one_document(three: tuple[Station, Station, Station]) -> None:
    one, _, _ = three
    for path in ("/", "/../../etc/passwd", "/x_ollama.sh?a=b", "/?%00"):
        head, body = one.host.run(partial(visit, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
        assert head.startswith("HTTP/1.1 200 OK\r\n")
        for line in (
            "Access-Control-Allow-Origin: *", "Access-Control-Allow-Credentials: true", "Access-Control-Allow-Methods: GET",
            "Server: Astroport.ONE", "Content-Type: application/json; charset=UTF-8", "Connection: close",
        ):  # fmt: skip
            assert line in head.split("\r\n")
        assert json.loads(body)["ipfsnodeid"] == one.id
    head, _ = one.host.run(partial(visit, "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"))
    assert head.startswith("HTTP/1.1 405 ")


def test_upsync_has_a_station_read_that_shows_its_key(three: tuple[Station, Station, Station]) -> None:
    one, _, reader = three
    g1pub = base58_encode(base58_decode(reader.id)[-32:])
    assert node_id_of(g1pub) == reader.id
    head, body = one.host.run(partial(visit, f"GET /?{g1pub}={reader.id} HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert head.startswith("HTTP/1.1 200 ")
    assert json.loads(body)["ipfsnodeid"] == one.id, "one JSON document, and no line of text after it"
    wait_for(lambda: one.sees(reader), BOUND, partial(told, one))


def test_never_two_publishers_on_one_name(three: tuple[Station, Station, Station]) -> None:
    one, _, reader = three
    pretended = one.pretend_running("_12345.sh")
    wait_for(lambda: "_12345.sh runs" in published(one), BOUND, lambda: published(one))
    assert f"pid {pretended.pid}" in published(one)
    (one.balise / "news").write_text("while the other runs")
    (one.balise / "x_ollama.sh").unlink()  # laid again: something to publish
    wait_for(lambda: re.search(r"ERROR .* self is not published: _12345\.sh runs", one.dragon.log), BOUND, partial(told, one))
    shown = under_name(reader, one.id)
    assert "12345.json" in shown
    assert "news" not in shown
    pretended.kill()
    pretended.wait()
    wait_for(lambda: "Dragon publishes" in published(one), BOUND)

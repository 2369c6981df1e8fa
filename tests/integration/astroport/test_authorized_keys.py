"""SSH keys of stations, from a real relay into a real file."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nostr_sdk import LocalRelay, LocalRelayBuilder, RateLimit

from dragon.astroport.authorized_keys import BEGIN, END
from dragon.astroport.key_keeping import AuthorizedKeys
from dragon.astroport.relay_events import MAX_EVENTS, station_events
from dragon.cli.main import run
from dragon.clock import SystemClock
from dragon.errors import LocalError
from dragon.home import Home
from tests.testbed.backend import PlainBackend, a_peer, api
from tests.unit.astroport.nostr import UPLANET, author, report, ssh_key

OWL, RAVEN, SELF = "12D3KooWOwl", "12D3KooWRaven", "12D3KooWSelf"


async def put(url: str, *events: dict[str, Any]) -> None:
    """Give `events` to a relay, which must take them."""
    async with aiohttp.ClientSession() as session, session.ws_connect(url) as relay:
        for event in events:
            await relay.send_json(["EVENT", event])
            answer = await relay.receive_json()
            assert answer[:3] == ["OK", event["id"], True], answer


@pytest.fixture
async def relay() -> AsyncIterator[str]:
    relay: LocalRelay = (
        LocalRelayBuilder().addr("127.0.0.1").rate_limit(RateLimit(max_reqs=500, notes_per_minute=100_000)).build()
    )
    await relay.run()
    yield str(await relay.url())
    relay.shutdown()


def line(node_id: str) -> bytes:
    return f"{ssh_key(node_id).rpartition(' ')[0]} dragon:{node_id}\n".encode()


async def test_from_a_real_relay_into_the_file(relay: str, tmp_path: Path) -> None:
    now, day = int(time.time()), 86_400
    await put(
        relay,
        report(OWL, author("owl"), at=now - 8 * day),
        report(RAVEN, author("raven"), at=now - 10 * day),
        report(OWL, author("mallory"), at=now, ssh_pub=ssh_key("mallory")),
        report(SELF, author("self"), at=now),
        report(OWL, author("owl"), at=now, kind=1, ssh_pub=ssh_key("another kind")),
        report(RAVEN, author("raven"), at=now, d="other", swarm_id="g1Another"),
    )
    file = tmp_path / ".ssh" / "authorized_keys"
    file.parent.mkdir()
    file.write_bytes(b"# mine\nssh-ed25519 AAAA me")
    who = {OWL: ("owl",), RAVEN: ("raven", "captain"), SELF: ("self",)}
    nodes = {name: frozenset(author(each).public_key.hex() for each in names) for name, names in who.items()}
    keeper = AuthorizedKeys(
        file, tmp_path / "backups", SystemClock(), own_id=SELF, uplanet=lambda: UPLANET, nodes=lambda: nodes,
        events=lambda authors, since: station_events(relay, authors, since),
    )  # fmt: skip
    look = await keeper.keep()
    assert file.read_bytes() == BEGIN + line(OWL) + END + b"# mine\nssh-ed25519 AAAA me"
    assert look.selection.refused == {"of this station itself": 1, "of another UPlanet": 1}

    await put(relay, report(RAVEN, author("captain"), at=now))  # as the stations' scripts sign
    await keeper.keep()
    assert file.read_bytes().startswith(BEGIN + line(OWL) + line(RAVEN) + END)


async def test_the_command_shows_and_writes(
    relay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home, zen = Home(tmp_path / "dragon"), tmp_path / "home" / ".zen"
    (zen / "game").mkdir(parents=True)
    home.prepare()
    home.config_file.write_text(f'[astroport]\nauthorized_keys = true\n[constellation]\nrelay = "{relay.rstrip("/")}"\n')
    for name, value in (("HOME", zen.parent), ("ZEN_HOME", zen), ("DRAGON_HOME", home.root), ("XDG_RUNTIME_DIR", "")):
        monkeypatch.setenv(name, str(value))
    backend = PlainBackend()
    backend.known_peers = [
        a_peer(SELF, "self", self=True, station={"uplanet": UPLANET}),
        a_peer(OWL, "owl", station={"hex": author("owl").public_key.hex()}),
    ]
    await put(relay, report(OWL, author("owl"), at=int(time.time())), report(OWL, author("raven"), at=int(time.time())))
    file = zen.parent / ".ssh" / "authorized_keys"
    async with api(home, backend):
        assert await asyncio.to_thread(run, ["astroport", "keys", "--dry-run"]) == 0
        assert capsys.readouterr().out == f"would let in  {line(OWL).decode()}"
        assert not file.exists()
        assert await asyncio.to_thread(run, ["astroport", "keys"]) == 0
    assert file.read_bytes() == BEGIN + line(OWL) + END
    capsys.readouterr()
    home.config_file.write_text("")  # switched off: the block can still be taken away
    assert await asyncio.to_thread(run, ["astroport", "keys", "--remove", "--dry-run"]) == 0
    assert capsys.readouterr().out == f"would remove  {line(OWL).decode()}"
    assert await asyncio.to_thread(run, ["astroport", "keys", "--remove"]) == 0
    assert file.read_bytes() == b""


async def test_more_authors_than_one_filter_takes(relay: str) -> None:
    now = int(time.time())
    names = [f"n{number}" for number in range(520)]
    await put(relay, *(report(f"12D3KooW{name}", author(name), at=now) for name in names[:3] + names[-3:]))
    found = await station_events(relay, [author(name).public_key.hex() for name in names], now - 60)
    assert len(found) == 6


async def test_a_relay_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(LocalError, match="does not answer"):
            await station_events(f"ws://127.0.0.1:{taken.getsockname()[1]}", ["0" * 64], 0)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (["{"], "no NOSTR relay"),
        (['["CLOSED","dragon-keys","restricted: no"]'], "refused"),
        (['["NOTICE","x"]'] * (2 * MAX_EVENTS), "does not come to an end"),
        (["x" * 200_000], "ended the answer"),
        ([], "ended the answer"),
    ],
)
async def test_a_relay_that_does_not_behave(said: list[str], told: str) -> None:
    from aiohttp import web

    async def answer(request: web.Request) -> web.WebSocketResponse:
        relay = web.WebSocketResponse()
        await relay.prepare(request)
        await relay.receive()
        for each in said:
            await relay.send_str(each)
        await relay.close()
        return relay

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"ws://127.0.0.1:{runner.addresses[0][1]}/"
        async with asyncio.timeout(30):
            with pytest.raises(LocalError, match=told):
                await station_events(url, ["0" * 64], 0)
    finally:
        await runner.cleanup()

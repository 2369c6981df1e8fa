"""The control API over its real Unix socket: shapes, errors, limits, watches, and the door that faces browsers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from dragon import errors
from dragon.api import serve_api
from dragon.api.watch import BURST
from dragon.config import ApiSettings
from dragon.home import Home
from tests.testbed.backend import PlainBackend, a_peer, api


def over_socket(home: Home) -> aiohttp.ClientSession:
    return aiohttp.ClientSession("http://dragon", connector=aiohttp.UnixConnector(str(home.control_socket)))


async def ask(home: Home, method: str, path: str, **options: Any) -> tuple[int, Any]:
    async with over_socket(home) as session, session.request(method, path, **options) as response:
        assert response.content_type == "application/json"
        return response.status, await response.json()


@pytest.mark.parametrize(
    ("method", "path", "body", "asked"),
    [
        ("GET", "/v1/status", None, ("status",)),
        ("GET", "/v1/peers", None, ("peers",)),
        ("POST", "/v1/refresh", {}, ("refresh",)),
        ("GET", "/v1/services", None, ("services", None)),
        ("GET", "/v1/services/ollama", None, ("services", "ollama")),
        ("GET", "/v1/forwards", None, ("forwards",)),
        ("POST", "/v1/forwards", {"slug": "ollama"}, ("forward", "ollama", "auto", {}, None, False, None, False)),
        (
            "POST",
            "/v1/forwards",
            {"slug": "ollama", "target": "2", "where": {"gpu": "x"}, "via": "p2p", "spread": True, "port": 9, "raw": True},
            ("forward", "ollama", "2", {"gpu": "x"}, "p2p", True, 9, True),
        ),
        (
            "POST",
            "/v1/forwards",
            {"slug": "ollama", "strategy": "first"},
            ("forward", "ollama", "auto", {}, None, False, None, False, "first"),
        ),
        ("DELETE", "/v1/forwards", None, ("off", None)),
        ("DELETE", "/v1/forwards/ollama", None, ("off", "ollama")),
        ("DELETE", "/v1/forwards/ollama?port=11434", None, ("off", "ollama", 11434)),
        ("GET", "/v1/explain/ollama", None, ("explain", "ollama")),
        ("GET", "/v1/env/ollama", None, ("env", "ollama")),
        ("GET", "/v1/doctor", None, ("doctor",)),
        ("POST", "/v1/doctor", {"fix": ["pubsub"]}, ("repair", ("pubsub",))),
        ("POST", "/v1/offering", {"on": False}, ("offering", False)),
        ("POST", "/v1/reload", {}, ("reload",)),
    ],
)
async def test_every_route_asks_the_backend_once(home: Home, method: str, path: str, body: Any, asked: tuple[Any, ...]) -> None:
    backend = PlainBackend()
    async with api(home, backend):
        status, _ = await ask(home, method, path, **({} if body is None else {"json": body}))
    assert status == 200
    assert backend.asked == [asked]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (errors.UnknownService("a", "b"), 404, 2),
        (errors.AmbiguousNode("a", "b"), 409, 2),
        (errors.UsageError("a", "b"), 400, 2),
        (errors.ConfigError("a", "b"), 422, 2),
        (errors.NoProvider("a", "b"), 503, 4),
        (errors.PortInUse("a", "b"), 409, 1),
        (errors.KuboUnreachable("a", "b"), 500, 1),
    ],
)
async def test_expected_failures_arrive_as_json(home: Home, failure: errors.LocalError, status: int, code: int) -> None:
    backend = PlainBackend()
    backend.failure = failure
    async with api(home, backend):
        answer = await ask(home, "GET", "/v1/peers")
        watched = await ask(home, "GET", "/v1/peers?watch=1")
    assert answer == watched
    assert answer == (status, {"error": "a", "hint": "b", "exit_code": code, "kind": type(failure).__name__})


async def test_a_peers_failure_is_no_fault_of_the_request(home: Home) -> None:
    backend = PlainBackend()
    backend.failure = errors.PeerUnreachable("gone")
    async with api(home, backend):
        status, told = await ask(home, "GET", "/v1/peers")
    assert (status, told["error"], told["exit_code"]) == (502, "gone", 1)


async def test_an_unexpected_failure_is_logged_and_told_without_details(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    backend = PlainBackend()
    backend.failure = ZeroDivisionError("secret detail")
    async with api(home, backend):
        status, told = await ask(home, "GET", "/v1/peers")
    assert status == 500
    assert "secret" not in json.dumps(told)
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "options", "status"),
    [
        ("GET", "/", {}, 404),
        ("GET", "/v1/nothing", {}, 404),
        ("PUT", "/v1/peers", {}, 405),
        ("GET", "/v1/peers?watch=maybe", {}, 400),
        ("GET", "/v1/services/Not%20a%20slug", {}, 400),
        ("GET", "/v1/services/..%2f..%2fetc", {}, 400),
        ("GET", f"/v1/explain/{'x' * 33}", {}, 400),
        ("DELETE", "/v1/forwards/%1b%5b31m", {}, 400),
        ("POST", "/v1/forwards", {"data": b"{"}, 400),
        ("POST", "/v1/forwards", {"data": b"[" * 50_000}, 400),
        ("POST", "/v1/forwards", {"data": b"\xff"}, 400),
        ("POST", "/v1/forwards", {"data": b"[]"}, 400),
        ("POST", "/v1/forwards", {"json": {}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "Ollama"}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "port": 0}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "port": 65536}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "port": "80"}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "target": ""}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "target": "x" * 129}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "via": "carrier pigeon"}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "where": {str(n): "x" for n in range(1000)}}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "surprise": 1}}, 400),
        ("POST", "/v1/forwards", {"json": {"slug": "ollama", "strategy": "cheapest"}}, 400),
        ("DELETE", "/v1/forwards/ollama?port=0", {}, 400),
        ("DELETE", "/v1/forwards?port=1e3", {}, 400),
        ("GET", "/v1/check/ollama?port=99999999999999999999", {}, 400),
        ("GET", "/v1/check/ollama?via=p2p", {}, 400),
        ("POST", "/v1/forwards", {"data": b" " * 70_000}, 413),
        ("POST", "/v1/doctor", {"json": {"fix": ["x"] * 1000}}, 400),
    ],
)
async def test_bad_requests_are_refused_before_the_backend(
    home: Home, method: str, path: str, options: dict[str, Any], status: int
) -> None:
    backend = PlainBackend()
    async with api(home, backend):
        answered, told = await ask(home, method, path, **options)
    assert answered == status
    assert told["exit_code"] == 2
    assert set(told) >= {"error", "hint"}
    assert backend.asked == []


async def next_line(response: aiohttp.ClientResponse) -> Any:
    async with asyncio.timeout(30):
        return json.loads(await response.content.readline())


async def test_a_watch_tells_the_state_and_then_every_change(home: Home) -> None:
    backend = PlainBackend()
    async with api(home, backend), over_socket(home) as session, session.get("/v1/peers?watch=1") as response:
        assert [peer["alias"] for peer in await next_line(response)] == ["alpha", "beta"]
        backend.known_peers = [{**peer, "last_seen": 9.0, "sequence": 2, "rtt_ms": 7.0} for peer in backend.known_peers]
        backend.change()  # nothing but time went by: no line
        for _ in range(50):
            await asyncio.sleep(0)
        backend.known_peers = [a_peer(alias="gamma")]
        backend.change()
        assert [peer["alias"] for peer in await next_line(response)] == ["gamma"]


async def test_a_watch_tells_a_few_changes_at_once_and_then_rests(home: Home) -> None:
    backend = PlainBackend()
    async with (
        serve_api(backend, home, pace=1000.0),
        over_socket(home) as session,
        session.get("/v1/peers?watch=1") as response,
    ):
        await next_line(response)
        for number in range(1, BURST + 5):
            backend.known_peers = [a_peer(alias=f"a{number}")]
            backend.change()
            if number < BURST:
                assert [peer["alias"] for peer in await next_line(response)] == [f"a{number}"]
            else:
                await ask(home, "GET", "/v1/version")  # the node goes on meanwhile
        assert backend.asked == [("peers",)] * BURST


async def test_a_watch_ends_with_its_reader(home: Home) -> None:
    backend = PlainBackend()
    async with api(home, backend):
        async with over_socket(home) as session, session.get("/v1/peers?watch=1") as response:
            await next_line(response)
            assert len(backend.listeners) == 1
        async with asyncio.timeout(30):
            await backend.left.wait()
        assert backend.listeners == []


async def test_watches_end_with_the_node(home: Home) -> None:
    backend = PlainBackend()
    async with over_socket(home) as session:
        async with api(home, backend):
            response = await session.get("/v1/forwards?watch=1")
            assert await next_line(response) == []
        async with asyncio.timeout(30):
            assert await response.content.read() == b""
        response.close()


async def test_the_number_of_watches_is_bounded(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dragon.api.watch.MAX_WATCHERS", 1)
    async with api(home, PlainBackend()), over_socket(home) as session, session.get("/v1/peers?watch=1") as first:
        await next_line(first)
        status, told = await ask(home, "GET", "/v1/peers?watch=1")
        assert status == 429
        assert told["hint"]


async def test_tcp_is_off_unless_asked_for(home: Home) -> None:
    async with api(home, PlainBackend()) as doors:
        assert doors.port is None
    assert not (home.root / "api.token").exists()


async def test_over_tcp_the_token_the_host_and_the_origin_are_checked(home: Home) -> None:
    backend = PlainBackend()
    async with api(home, backend, ApiSettings(tcp=0)) as doors, aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{doors.port}/v1/peers"
        good = {"Authorization": f"Bearer {(home.root / 'api.token').read_text().strip()}"}
        for headers, expected in (
            ({}, 401),
            ({**good, "Host": "evil.example"}, 421),
            ({**good, "Origin": "http://evil.example"}, 403),
            (good, 200),
        ):
            async with session.get(url, headers=headers) as response:
                assert response.status == expected
                if expected != 200:
                    assert backend.asked == []
                    assert set(await response.json()) >= {"error", "hint"}
        async with session.post(url.replace("peers", "forwards"), headers=good, data=b'{"slug":"ollama"}') as response:
            assert response.status == 415

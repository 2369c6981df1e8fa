"""The API test against real services: what passes, what fails, and how it says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dragon.probe import CatalogueEntry, apitest, load_catalogue
from tests.testbed.fixtures_services import StartService

CATALOGUE = load_catalogue()


async def test_ollama_tells_its_models(http_service: StartService) -> None:
    service = http_service(name="ollama", models=["llama3.2:latest", "mistral:7b"])
    result = await apitest.test_service(CATALOGUE.get("ollama"), "127.0.0.1", service.port, timeout=30)
    assert (result.ok, result.health, result.detail) == (True, "passing", "GET /api/tags → 200")
    assert result.labels == {"model": "llama3.2:latest", "model.2": "mistral:7b"}
    assert result.rtt > 0


@pytest.mark.parametrize(
    ("slug", "status", "ok"),
    [
        ("ollama", 200, True),
        ("ollama", 204, False),
        ("ollama", 500, False),
        ("strfry", 204, True),
        ("strfry", 404, False),
        ("dify", 302, True),
        ("dify", 301, False),
        ("qdrant", 204, True),
    ],
)
async def test_accepted_codes(http_service: StartService, slug: str, status: int, ok: bool) -> None:
    service = http_service(status=status)
    result = await apitest.test_service(CATALOGUE.get(slug), "127.0.0.1", service.port, timeout=30)
    assert result.ok is ok
    assert str(status) in result.detail


async def test_a_relay_shows_its_document(http_service: StartService) -> None:
    relay = http_service(name="strfry")
    assert (await apitest.test_service(CATALOGUE.get("strfry"), "127.0.0.1", relay.port, timeout=30)).ok
    other = http_service(name="strfry", paths=["/other"])
    result = await apitest.test_service(CATALOGUE.get("strfry"), "127.0.0.1", other.port, timeout=30)
    assert (result.ok, result.detail) == (False, "GET / → 404")


async def test_ssh_by_its_banner(http_service: StartService, tcp_service: StartService) -> None:
    ssh = CATALOGUE.get("ssh")
    banner = tcp_service("ssh", name="OpenSSH")
    result = await apitest.test_service(ssh, "127.0.0.1", banner.port, timeout=30)
    assert (result.ok, result.detail) == (True, "SSH-2.0-OpenSSH_1.0")
    source = tcp_service("source")  # megabytes without a line
    assert not (await apitest.test_service(ssh, "127.0.0.1", source.port, timeout=30)).ok


async def test_a_connection_is_enough_where_nothing_else_is_known(tcp_service: StartService) -> None:
    echo = tcp_service("echo")
    assert (await apitest.test_service(CatalogueEntry("x", 1), "127.0.0.1", echo.port, timeout=30)).ok


async def test_what_hangs_fails_in_time(tcp_service: StartService) -> None:
    silent = tcp_service("silent")
    result = await apitest.test_service(CATALOGUE.get("ollama"), "127.0.0.1", silent.port, timeout=0.2)
    assert (result.ok, result.timed_out, result.connected, result.detail) == (False, True, True, "no answer within 0.2 s")


@pytest.mark.parametrize("slug", ["ollama", "ssh", "duniter-g1"])
async def test_a_closed_port_is_told_from_a_failing_service(tcp_service: StartService, slug: str) -> None:
    service = tcp_service("echo")
    service.kill()
    result = await apitest.test_service(CATALOGUE.get(slug), "127.0.0.1", service.port, timeout=30)
    assert (result.ok, result.connected) == (False, False)
    assert result.detail.startswith("no connection")


async def test_what_does_not_speak_http_fails(tcp_service: StartService) -> None:
    for kind in ("source", "ssh", "echo"):
        service = tcp_service(kind)
        result = await apitest.test_service(CATALOGUE.get("ollama"), "127.0.0.1", service.port, timeout=5)
        assert (result.ok, result.connected) == (False, True), kind


async def test_a_body_without_end_passes_by_its_head(http_service: StartService) -> None:
    service = http_service()
    endless = replace(CATALOGUE.get("icecast"), test="/bytes/50000000")
    result = await apitest.test_service(endless, "127.0.0.1", service.port, timeout=30)
    assert result.ok


@pytest.mark.parametrize(
    ("body", "labels"),
    [
        (b'{"models": [{"name": "a"}, {"name": "b"}]}', {"model": "a", "model.2": "b"}),
        (b'{"models": []}', {}),
        (b'{"models": {"name": "a"}}', {}),
        (b'{"models": [{"name": null}, {"name": ["x"]}, 3, {"name": "a\\u001b[0m"}, {"name": "ok"}]}', {"model": "ok"}),
        (b"[]", {}),
        (b"<html>", {}),
        (b"\xff\xfe", {}),
        (b"", {}),
    ],
)
def test_labels_out_of_an_answer(body: bytes, labels: dict[str, str]) -> None:
    assert apitest.read_labels({"model": "models.*.name"}, body) == labels
    assert apitest.read_labels({}, body) == {}

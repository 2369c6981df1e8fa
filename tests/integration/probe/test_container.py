"""Containers of a real Docker daemon as evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.integration.probe.conftest import PATIENT, catalogue, prober, watching
from tests.testbed.docker import DockerDaemon

FreePort = Callable[[], int]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def docker(dockerd: DockerDaemon, monkeypatch: pytest.MonkeyPatch) -> Iterator[DockerDaemon]:
    monkeypatch.setenv("DOCKER_HOST", dockerd.host)
    yield dockerd
    dockerd.remove_all()


@pytest.mark.parametrize(
    ("name", "image"),
    [("orpheus", None), ("x-orpheus-1", None), ("voice", "ghcr.io/somebody/orpheus-fastapi:latest")],
)
async def test_a_container_named_orpheus_is_offered(
    docker: DockerDaemon, unused_port: FreePort, name: str, image: str | None
) -> None:
    port = unused_port()
    looking = prober(catalogue({"orpheus": port}))
    await asyncio.to_thread(docker.run, name, port=port, **({"image": image} if image else {}))
    async with watching(looking) as watched:
        finding = await watched.until_found("orpheus")
        assert f"container {name}" in finding.because
        await asyncio.to_thread(docker.remove, name)
        await watched.until_gone("orpheus")


async def test_an_open_port_without_the_container_is_no_orpheus(docker: DockerDaemon, unused_port: FreePort) -> None:
    port = unused_port()
    await asyncio.to_thread(docker.run, "something-else", port=port)
    survey = await prober(catalogue({"orpheus": port})).survey()
    assert survey.refused["orpheus"] == "no container orpheus"


async def test_perplexica_and_vane_are_one_program_under_two_ports(docker: DockerDaemon, unused_port: FreePort) -> None:
    """Whichever name the container has, each port is one offer, and either name leads to it (`Catalogue.slugs_for`)."""
    old, new = unused_port(), unused_port()
    found = catalogue({"perplexica": old, "vane": new})
    await asyncio.to_thread(docker.run, "perplexica", port=new)
    survey = await prober(found).survey()
    assert [(each.slug, each.port, each.health) for each in survey.found] == [("vane", new, "passing")]
    assert "vane" in found.slugs_for("perplexica")


async def test_an_engine_that_hangs_withdraws_nothing(docker: DockerDaemon, unused_port: FreePort) -> None:
    port = unused_port()
    await asyncio.to_thread(docker.run, "orpheus", port=port)
    looking = prober(catalogue({"orpheus": port}), patience=1.0)
    async with asyncio.timeout(PATIENT):  # the engine may need longer than that on a busy machine
        while not (await looking.survey()).found:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    with docker.frozen():
        survey = await looking.survey()
        assert [(each.slug, each.health) for each in survey.found] == [("orpheus", "passing")]
        assert any("gave no answer within" in limit for limit in looking.limits())


async def test_a_socket_that_is_not_there_is_stated(monkeypatch: pytest.MonkeyPatch, unused_port: FreePort) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    port = unused_port()
    looking = prober(catalogue({"orpheus": port}, {"orpheus": {"evidence": ["always", "docker:orpheus"]}}))
    await looking.survey()
    assert looking.limits() == [] or all("containers are not seen" in each for each in looking.limits())

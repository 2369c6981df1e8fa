"""The prober on real processes and sockets: found quickly, withdrawn at once, never a tunnel."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from itertools import pairwise

import pytest

from dragon.clock import SystemClock
from dragon.probe import Prober
from tests.integration.probe.conftest import catalogue, prober, watching
from tests.testbed.fixtures_services import StartService
from tests.testbed.kubo import KuboDaemon
from tests.testbed.sshd import SshServer

FreePort = Callable[[], int]

pytestmark = pytest.mark.timeout(180)


async def test_a_process_named_ollama_is_found_with_its_models(http_service: StartService, unused_port: FreePort) -> None:
    port = unused_port()
    looking = prober(catalogue({"ollama": port}))
    assert (await looking.survey()).refused["ollama"] == f"nothing listens on port {port}"
    http_service(name="ollama", port=port, models=["llama3.2:latest", "mistral:7b"])
    survey = await looking.survey()
    (finding,) = survey.found
    assert (finding.slug, finding.port, finding.health, finding.load) == ("ollama", port, "passing", 0)
    assert finding.labels == {"model": "llama3.2:latest", "model.2": "mistral:7b"}
    assert "process ollama" in finding.because


async def test_the_port_alone_is_no_ollama(http_service: StartService, unused_port: FreePort) -> None:
    port, name = unused_port(), f"oll-{os.getpid()}"  # a name that no parallel test's process has
    looking = prober(catalogue({"ollama": port}, {"ollama": {"evidence": [f"process:{name}"]}}))
    http_service(name="webserver", port=port, models=["llama3.2:latest"])
    assert (await looking.survey()).refused["ollama"] == f"no process {name}"
    http_service(name=name)
    assert (await looking.survey()).found[0].slug == "ollama"


async def test_watch_sees_starts_stops_and_moves(http_service: StartService, unused_port: FreePort) -> None:
    port = unused_port()
    async with watching(prober(catalogue({"ollama": port}), interval=3600)) as watched:
        first = await watched.until(lambda survey: True)
        assert first.found == ()
        service = http_service(name="ollama", port=port, models=["a"])
        assert (await watched.until_found("ollama")).labels == {"model": "a"}
        service.kill()
        gone = await watched.until_gone("ollama")
        assert gone.refused["ollama"] == f"nothing listens on port {port}"
        http_service(name="ollama", port=port, models=["b"])
        assert (await watched.until_found("ollama")).labels == {"model": "b"}
        assert all(one.differs(following) for one, following in pairwise(watched.surveys)), "told only when it differs"


async def test_what_answers_late_is_asked_again(http_service: StartService, unused_port: FreePort) -> None:
    """Programs open their port before they can answer; a hanging neighbour does not hide another one."""
    slow, quick = unused_port(), unused_port()
    http_service(name="slowpoke", port=slow, delay=1.5)
    own = {"slowpoke": {"port": slow, "test": "/", "evidence": ["process:slowpoke"]}}
    async with watching(prober(catalogue({"ollama": quick}, own), interval=3600)) as watched:
        await watched.until_found("slowpoke")
        http_service(name="ollama", port=quick)
        await watched.until_found("ollama")


async def test_a_failing_service_is_warning_then_critical_then_passing_again(
    http_service: StartService, unused_port: FreePort
) -> None:
    port = unused_port()
    service = http_service(name="ollama", port=port)
    looking = prober(catalogue({"ollama": port}), interval=0.5, patience=1.0)
    async with watching(looking) as watched:
        await watched.until_found("ollama")
        offered = len(watched.surveys)
        service.freeze()  # listens, but does not answer
        await watched.until_found("ollama", "warning")
        await watched.until_found("ollama", "critical")
        service.thaw()
        await watched.until_found("ollama")
        assert all(survey.found for survey in watched.surveys[offered:]), "never withdrawn while its port was open"


async def test_a_service_made_private_is_withdrawn_without_a_socket_changing(
    http_service: StartService, unused_port: FreePort
) -> None:
    port = unused_port()
    http_service(name="ollama", port=port)
    async with watching(prober(catalogue({"ollama": port}), interval=3600)) as watched:
        await watched.until_found("ollama")
        watched.prober.replace_catalogue(catalogue({"ollama": port}, also_private="qdrant ollama"))
        gone = await watched.until_gone("ollama")
        assert gone.refused["ollama"].startswith("private")
        assert not watched.prober.latest.found
        watched.prober.replace_catalogue(catalogue({"ollama": port}))
        await watched.until_found("ollama")


async def test_a_port_that_becomes_excluded_is_withdrawn(http_service: StartService, unused_port: FreePort) -> None:
    """Kubo's forwards come this way: no tunnel of a tunnel."""
    port = unused_port()
    http_service(name="ollama", port=port)
    excluded: set[int] = set()
    async with watching(prober(catalogue({"ollama": port}), excluded=lambda: frozenset(excluded), interval=3600)) as watched:
        await watched.until_found("ollama")
        excluded.add(port)
        gone = await watched.until_gone("ollama")
        assert "is a tunnel, or belongs to Dragon" in gone.refused["ollama"]


@pytest.mark.parametrize("direction", ["-L", "-R"])
async def test_a_port_held_by_ssh_is_never_offered(
    sshd: SshServer, http_service: StartService, unused_port: FreePort, direction: str
) -> None:
    behind = http_service(name="ollama", models=["theirs"])
    port = await asyncio.to_thread(sshd.tunnel, behind.port, direction=direction)
    survey = await prober(catalogue({"ollama": port, "strfry": port})).survey()
    assert survey.found == ()
    for slug in ("ollama", "strfry"):
        assert "is a tunnel (held by ssh" in survey.refused[slug]


@pytest.mark.parametrize("name", ["ipfs", "dragon"])
async def test_ports_of_kubo_and_dragon_are_never_offered(http_service: StartService, name: str) -> None:
    service = http_service(name=name)
    survey = await prober(catalogue({"strfry": service.port})).survey()
    assert survey.refused["strfry"] == f"port {service.port} is a tunnel (held by {name}, pid {service.pid})"


async def test_a_forward_of_a_real_kubo_is_never_offered(
    kubos: tuple[KuboDaemon, KuboDaemon, KuboDaemon], http_service: StartService, unused_port: FreePort
) -> None:
    """Seen by who holds it; where that cannot be read, by the ports that Kubo itself lists (`excluded_ports`)."""
    consumer, provider, _ = kubos
    port, service = unused_port(), http_service(name="ollama")
    name = f"/x/ollama-{provider.node_id}-{port}"
    address = f"/ip4/127.0.0.1/tcp/{port}"
    await asyncio.to_thread(provider.ipfs, "p2p", "listen", name, f"/ip4/127.0.0.1/tcp/{service.port}")
    try:
        await asyncio.to_thread(consumer.ipfs, "p2p", "forward", name, address, f"/p2p/{provider.node_id}")
        found = catalogue({"ollama": port})
        assert "is a tunnel (held by ipfs" in (await prober(found).survey()).refused["ollama"]
        excluding = prober(found, excluded=lambda: frozenset({port}))
        assert "is a tunnel, or belongs to" in (await excluding.survey()).refused["ollama"]
    finally:
        await asyncio.to_thread(consumer.ipfs, "p2p", "close", "--listen-address", address)
        await asyncio.to_thread(provider.ipfs, "p2p", "close", "--protocol", name)


async def test_our_own_processes_ports_are_never_offered(http_service: StartService) -> None:
    service = http_service(name="whatever")
    ours = Prober(
        catalogue({"strfry": service.port}),
        clock=SystemClock(),
        excluded_ports=frozenset,
        own_pids=lambda: frozenset({service.pid}),
    )
    assert (await ours.survey()).refused["strfry"] == f"port {service.port} is our own"


async def test_a_real_sshd_is_found_by_its_banner(sshd: SshServer) -> None:
    survey = await prober(catalogue({"ssh": sshd.port})).survey()
    (finding,) = survey.found
    assert (finding.slug, finding.port, finding.health) == ("ssh", sshd.port, "passing")
    assert "SSH-2.0-OpenSSH" in finding.because


async def test_one_port_is_one_offer_for_real(http_service: StartService) -> None:
    service = http_service(name="ollama")
    survey = await prober(catalogue({"strfry": service.port, "ollama": service.port})).survey()
    assert [each.slug for each in survey.found] == ["ollama"], "evidence that names the service outranks an open port"
    assert survey.refused["strfry"] == f"port {service.port} is offered as ollama"


async def test_a_listener_on_another_address_is_not_ours_to_offer(http_service: StartService) -> None:
    service = http_service(name="ollama", host="127.0.0.2")
    survey = await prober(catalogue({"ollama": service.port})).survey()
    assert survey.refused["ollama"] == f"port {service.port} listens on 127.0.0.2 only, not on 127.0.0.1"

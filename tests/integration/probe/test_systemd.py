"""Units of a real systemd as evidence, seen as the system's and as the user's manager."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.probe.conftest import PATIENT, catalogue, prober, watching
from tests.testbed import services
from tests.testbed.systemd import SystemdUser

FreePort = Callable[[], int]

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(params=["user manager", "system manager"])
def systemd(
    request: pytest.FixtureRequest, systemd_user: SystemdUser, monkeypatch: pytest.MonkeyPatch
) -> Iterator[SystemdUser]:
    if request.param == "user manager":
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(systemd_user.runtime))
    else:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("PATH", f"{systemd_user.bin}:{os.environ['PATH']}")
    yield systemd_user
    systemd_user.stop("comfyui.service")


def server(port: int) -> str:
    return f"ExecStart={sys.executable} -I -S {Path(services.__file__).resolve()} --detached --name comfyui --port {port}"


async def test_an_active_unit_is_offered_and_a_stopped_one_is_not(systemd: SystemdUser, unused_port: FreePort) -> None:
    port = unused_port()
    async with watching(prober(catalogue({"comfyui": port}), interval=3600)) as watched:
        await watched.until(lambda survey: True)
        await asyncio.to_thread(systemd.start, "comfyui.service", server(port))
        finding = await watched.until_found("comfyui")
        assert "unit comfyui.service is active" in finding.because
        await asyncio.to_thread(systemd.stop, "comfyui.service")
        await watched.until_gone("comfyui")


async def test_an_open_port_without_the_unit_is_no_comfyui(systemd: SystemdUser, unused_port: FreePort) -> None:
    port = unused_port()
    await asyncio.to_thread(systemd.start, "other.service", server(port))
    try:
        looking = prober(catalogue({"comfyui": port}))
        async with asyncio.timeout(PATIENT):
            while "nothing listens" in (survey := await looking.survey()).refused["comfyui"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert survey.found == ()
        assert "unit comfyui.service is inactive" in survey.refused["comfyui"]
    finally:
        await asyncio.to_thread(systemd.stop, "other.service")

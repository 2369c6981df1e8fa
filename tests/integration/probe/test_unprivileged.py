"""A node without privileges beside other users' services: what it cannot read it says, and it still offers no tunnel."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.testbed.fixtures_services import StartService
from tests.testbed.sshd import SshServer

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to have services of another user beside an unprivileged node"),
]

NOBODY = 65534

PROGRAM = """
import asyncio, json, os, sys
from tests.integration.probe.conftest import catalogue, prober

async def main(ports):
    looking = prober(catalogue(ports))
    await looking.survey()          # everything is imported: the source tree need not be readable to nobody
    os.setgroups([]); os.setgid({nobody}); os.setuid({nobody})
    survey = await looking.survey()
    print(json.dumps([{{each.slug: each.health for each in survey.found}}, dict(survey.refused), looking.limits()]))

asyncio.run(main(json.loads(sys.argv[1])))
"""


def survey_as_nobody(ports: dict[str, int]) -> tuple[dict[str, str], dict[str, str], list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(nobody=NOBODY), json.dumps(ports)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found, refused, limits = json.loads(done.stdout)
    return found, refused, limits


async def test_other_users_services_are_offered_and_their_tunnels_are_not(
    sshd: SshServer, http_service: StartService, unused_port: Callable[[], int]
) -> None:
    service = http_service(name="ollama")
    tunnel = await asyncio.to_thread(sshd.tunnel, service.port)
    found, refused, limits = await asyncio.to_thread(survey_as_nobody, {"ollama": service.port, "strfry": tunnel})
    assert found == {"ollama": "passing"}
    assert f"port {tunnel} is a tunnel (named by ssh" in refused["strfry"]
    assert len(limits) == 1
    assert "cannot be read without privileges" in limits[0]
    for port in (service.port, tunnel):
        assert str(port) in limits[0]

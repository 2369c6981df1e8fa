"""pytest fixtures: real services (docker, systemd, sshd, HTTP). Whatever they start ends with the test, also a failed one."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.docker import DockerDaemon
from tests.testbed.packages import program
from tests.testbed.ports import free_port
from tests.testbed.services import RunningService, start_service
from tests.testbed.sshd import SshServer
from tests.testbed.systemd import SystemdUser

StartService = Callable[..., RunningService]


@pytest.fixture
def http_service(tmp_path: Path) -> Iterator[StartService]:
    """`http_service(name="ollama", models=[…], port=0, delay=…, status=…, paths=[…])` → a running HTTP service."""
    with contextlib.ExitStack() as stack:
        count = iter(range(1_000_000))

        def start(**options: Any) -> RunningService:
            return stack.enter_context(start_service("http", home=tmp_path / f"s{next(count)}", **options))

        yield start


@pytest.fixture
def tcp_service(tmp_path: Path) -> Iterator[StartService]:
    """`tcp_service("echo" | "ssh" | "silent" | "source", name=…, port=0)` → a running service of that kind."""
    with contextlib.ExitStack() as stack:
        count = iter(range(1_000_000))

        def start(kind: str, **options: Any) -> RunningService:
            return stack.enter_context(start_service(kind, home=tmp_path / f"t{next(count)}", **options))

        yield start


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """`unused_port()` → a loopback port that nobody listens on."""
    return free_port


def _needs(what: str, *programs: str, root: bool) -> None:
    """Skip, saying why, where a real part cannot run. On a root Debian nothing is skipped (`make system` installs them)."""
    if sys.platform != "linux":
        pytest.skip(f"{what}: needs Linux, this is {sys.platform}")
    if root and os.geteuid() != 0:
        pytest.skip(f"{what}: needs root")
    if missing := [name for name in programs if program(name) is None]:
        pytest.skip(
            f"{what}: {', '.join(missing)} not installed (python -m tests.testbed.packages installs it as root on Debian)"
        )


@pytest.fixture(scope="session")
def dockerd() -> Iterator[DockerDaemon]:
    """A real Docker daemon: `dockerd.run("orpheus", port=…)`, `dockerd.remove("orpheus")`, `dockerd.host`."""
    _needs("real containers", "dockerd", "docker", "busybox", root=True)
    with DockerDaemon() as daemon:
        yield daemon


@pytest.fixture(scope="session")
def systemd_user() -> Iterator[SystemdUser]:
    """A real, confined systemd: `systemd_user.start("comfyui.service", "ExecStart=…")`, `.stop(…)`, `.runtime`, `.bin`."""
    _needs("real systemd units", "systemd", "systemctl", "nsenter", "unshare", root=True)
    with SystemdUser() as manager:
        yield manager


@pytest.fixture
def ssh_host() -> Iterator[Callable[..., SshServer]]:
    """`ssh_host(addresses=("::1", "127.0.0.1"), options=["AllowTcpForwarding no"])` → a real sshd of the test's own."""
    _needs("a real sshd", "sshd", "ssh-keygen", root=True)
    with contextlib.ExitStack() as stack:
        yield lambda **options: stack.enter_context(SshServer(**options))


@pytest.fixture(scope="session")
def sshd() -> Iterator[SshServer]:
    """A real sshd on loopback: `sshd.port`, `sshd.tunnel(remote_port)` → the local port of a real `ssh -L`."""
    _needs("a real sshd", "sshd", "ssh", "ssh-keygen", root=True)
    with SshServer() as server:
        yield server

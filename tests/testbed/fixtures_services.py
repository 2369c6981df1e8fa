"""pytest fixtures: real services (docker, systemd, sshd, HTTP). Whatever they start ends with the test, also a failed one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.testbed.services import RunningService, start_service

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

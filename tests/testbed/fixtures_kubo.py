"""pytest fixtures: real Kubo daemons."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dragon.home import Home
from dragon.kubo.binary import find
from tests.testbed.kubo import KuboDaemon


@pytest.fixture(scope="session")
def kubo_binary() -> Path:
    """The Kubo binary of this machine, found as the product finds it; `make kubo` provides it."""
    binary = find(Home.locate())
    if binary is None:
        pytest.fail("no Kubo binary on this machine: run `make kubo` first")
    return binary


@pytest.fixture(scope="session")
def kubos(kubo_binary: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[KuboDaemon, KuboDaemon, KuboDaemon]]:
    """Three connected daemons that live as long as the session: leave them as you found them, never stop them."""
    folder = tmp_path_factory.mktemp("kubos")
    daemons = [KuboDaemon(kubo_binary, folder / f"k{number}") for number in range(3)]
    try:
        for daemon in daemons:
            daemon.start()
        for daemon in daemons[1:]:
            daemon.connect(daemons[0])
        daemons[1].connect(daemons[2])
        yield daemons[0], daemons[1], daemons[2]
    finally:
        for daemon in daemons:
            daemon.stop()


@pytest.fixture
def kubo_factory(kubo_binary: Path, tmp_path: Path) -> Iterator[Callable[..., KuboDaemon]]:
    """Make daemons of this test's own, to be stopped, killed and frozen at will: `kubo_factory()` starts one.

    `start=False` only prepares it; `features=False` leaves Kubo's own defaults; `changes` are laid over the config.
    """
    daemons: list[KuboDaemon] = []

    def make(*, start: bool = True, **options: Any) -> KuboDaemon:
        daemon = KuboDaemon(kubo_binary, tmp_path / f"kubo{len(daemons)}", **options)
        daemons.append(daemon)
        return daemon.start() if start else daemon

    yield make
    for daemon in daemons:
        daemon.stop()

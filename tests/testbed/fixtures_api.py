"""The fixtures of a node's control API: a home with a short runtime folder, and a node's answers on its socket."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragon.home import Home
from tests.testbed.backend import ServedBackend, served


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home of its own, which is also what DRAGON_HOME says; its sockets lie in a short folder (paths end at 108 bytes)."""
    runtime = tempfile.mkdtemp(prefix="drt-")
    monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    monkeypatch.setenv("DRAGON_HOME", str(tmp_path))
    yield Home(tmp_path)
    shutil.rmtree(runtime)


@pytest.fixture
def node(home: Home) -> Iterator[ServedBackend]:
    with served(home) as running:
        yield running


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that sets up the log of its process leaves that of the next test alone."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("dragon", "registry_schema")]
    handlers, levels = root.handlers[:], [logger.level for logger in (root, *ours)]
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, *ours), levels, strict=True):
        logger.setLevel(level)

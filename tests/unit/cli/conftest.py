"""Commands are tested against plain answers behind a node's real control API."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.testbed.fixtures_api import home, node

__all__ = ["home", "node"]


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A command that sets up the log of its process leaves that of the next test alone."""
    root, ours = logging.getLogger(), [logging.getLogger(name) for name in ("dragon", "registry_schema")]
    handlers, levels = root.handlers[:], [logger.level for logger in (root, *ours)]
    yield
    root.handlers[:] = handlers
    for logger, level in zip((root, *ours), levels, strict=True):
        logger.setLevel(level)

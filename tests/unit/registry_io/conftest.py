"""Every test here ends with a loop that has closed what was aborted last."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.testbed.loops import drained


@pytest.fixture(autouse=True)
async def loop_comes_to_rest() -> AsyncIterator[None]:
    """Instantiated first, hence torn down last: after every server and connection of the test."""
    yield
    await drained()

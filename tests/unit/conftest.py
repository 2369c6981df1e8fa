"""For every test of pure code: whoever blocks the event loop fails the test that sees it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

BLOCK = ("os.read", "os.write", "os.sendfile")
"""What of `os` waits for a disk or a peer. All else there is a step with a file's name: microseconds, a hundredth of the way to
a thread and back."""

FIRST = {"dragon/home.py": {"prepare"}, "dragon/api/sockets.py": {"api_token"}, "dragon/probe/catalogue.py": {"_shipped"}}
"""Functions that write or read a few bytes once, before the node serves anybody."""


@pytest.fixture(scope="package", autouse=True)
def nothing_blocks_the_loop() -> Iterator[None]:
    """Reading, writing, waiting, connecting and asking a database belong into threads, wherever `dragon` does them."""
    with blockbuster_ctx(["dragon", "registry_schema"]) as guard:
        for name, function in guard.functions.items():
            if name.startswith("os.") and name not in BLOCK:
                function.deactivate()
            for file, functions in FIRST.items():
                function.can_block_in(file, functions)
        yield

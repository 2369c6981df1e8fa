"""Fixtures of this folder: a station's folder, and an `ipfs` that is none."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragon.astroport.zen import Zen
from tests.unit.astroport.fake_ipfs import FakeIpfs


@pytest.fixture
def zen(tmp_path: Path) -> Zen:
    """The folder of a station with nothing in it yet."""
    (tmp_path / "home" / ".zen" / "game").mkdir(parents=True)
    return Zen(tmp_path / "home" / ".zen")


@pytest.fixture
def ipfs(tmp_path: Path) -> Iterator[FakeIpfs]:
    """A fake ipfs. One at a time on this machine: a node's ports are the same for every test that knows it."""
    with (Path(tempfile.gettempdir()) / f"dragon-tests-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with FakeIpfs(tmp_path / "fake") as fake:
            yield fake

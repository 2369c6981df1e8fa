"""`dragon demo` for real: three nodes with three Kubo daemons, one service, nothing left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

BOUND = 300
"""Seconds for the whole story on a machine that runs other tests; alone it takes about ten."""


@pytest.fixture
def place(kubo_binary: Path) -> Iterator[dict[str, str]]:
    """An environment in which the demo finds Kubo and has a temp folder of its own."""
    folder = tempfile.mkdtemp(prefix="drd-")
    yield {
        **os.environ,
        "PATH": f"{kubo_binary.parent}:{os.environ['PATH']}",
        "TMPDIR": folder,
        "DRAGON_HOME": f"{folder}/unused",
        "PYTHONUNBUFFERED": "1",
    }
    shutil.rmtree(folder, ignore_errors=True)


def left_behind(place: dict[str, str]) -> list[str]:
    """The processes that name the temp folder in command or environment, and what lies in it of the demo's."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if place["TMPDIR"].encode() in words:
                found.append(words.decode(errors="replace").replace("\0", " ")[:200])
    return [*found, *(str(path) for path in Path(place["TMPDIR"]).glob("dragon-demo-*"))]


@pytest.mark.timeout(BOUND)
def test_the_story_is_told_to_its_end_and_nothing_is_left(place: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dragon", "demo", "--once"], env=place, capture_output=True, text=True, timeout=BOUND
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "by p2p" in done.stdout
    assert "llama3.2:latest, answered by process" in done.stdout
    assert "export OLLAMA_API_BASE=http://127.0.0.1:" in done.stdout
    assert "done; everything is stopped and removed" in done.stdout
    assert left_behind(place) == []


@pytest.mark.timeout(BOUND)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_middle_it_leaves_nothing(place: dict[str, str], number: signal.Signals) -> None:
    process = subprocess.Popen([sys.executable, "-m", "dragon", "demo"], env=place, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "alpha is up" in line:
            break
    process.send_signal(number)
    process.communicate(timeout=BOUND)
    assert process.returncode == 130
    assert left_behind(place) == []

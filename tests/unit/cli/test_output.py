"""Tables on terminals of every width, and streams that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console

from dragon.cli import output
from dragon.cli.output import Cell, Table, _rich
from dragon.text import width

LISTING = Table(
    ("service", "n", "id", "labels"),
    [
        [Cell("ollama"), Cell("1"), Cell("…kTq1cwfA"), Cell("gpu=rtx3090 model=llama3.2:latest")],
        [Cell("ollama"), Cell("2"), Cell("…Lm55ghQe"), Cell("")],
    ],
    "nobody",
)
FINDINGS = Table(("", "check"), [[Cell("ok"), Cell("a sentence that is longer than what a narrow terminal has left")]], "")


def shown(table: Table, columns: int) -> list[str]:
    console = Console(width=columns, color_system=None, highlight=False)
    with console.capture() as got:
        console.print(_rich(table, console.width))
    return [line.rstrip() for line in got.get().splitlines()]


def test_a_wide_terminal_gets_one_line_for_each_row() -> None:
    lines = shown(LISTING, 80)
    assert any("kTq1cwfA  gpu=rtx3090 model=llama3.2:latest" in line for line in lines)


def test_a_terminal_that_is_a_little_too_narrow_folds_the_last_column_alone() -> None:
    lines = shown(LISTING, 50)
    assert any(line.endswith("…kTq1cwfA  gpu=rtx3090") for line in lines)
    assert any(line.strip() == "model=llama3.2:latest" for line in lines)


def test_a_narrow_terminal_gets_rows_one_under_the_other_and_no_torn_words() -> None:
    assert shown(LISTING, 40) == [
        "service  ollama",
        "n        1",
        "id       …kTq1cwfA",
        "labels   gpu=rtx3090",
        "         model=llama3.2:latest",
        "",
        "service  ollama",
        "n        2",
        "id       …Lm55ghQe",
    ]


def test_a_mark_without_a_name_heads_its_row() -> None:
    assert shown(FINDINGS, 20)[:2] == ["ok", "check  a sentence"]


@pytest.mark.parametrize("columns", [12, 20, 30, 40, 60, 80, 200])
@pytest.mark.parametrize("table", [LISTING, FINDINGS], ids=["listing", "findings"])
def test_no_line_is_wider_than_the_terminal(table: Table, columns: int) -> None:
    assert max(width(line) for line in shown(table, columns)) <= columns


def test_a_person_is_told_that_a_long_search_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told = threading.Event()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(output, "PATIENCE", 0.0)
    monkeypatch.setattr(output, "note", lambda text: told.set())
    with output.waiting("trying"):
        assert told.wait(30)


def test_a_pipe_is_told_nothing_but_the_answer() -> None:
    with output.waiting("trying"):
        assert not [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]


@pytest.mark.parametrize("words", [["version"], ["--help"], ["version", "--json"]], ids=" ".join)
def test_a_full_disk_behind_the_output_is_one_line(words: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dragon", *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "DRAGON_HOME": str(tmp_path)},
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "the output cannot be written: No space left on device" in done.stderr


@pytest.mark.parametrize("words", ["version", "peers"])
def test_closed_streams_are_no_bug_of_ours(words: str, tmp_path: Path) -> None:
    done = subprocess.run(
        f"{sys.executable} -m dragon {words} >&-",
        shell=True,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "DRAGON_HOME": str(tmp_path)},
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if words == "version" else 3)

"""The stations' measure of power, and the cards that tell their memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dragon.astroport import power
from dragon.astroport.power import Machine, this_machine, video_memory_mb


@pytest.mark.parametrize(
    ("machine", "score", "tier"),
    [
        (Machine(1, 1024), 2, "light"),
        (Machine(4, 4096), 10, "light"),
        (Machine(4, 6144), 11, "standard"),
        (Machine(16, 32768), 48, "brain-cpu"),
        (Machine(8, 16384, 8192), 56, "brain-gpu"),
        (Machine(2, 2048, 2048), 13, "standard"),
        (Machine(16, 65536, 24564), 160, "brain-gpu"),
    ],
)
def test_scores(machine: Machine, score: int, tier: str) -> None:
    assert (machine.score, machine.tier) == (score, tier)


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "nvidia-smi"


@pytest.mark.parametrize(
    ("says", "megabytes"),
    [
        ("echo 24564; echo 8192", 32756),
        ("echo 'No devices were found'; exit 6", 0),
        ("echo '[N/A]'", 0),
        ("echo 99999999999", 0),
        ("exit 1", 0),
        ("exec sleep 30", 0),
    ],
)
def test_what_nvidias_tool_says(smi: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, megabytes: int) -> None:
    monkeypatch.setattr(power, "SMI_BOUND", 0.2 if "sleep" in says else 10.0)
    smi.write_text(f"#!/bin/sh\n{says}\n")
    smi.chmod(0o755)
    assert video_memory_mb(tmp_path / "none") == megabytes


def test_what_the_kernel_says_of_amds_cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for number, text in enumerate(("17163091968\n", "nonsense", "536870912\n")):
        device = tmp_path / f"card{number}" / "device"
        device.mkdir(parents=True)
        (device / "mem_info_vram_total").write_text(text)
    assert video_memory_mb(tmp_path) == 16368 + 512


def test_this_machine_has_some() -> None:
    assert this_machine().cores >= 1
    assert this_machine().score > 0
    assert this_machine() is this_machine()

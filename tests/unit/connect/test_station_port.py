"""The stations' port formula, against the figures their own scripts give."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.station_port import BASE, cksum, station_port

RESIDUES = {
    "ssh": 10,
    "strfry": 38,
    "duniter-g1": 88,
    "icecast": 79,
    "dify": 69,
    "mirofish": 91,
    "open-webui": 2,
    "nextcloud-app": 75,
    "qdrant": 55,
    "ollama": 32,
    "npm": 41,
    "nextcloud-aio": 47,
    "webtop-http": 23,
    "webtop-https": 67,
    "comfyui": 53,
    "orpheus": 74,
    "vane": 33,
}


@pytest.mark.parametrize(("slug", "residue"), RESIDUES.items())
def test_residues_of_the_stations(slug: str, residue: int) -> None:
    assert cksum(slug.encode()) % 100 == residue


@pytest.mark.parametrize(("text", "crc"), [(b"", 4294967295), (b"123456789", 930766865), (b"a", 1220704766)])
def test_known_checksums(text: bytes, crc: int) -> None:
    assert cksum(text) == crc


@pytest.mark.skipif(shutil.which("cksum") is None, reason="no cksum(1) to compare with on this machine")
def test_same_as_the_utility() -> None:
    for text in (b"12D3KooWAbcdef", b"\x00\xff" * 300, b"ollama"):
        printed = subprocess.run(["cksum"], input=text, capture_output=True, check=True).stdout
        assert cksum(text) == int(printed.split()[0])


@given(
    st.text("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", min_size=1, max_size=52),
    st.sampled_from(sorted(RESIDUES)),
)
@settings(max_examples=50)
def test_range(node_id: str, slug: str) -> None:
    assert BASE <= station_port(node_id, slug) <= 21818

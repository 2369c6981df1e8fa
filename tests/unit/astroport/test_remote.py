"""A station's variables, read as data."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragon.astroport.remote import parse_env, remote_variables
from dragon.astroport.zen import zen_home


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("SWARM_REMOTE_HOST=scorpio.example", {"SWARM_REMOTE_HOST": "scorpio.example"}),
        ('export SWARM_REMOTE_HOST="scorpio.example"', {"SWARM_REMOTE_HOST": "scorpio.example"}),
        ("  REMOTE_PORT_IPV4='2122'  # the box", {"REMOTE_PORT_IPV4": "2122"}),
        ("REMOTE_USER=frd # who", {"REMOTE_USER": "frd"}),
        ("REMOTE_HOST=a;", {"REMOTE_HOST": "a"}),
        ("REMOTE_HOST=", {"REMOTE_HOST": ""}),
        ("#REMOTE_HOST=a", {}),
        ("REMOTE_HOST=$(touch /tmp/x)", {}),
        ('REMOTE_HOST="$(touch /tmp/x)"', {}),
        ("REMOTE_HOST=`id`", {}),
        ("REMOTE_HOST=${SWARM_REMOTE_HOST:-a}", {}),
        ('REMOTE_HOST="a', {}),
        ("REMOTE_HOST=a b", {}),
        ("REMOTE_HOST = a", {}),
        ("REMOTE_HOST=a && rm -rf /", {}),
        ("REMOTE_HOST='a\x1b[31m'", {}),
        ("if true; then", {}),
        ("", {}),
    ],
)
def test_only_what_stands_there_literally_counts(line: str, expected: dict[str, str]) -> None:
    assert parse_env(line) == expected


def test_the_last_assignment_counts() -> None:
    assert parse_env("A=1\nA=2\n") == {"A": "2"}


def test_the_file_wins_over_the_environment_and_other_names_stay_out(tmp_path: Path) -> None:
    (tmp_path / "Astroport.ONE").mkdir()
    (tmp_path / "Astroport.ONE" / ".env").write_text("SWARM_REMOTE_HOST=file\nSECRET=x\n")
    environ = {"SWARM_REMOTE_HOST": "environment", "OLLAMA_REMOTE_PORT_IPV6": "23", "PATH": "/bin", "REMOTE_ADDR": "1"}
    assert remote_variables(environ, tmp_path) == {"SWARM_REMOTE_HOST": "file", "OLLAMA_REMOTE_PORT_IPV6": "23"}


@pytest.mark.parametrize("kind", ["none", "folder", "large", "binary"])
def test_a_file_that_is_no_such_file_says_nothing(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "Astroport.ONE" / ".env"
    file.parent.mkdir()
    if kind == "folder":
        file.mkdir()
    elif kind == "large":
        file.write_bytes(b"REMOTE_HOST=a\n" * 100_000)
    elif kind == "binary":
        file.write_bytes(bytes(range(256)))
    assert remote_variables({}, tmp_path) == {}


def test_where_a_station_lives() -> None:
    assert zen_home({"ZEN_HOME": "/srv/zen"}) == Path("/srv/zen")
    assert zen_home({}) == Path("~/.zen").expanduser()

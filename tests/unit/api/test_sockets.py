"""The doors: only this user's, no matter what lies where they are to be."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from dragon.api.sockets import api_token, control_socket, loopback_socket
from dragon.errors import HomeError, PortInUse
from dragon.home import Home


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_the_socket_is_0600_in_a_0700_folder_and_goes_away(home: Home) -> None:
    path = home.control_socket
    with control_socket(path):
        assert mode(path) == 0o600
        assert stat.S_ISSOCK(path.lstat().st_mode)
    assert not path.exists()
    with control_socket(path):
        pass


def test_a_missing_folder_is_made_for_us_alone(home: Home) -> None:
    path = home.control_socket.parent / "made" / "x.sock"
    with control_socket(path):
        assert mode(path.parent) == 0o700


def test_our_own_folder_is_closed_to_others_again(home: Home) -> None:
    folder = home.control_socket.parent / f"dragon-{os.getuid()}"
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    with control_socket(folder / "x.sock"):
        assert mode(folder) == 0o700


def test_a_runtime_folder_in_which_others_may_write_is_refused_and_left_as_it_is(home: Home) -> None:
    folder = home.control_socket.parent
    folder.chmod(0o777)
    with pytest.raises(HomeError, match="others may write"), control_socket(home.control_socket):
        pass
    assert mode(folder) == 0o777


def test_a_folder_of_somebody_else_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: home.control_socket.parent.stat().st_uid + 1)
    with pytest.raises(HomeError, match="belongs to somebody else"), control_socket(home.control_socket):
        pass


def test_a_link_in_place_of_the_folder_is_refused(home: Home, tmp_path: Path) -> None:
    link = home.control_socket.parent / f"dragon-{os.getuid()}"
    link.symlink_to(tmp_path)
    with pytest.raises(HomeError), control_socket(link / "x.sock"):
        pass


def test_what_a_killed_node_left_is_replaced(home: Home) -> None:
    path = home.control_socket
    left = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    left.bind(str(path))
    left.close()
    assert path.exists()
    with control_socket(path), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as visitor:
        visitor.connect(str(path))


def test_a_node_that_answers_keeps_its_socket(home: Home) -> None:
    path = home.control_socket
    with control_socket(path):
        with pytest.raises(HomeError, match="answers on"), control_socket(path):
            pass
        assert path.exists()


def test_something_else_in_the_way_is_not_removed(home: Home) -> None:
    path = home.control_socket
    path.write_text("precious")
    with pytest.raises(HomeError, match="not a socket"), control_socket(path):
        pass
    assert path.read_text() == "precious"


def test_a_path_that_is_too_long_says_what_to_do(home: Home) -> None:
    path = home.control_socket.parent / ("x" * 120)
    with pytest.raises(HomeError, match="cannot be made") as caught, control_socket(path):
        pass
    assert "XDG_RUNTIME_DIR" in caught.value.hint


def test_a_taken_port_is_told() -> None:
    with (
        loopback_socket(0) as door,
        pytest.raises(PortInUse, match="cannot listen"),
        loopback_socket(door.getsockname()[1]),
    ):
        pass


def test_the_token_stays_and_is_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "api.token"
    token = api_token(path)
    assert mode(path) == 0o600
    assert len(token) >= 43
    assert api_token(path) == token


@pytest.mark.parametrize("spoiled", ["open to others", "short", "not text"])
def test_a_token_that_others_may_know_is_made_anew(tmp_path: Path, spoiled: str) -> None:
    path = tmp_path / "api.token"
    token = api_token(path)
    if spoiled == "open to others":
        path.chmod(0o644)
    else:
        path.write_bytes(b"short" if spoiled == "short" else b"\xff" * 60)
    assert api_token(path) != token
    assert mode(path) == 0o600

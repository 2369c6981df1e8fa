"""What known_hosts files say of a host, and what is said when its key is another."""

from __future__ import annotations

from pathlib import Path

import asyncssh
import pytest

from dragon.connect.ssh_trust import ALGORITHMS, Trust, look_up, name_in_file, remember
from dragon.errors import SshRefused

KEY = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
OTHER = asyncssh.generate_private_key("ecdsa-sha2-nistp256").convert_to_public()


def text(key: asyncssh.SSHKey) -> str:
    return key.export_public_key().decode().strip()


def trust(folder: Path, *lines: str, host: str = "station", port: int = 2122) -> Trust:
    file = folder / "known_hosts"
    file.write_text("".join(f"{line}\n" for line in lines))
    return look_up([folder / "missing", file], host, port)


@pytest.mark.parametrize(
    ("name", "host", "port", "known"),
    [
        ("station", "station", 22, True),
        ("[station]:2122", "station", 2122, True),
        ("station", "station", 2122, True),  # as ssh does where nothing else is known of that port
        ("[station]:2122", "station", 22, False),
        ("[station]:2122", "station", 2123, False),
        ("[*.example]:2122", "a.example", 2122, True),
        ("other,station", "station", 22, True),
        ("::1", "::1", 22, True),
        ("[::1]:23", "::1", 23, True),
        ("stations", "station", 22, False),
    ],
)
def test_which_lines_speak_of_a_host(tmp_path: Path, name: str, host: str, port: int, known: bool) -> None:
    found = trust(tmp_path, f"{name} {text(KEY)}", host=host, port=port)
    assert found.is_known is known
    assert [each.key for each in found.keys] == ([KEY] if known else [])


def test_a_line_that_cannot_be_read_costs_only_itself(tmp_path: Path) -> None:
    found = trust(tmp_path, "", "# note", "nonsense", "station ssh-rsa !!!!", f"[station]:2122 {text(KEY)}")
    assert [(each.line, each.key) for each in found.keys] == [(5, KEY)]


def test_a_hashed_name_is_found(tmp_path: Path) -> None:
    import base64
    import hashlib
    import hmac

    salt = b"s" * 20
    code = hmac.new(salt, b"[station]:2122", hashlib.sha1).digest()
    name = f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(code).decode()}"
    assert trust(tmp_path, f"{name} {text(KEY)}").is_known


def test_another_key_names_the_line_to_look_at(tmp_path: Path) -> None:
    found = trust(tmp_path, f"other {text(KEY)}", f"[station]:2122 {text(KEY)}")
    error = found.refusal(OTHER, tmp_path / "own")
    assert isinstance(error, SshRefused)
    file = tmp_path / "known_hosts"
    assert str(error).startswith("THE SSH HOST KEY OF [station]:2122 HAS CHANGED")
    assert f"{file}:2" in str(error)
    assert f"ssh-keygen -f {file} -R '[station]:2122'" in error.hint


def test_another_key_than_that_of_port_22_is_merely_unknown(tmp_path: Path) -> None:
    found = trust(tmp_path, f"station {text(KEY)}")
    assert "is not known" in str(found.refusal(OTHER, tmp_path / "own"))


def test_an_unknown_host_says_how_to_get_to_know_it(tmp_path: Path) -> None:
    error = trust(tmp_path).refusal(KEY, tmp_path / "own")
    assert KEY.get_fingerprint() in str(error)
    assert "ssh -p 2122 station" in error.hint
    assert "trust_on_first_use" in error.hint


@pytest.mark.parametrize("offered", [None, KEY])
def test_a_revoked_key(tmp_path: Path, offered: asyncssh.SSHKey | None) -> None:
    found = trust(tmp_path, f"@revoked [station]:2122 {text(KEY)}")
    assert not found.is_known
    assert "revoked" in str(found.refusal(offered, tmp_path / "own"))


def test_known_keys_are_asked_for_first_and_nothing_on_sha1(tmp_path: Path) -> None:
    found = trust(tmp_path, f"[station]:2122 {text(OTHER)}")
    assert found.algorithms()[0] == "ecdsa-sha2-nistp256"
    assert set(found.algorithms()) == set(ALGORITHMS)
    assert trust(tmp_path).algorithms() == list(ALGORITHMS)


def test_an_authority_is_known_too(tmp_path: Path) -> None:
    found = trust(tmp_path, f"@cert-authority * {text(KEY)}")
    assert found.is_known
    assert found.authorities == (KEY,)
    assert found.algorithms()[0] == "ssh-ed25519-cert-v01@openssh.com"


def test_what_is_remembered_is_known_and_disturbs_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "own"
    remember(file, "first", 22, OTHER)
    remember(file, "station", 2122, KEY)
    assert [each.key for each in look_up([file], "station", 2122).keys] == [KEY]
    assert [each.key for each in look_up([file], "first", 22).keys] == [OTHER]
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("port", "name"), [(22, "a"), (2122, "[a]:2122")])
def test_the_name_in_the_file(port: int, name: str) -> None:
    assert name_in_file("a", port) == name

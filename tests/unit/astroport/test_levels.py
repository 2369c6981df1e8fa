"""SSH keys and their level. The reference is ssh-keygen's own output and the identity that Kubo would make of the key."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from dragon.astroport import levels
from dragon.astroport.levels import PublicKeys, exported_by_gpg, key_line, peer_id_of, sorted_keys
from registry_schema.ids import base58_decode, is_node_id
from tests.unit.registry_schema.identities import ALICE

ED = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIDvSMxlSsDLGs4EKwQdqaVcgM9jQmdQwFB9sJ1JpWfJ frd@owl"
RSA = f"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAB{'A' * 340} frd@owl"


@pytest.fixture
def made(tmp_path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "frd@owl", "-f", tmp_path / "k"], check=True)
    return (tmp_path / "k.pub").read_text()


def test_a_real_key_is_the_identity_that_has_the_same_32_bytes(made: str) -> None:
    from base64 import b64decode

    node_id = peer_id_of(key_line(made))
    assert node_id is not None
    assert is_node_id(node_id)
    assert base58_decode(node_id)[-32:] == b64decode(made.split()[1])[-32:]
    assert sorted_keys(made, "", node_id) == PublicKeys(y=made.strip())
    assert sorted_keys(made, "", ALICE.node_id) == PublicKeys(x=made.strip())


@pytest.mark.parametrize(
    ("own", "captains", "level", "names"),
    [
        ("", "", None, []),
        (ED, "", "x", ["x_ssh.pub"]),
        (ED, ED, "z", ["x_ssh.pub", "z_ssh.pub"]),
        ("", RSA, "z", ["z_ssh.pub"]),
        (RSA, "", "x", ["x_ssh.pub"]),
    ],
)
def test_levels(own: str, captains: str, level: str | None, names: list[str]) -> None:
    keys = sorted_keys(own, captains, ALICE.node_id)
    assert keys.level == level
    assert sorted(keys.files()) == names
    assert keys.best == (captains or own)


@pytest.mark.parametrize(
    "text",
    [
        "", "ssh-ed25519", "ssh-ed25519 ####", "ssh-ed25519 AAAA", ED.replace("ssh-ed25519", "ssh-dss"), "x" * 5000,
        "-----BEGIN OPENSSH PRIVATE KEY-----", 'command="id" ' + ED, ED.replace("frd", "f\x1brd"), "no-pty " + ED,
        ED.replace(" frd", "\tfrd"), f"ssh-rsa {'A' * 2000}", ED.replace("IIDv", "II\u202e"),
    ],
)  # fmt: skip
def test_what_is_no_public_key(text: str) -> None:
    assert key_line(text) == ""


def test_the_first_key_of_several_lines() -> None:
    assert key_line(f"# a comment\n\n  {ED}  \n{RSA}\n") == ED
    assert key_line(ED.replace("frd@owl", "caf\u00e9 \u202eowl")) == ED.replace("frd@owl", "café owl")


@pytest.mark.parametrize("line", [RSA, "", "ssh-ed25519 " + "A" * 68, ED.split()[1]])
def test_other_keys_are_no_identity(line: str) -> None:
    assert peer_id_of(line) is None


@pytest.fixture
def gpg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a `gpg` of these shell lines on the PATH; each call also changes its keys."""
    home = tmp_path / "keys"
    home.mkdir()
    monkeypatch.setenv("GNUPGHOME", str(home))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def put(text: str) -> Path:
        program = tmp_path / "gpg"
        program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$*" >>{tmp_path}/asked\n{text}\n')
        program.chmod(0o755)
        (home / "pubring.kbx").write_text(text)
        return tmp_path / "asked"

    return put


def test_gpg_is_asked_for_the_captain_once(gpg: Callable[[str], Path]) -> None:
    asked = gpg(f'echo "{ED}"')
    assert [exported_by_gpg("cap@example.org") for _ in range(3)] == [ED] * 3
    assert "--export-ssh-key <cap@example.org>" in asked.read_text()
    assert len(asked.read_text().splitlines()) == 1
    for mail in ("", "--help", "a b@c", "$(id)@x", "a@b\nc"):
        assert exported_by_gpg(mail) == ""
    assert len(asked.read_text().splitlines()) == 1


def test_gpg_is_asked_again_when_its_keys_changed(gpg: Callable[[str], Path]) -> None:
    gpg("exit 2")
    assert exported_by_gpg("cap@example.org") == ""
    gpg(f'echo "{ED}"')
    assert exported_by_gpg("cap@example.org") == ED
    gpg(f'echo "{ED}"; exit 2')
    assert exported_by_gpg("cap@example.org") == ""


def test_a_gpg_without_keys_is_not_asked(gpg: Callable[[str], Path], tmp_path: Path) -> None:
    asked = gpg(f'echo "{ED}"')
    (tmp_path / "keys" / "pubring.kbx").unlink()
    assert exported_by_gpg("cap@example.org") == ""
    assert not asked.exists()


def test_a_gpg_that_hangs_is_not_waited_for(gpg: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "GPG_BOUND", 0.05)
    gpg("exec sleep 30")
    assert exported_by_gpg("cap@example.org") == ""


@pytest.mark.skipif(shutil.which("gpg") is None, reason="no gpg on this machine")
def test_a_real_gpg(monkeypatch: pytest.MonkeyPatch) -> None:
    home = Path(tempfile.mkdtemp())  # short: its agent's socket lies in it
    monkeypatch.setenv("GNUPGHOME", str(home))
    assert exported_by_gpg("cap@example.org") == ""
    assert list(home.iterdir()) == []
    key = (
        "Key-Type: eddsa",
        "Key-Curve: ed25519",
        "Key-Usage: auth,sign",
        "Name-Email: cap@example.org",
        "%no-protection",
        "%commit",
    )
    command = ["gpg", "--homedir", str(home), "--batch", "--generate-key"]
    try:
        subprocess.run(command, input="\n".join(key), text=True, check=True, capture_output=True, timeout=60)
        line = exported_by_gpg("cap@example.org")
    finally:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
        shutil.rmtree(home, ignore_errors=True)
    assert peer_id_of(line)

"""What is installed is what was chosen (THREATS 25): locked with hashes, no look-alikes, nothing undeclared."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock", "tests/testbed/plain-relay.lock")

BANNED = {
    "negentropy": "a disassembler for the Commodore 64, not the NOSTR protocol",
    "strfry": "unrelated to the NOSTR relay",
    "pydantic-settings": "see docs/decisions/002",
}


def requirements(lock: str) -> dict[str, list[str]]:
    """Return the locked requirements, `name==version` → hashes."""
    found: dict[str, list[str]] = {}
    current: list[str] = []
    for line in (ROOT / lock).read_text().splitlines():
        if match := re.match(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", line):
            current = found.setdefault(match[1].lower(), [])
        elif match := re.match(r"^\s+--hash=sha256:([0-9a-f]{64})", line):
            current.append(match[1])
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_every_requirement_is_pinned_with_hashes(lock: str) -> None:
    locked = requirements(lock)
    assert len(locked) > 20
    assert all(locked.values()), [name for name, hashes in locked.items() if not hashes]
    unpinned = [line for line in (ROOT / lock).read_text().splitlines() if line and line[0].isalnum() and "==" not in line]
    assert unpinned == []


@pytest.mark.parametrize("lock", LOCKS)
@pytest.mark.parametrize("name", BANNED)
def test_no_look_alike_is_installed(lock: str, name: str) -> None:
    assert name not in requirements(lock), BANNED[name]


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_names_no_package_index(lock: str) -> None:
    assert "://" not in (ROOT / lock).read_text()


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[<>=!~\[ ]", one)[0].lower() for one in project["dependencies"]}


def test_every_declared_dependency_is_locked() -> None:
    assert declared() <= set(requirements("requirements.lock"))
    assert {"aiohttp", "ipfshttpclient", "cryptography", "msgpack", "pynostr", "typer"} <= declared()


def test_whatever_is_imported_is_declared() -> None:
    """What only comes with something else may go with it."""
    imported = set()
    for package in ("dragon", "registry_schema"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                imported |= {name.partition(".")[0].replace("_", "-") for name in names}
    ours = {"dragon", "registry-schema"} | {name.replace("_", "-") for name in sys.stdlib_module_names}
    assert imported - ours <= declared() | {"pydantic-core"}, "that one is of a piece with pydantic, which pins it"


def test_urllib3_stays_below_3_for_ipfshttpclient() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert re.search(r"^urllib3==2\.", text, re.MULTILINE)
    assert re.search(r"^ipfshttpclient==0\.8\.0a2 ", text, re.MULTILINE)

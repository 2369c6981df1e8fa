"""The relays that are not a package of ours: built or installed once for this user, cached outside every work tree.

khatru is built from the Go module in `khatru/` (17 s on two cores, the downloads besides); nostr-relay gets a virtual
environment of its own from the locked `plain-relay.lock` (13 s). Both lie in folders named after the hash of what they are
made from, so a changed recipe makes a new one.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
MODULE = HERE / "khatru"
LOCK = HERE / "plain-relay.lock"

BOUND = 900.0
"""Seconds for one recipe, downloads on a slow line included."""


class Unavailable(Exception):
    """The relay cannot be had on this machine; the text says why."""


def cache_dir() -> Path:
    """Return the folder of the test bed's own programs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dragon" / "testbed"


def khatru() -> Path:
    """Return the relay built from `khatru/`, building it where it is missing."""
    target = cache_dir() / f"khatru-{_hash(MODULE / 'main.go', MODULE / 'go.sum')}"
    if target.is_file():
        return target
    if not shutil.which("go"):
        raise Unavailable("khatru: there is no Go on PATH")
    with _workshop() as folder:
        built = Path(folder) / "relay"
        _run(["go", "build", "-trimpath", "-o", str(built), "."], cwd=MODULE)
        built.replace(target)
    return target


def plain_python() -> Path:
    """Return the interpreter of nostr-relay's environment, made where it is missing."""
    target = cache_dir() / f"plain-relay-{_hash(LOCK)}"
    python = target / "bin" / "python"
    if (target / "complete").exists():
        return python
    shutil.rmtree(target, ignore_errors=True)  # left half made; an environment cannot be moved, so it is made in place
    target.parent.mkdir(parents=True, exist_ok=True)
    _run([sys.executable, "-m", "venv", str(target)])
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, "--require-hashes", "-r", str(LOCK)])
    (target / "complete").touch()
    return python


def missing() -> list[str]:
    """Return the names of those that would have to be made."""
    built = (cache_dir() / f"khatru-{_hash(MODULE / 'main.go', MODULE / 'go.sum')}").is_file()
    installed = (cache_dir() / f"plain-relay-{_hash(LOCK)}" / "complete").exists()
    return [name for name, there in (("khatru", built), ("nostr-relay", installed)) if not there]


def provide() -> list[str]:
    """Make what is missing; return why something is missing still."""
    failures = []
    for make in (khatru, plain_python):
        try:
            make()
        except Unavailable as error:
            failures.append(str(error))
    return failures


def _hash(*files: Path) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def _workshop() -> tempfile.TemporaryDirectory[str]:
    """A folder on the same disk, from which a finished thing is moved into its place at once."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    return tempfile.TemporaryDirectory(dir=cache_dir(), prefix="making-")


def _run(command: Sequence[str], cwd: Path | None = None) -> None:
    try:
        done = subprocess.run(command, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=BOUND)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"{' '.join(command)}: not done within {BOUND:g} s") from error
    if done.returncode:
        raise Unavailable(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")

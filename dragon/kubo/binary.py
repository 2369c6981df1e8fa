"""Where the Kubo binary comes from: found, downloaded and verified, or built.

Order: `PATH` (unless too old) → `DRAGON_HOME/bin` → the user's cache folder → the official release, verified against its
published SHA-512 → built from the pinned Go module in `deploy/kubo`. What was downloaded or built lands in the cache folder
in one step, so that a second start, or a second node at the same time, finds it whole or not at all.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dragon.errors import KuboMissing, KuboUnfit, LocalError
from dragon.home import Home
from dragon.kubo.build import build
from dragon.kubo.progress import Progress, Silent, shown
from dragon.kubo.release import download

VERSION = "0.43.0"
"""The release everything was measured with. 0.43.1 carries a `replace` and cannot be built as a dependency."""

MINIMUM = (0, 40)
"""`name/get`, and pubsub sequence numbers that are per peer: what this program was written against."""


def cache_dir() -> Path:
    """Return the folder of downloaded and built binaries of this user, outside every work tree."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "dragon" / "kubo" / VERSION


def parse_version(text: str) -> tuple[int, ...] | None:
    """Return `(0, 43, 0)` for `0.43.0` and `0.43.0-rc1`; None for what is no version."""
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", text.strip())
    return tuple(int(part) for part in match.groups()) if match else None


def version_of(binary: Path) -> tuple[int, ...] | None:
    """Return the version that `binary` states; None when it is not a working Kubo."""
    try:
        answer = subprocess.run([binary, "version", "--number"], capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return parse_version(answer.stdout)


def find(home: Home, *, progress: Progress | None = None) -> Path | None:
    """Return a usable binary of this machine, or None. What is passed over is told to `progress` with the reason."""
    said = progress or Silent()
    on_path = shutil.which("ipfs")
    for candidate in (Path(on_path) if on_path else None, home.bin / "ipfs", cache_dir() / "ipfs"):
        if candidate is None or not candidate.is_file():
            continue
        version = version_of(candidate)
        if version is None:
            said.step(f"{candidate} is passed over: it does not run as Kubo")
        elif version < MINIMUM:
            said.step(f"{candidate} is passed over: {'.'.join(map(str, version))} is older than 0.40")
        else:
            return candidate
    return None


def check(binary: Path) -> Path:
    """Return the binary that the operator named; `KuboMissing` or `KuboUnfit` when it will not do."""
    version = version_of(binary)
    if version is None:
        raise KuboMissing(f"{binary} does not run as Kubo", "correct [kubo] binary, or leave it out to have one found")
    if version < MINIMUM:
        raise KuboUnfit(
            f"{binary} is Kubo {'.'.join(map(str, version))}, older than 0.40", "install a newer Kubo, or leave it out"
        )
    return binary


def find_or_install(home: Home, *, progress: Progress | None = None) -> Path:
    """Return a usable binary, installing one into the cache folder where there is none.

    Blocks, for minutes where it must be built. Raises `KuboMissing` with the reason of each way that failed.
    """
    said = progress or Silent()
    found = find(home, progress=said)
    if found:
        return found
    folder = cache_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _one_installer(folder, said):
            found = find(home)  # another process may have been faster
            return found or _install(folder, said)
    except OSError as error:
        raise KuboMissing(f"{folder} cannot be written: {error.strerror}", "set XDG_CACHE_HOME to another folder") from error


def _install(folder: Path, said: Progress) -> Path:
    reasons = []
    for way in (download, build):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as work:
            try:
                made = way(VERSION, Path(work), said)
                made.chmod(0o755)
                if version_of(made) is None:
                    raise KuboMissing(f"what came from {way.__name__} does not run on this machine")
                return made.rename(folder / "ipfs")
            except LocalError as error:
                said.step(f"not by {way.__name__}: {error}")
                reasons.append(f"{error}" + (f" ({error.hint})" if error.hint else ""))
    raise KuboMissing(
        "no Kubo on this machine, and none could be had: " + "; ".join(reasons),
        f"install Kubo {VERSION} (https://docs.ipfs.tech/install/) so that `ipfs` is on PATH, or Go >= 1.26.5 to have it built",
    )


@contextmanager
def _one_installer(folder: Path, said: Progress) -> Iterator[None]:
    """Let one process at a time install; the kernel releases the lock with the process."""
    descriptor = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            said.step("another process installs Kubo: waiting for it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def main() -> int:
    """Find or install; print the path on stdout, what happens on stderr."""
    try:
        with shown() as progress:
            binary = find_or_install(Home.locate(), progress=progress)
    except LocalError as error:
        print(f"{error}\n{error.hint}" if error.hint else error, file=sys.stderr)
        return error.exit_code
    print(binary)
    return 0


if __name__ == "__main__":
    sys.exit(main())

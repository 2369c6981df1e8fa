"""The oldest Kubo that a station may have (0.40), for the tests that run on it: `python -m tests.testbed.older_kubo` builds it.

From the Go module in `kubo-0.40/`, whose go.sum pins every byte (100 s on two cores, the downloads besides); cached outside
every work tree, in a file named after the hash of the recipe.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MODULE = Path(__file__).parent / "kubo-0.40"

BOUND = 1200.0
"""Seconds for the build, downloads on a slow line included."""


class Unavailable(Exception):
    """It cannot be had on this machine; the text says why."""


def binary() -> Path:
    """Return where the binary lies once it is built."""
    base = os.environ.get("XDG_CACHE_HOME")
    recipe = b"".join((MODULE / name).read_bytes() for name in ("go.mod", "go.sum"))
    folder = (Path(base) if base else Path.home() / ".cache") / "dragon" / "testbed"
    return folder / f"kubo-0.40-{hashlib.sha256(recipe).hexdigest()[:16]}" / "ipfs"


def provide() -> Path:
    """Return the binary, building it where it is missing. Raises `Unavailable`."""
    target = binary()
    if target.is_file():
        return target
    if not shutil.which("go"):
        raise Unavailable("Kubo 0.40: there is no Go on PATH to build it")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="making-") as work:
        for name in ("go.mod", "go.sum"):
            shutil.copyfile(MODULE / name, Path(work) / name)
        command = ["go", "build", "-mod=mod", "-trimpath", "-o", "ipfs", "github.com/ipfs/kubo/cmd/ipfs"]
        try:
            done = subprocess.run(command, cwd=work, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=BOUND)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"Kubo 0.40: not built within {BOUND:g} s") from None
        if done.returncode:
            raise Unavailable(f"Kubo 0.40 cannot be built: {done.stderr.strip()[-1000:]}")
        (Path(work) / "ipfs").replace(target)
    return target


def main() -> int:
    try:
        if not binary().is_file():
            print("Kubo 0.40 for the tests: building it, about two minutes …", flush=True)
        print(f"Kubo 0.40 for the tests: {provide()}")
    except Unavailable as error:
        print(
            f"{error}\nthe tests on Kubo 0.40 will be skipped (tests/integration/astroport/test_older_kubo.py)", file=sys.stderr
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())

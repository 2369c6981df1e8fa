"""Kubo built from source: for machines that reach package registries only, and for those without an official release.

The module in `deploy/kubo` pins Kubo and, by its `go.sum`, every byte of what it is made of.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from pathlib import Path

from dragon.errors import KuboMissing
from dragon.kubo.progress import Progress
from dragon.text import counted

GO_MINIMUM = (1, 26, 5)
"""What Kubo 0.43's own go.mod asks for."""

PACKAGE = "github.com/ipfs/kubo/cmd/ipfs"

_HINT = "install Go >= 1.26.5 (https://go.dev/dl/) and start again, or install Kubo itself"


def module_dir() -> Path:
    """Return the folder with go.mod and go.sum: in the wheel beside this file, in a checkout in `deploy/kubo`."""
    for folder in (Path(__file__).parent / "module", Path(__file__).parents[2] / "deploy" / "kubo"):
        if (folder / "go.mod").is_file():
            return folder
    raise KuboMissing("the Go module of Kubo is missing from this installation", "reinstall Dragon")


def go_version(folder: Path) -> tuple[int, ...]:
    """Return the version of the Go that would build in `folder` (Go may switch to the one go.mod asks for)."""
    if not shutil.which("go"):
        raise KuboMissing("Kubo cannot be built: there is no Go on PATH", _HINT)
    answer = subprocess.run(["go", "version"], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    match = re.search(r"\bgo(\d+)\.(\d+)(?:\.(\d+))?", answer.stdout)
    if answer.returncode or not match:
        raise KuboMissing(f"Kubo cannot be built: {_last(answer.stderr) or 'go version says nothing'}", _HINT)
    return tuple(int(part or 0) for part in match.groups())


def build(version: str, work: Path, progress: Progress) -> Path:
    """Return the binary, built below `work` (80 to 150 s on two cores).

    Raises `KuboMissing`: Go missing, too old, or failing.
    """
    for name in ("go.mod", "go.sum"):
        shutil.copyfile(module_dir() / name, work / name)
    if f"github.com/ipfs/kubo v{version}" not in (work / "go.mod").read_text():
        raise KuboMissing(f"the Go module is not the one of Kubo {version}", "reinstall Dragon")
    go = go_version(work)
    if go < GO_MINIMUM:
        raise KuboMissing(f"Kubo cannot be built: Go {'.'.join(map(str, go))} is too old", _HINT)
    progress.step(f"building Kubo {version} from source with Go {'.'.join(map(str, go))}: some minutes")
    binary, began, lines, packages = work / "ipfs", time.monotonic(), [""], 0
    command = ["go", "build", "-mod=mod", "-trimpath", "-v", "-o", str(binary), PACKAGE]
    with subprocess.Popen(command, cwd=work, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                lines = [*lines[-20:], line]
                packages += not line.startswith("go: ")
                progress.detail(
                    f"building Kubo: {counted(packages, 'package')}, {time.monotonic() - began:.0f} s: {line.strip()}"
                )
            process.wait()
        except BaseException:
            process.kill()
            raise
    if process.returncode or not binary.is_file():
        raise KuboMissing(
            f"Kubo cannot be built: {_last(''.join(lines))}", "see the lines above; Go needs a module proxy it can reach"
        )
    return binary


def _last(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

"""The systemd unit of a station's node, and the manager that runs it: the system's or the user's own."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dragon.errors import LocalError

UNIT = "dragon-station.service"

Scope = Literal["system", "user"]

SYSTEM_UNITS = Path("/etc/systemd/system")

LINGER = Path("/var/lib/systemd/linger")
"""Where logind notes the users whose managers outlive their logout (loginctl(1), enable-linger)."""

CALL_SECONDS = 900.0
"""The unit's own TimeoutStartSec: a first start may build Kubo."""


def source(scope: Scope) -> str:
    """Return the unit as shipped: in the wheel beside this file, in a checkout in `deploy`. Raises `LocalError`."""
    name = UNIT if scope == "system" else "dragon-station-user.service"
    for folder in (Path(__file__).parent / "units", Path(__file__).parents[2] / "deploy"):
        if (folder / name).is_file():
            return (folder / name).read_text()
    raise LocalError(f"{name} is missing from this installation", "reinstall Dragon")


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return the unit with the values of these keys (`User`, `ExecStart`, …) in the place of the shipped examples. Pure."""
    lines = text.splitlines()
    for number, line in enumerate(lines):
        key, equals, _ = line.partition("=")
        if equals and key in values:
            lines[number] = f"{key}={values[key]}"
    return "\n".join(lines) + "\n"


def values_for(
    scope: Scope, *, command: Sequence[str], dragon_home: Path, zen: Path, user: str, group: str, ssh: bool, ipfs: str = ""
) -> dict[str, str]:
    """Return what a station's unit says instead of the examples. `ssh`: whether authorized_keys is kept; `ipfs`: IPFS_PATH.

    Raises `LocalError` for a path that a unit cannot spell.
    """
    paths = [dragon_home, zen, *([zen.parent / ".ssh"] if ssh else [])]
    for text in (*command, ipfs, *map(str, paths)):
        if not text.isprintable() or any(each in text for each in "\"'\\%$"):
            raise LocalError(f"{text!r} cannot stand in a systemd unit", "move it to a plainer path")
    quoted = " ".join(f'"{word}"' if " " in word else word for word in [*command, "serve"])
    environment = [f'"DRAGON_HOME={dragon_home}"', f'"ZEN_HOME={zen}"', *([f'"IPFS_PATH={ipfs}"'] if ipfs else [])]
    if scope == "user":
        path = "PATH=%h/.local/bin:/usr/local/bin:/usr/bin:/bin"  # where pip and pipx put a user's commands
        return {"ExecStart": quoted, "Environment": " ".join([*environment, path])}
    return {
        "ExecStart": quoted,
        "User": user,
        "Group": group,
        "Environment": " ".join([*environment, "XDG_RUNTIME_DIR=/run/dragon-station"]),
        "ReadWritePaths": " ".join(f'"-{path}"' for path in paths),
    }


@dataclass(frozen=True, slots=True)
class Manager:
    """One systemd manager, asked by `systemctl`. Where there is none, commands are told instead of run."""

    scope: Scope
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    system_units: Path = SYSTEM_UNITS
    root: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def units(self) -> Path:
        """The folder from which it reads units that a person installed."""
        if self.scope == "system":
            return self.system_units
        config = self.environ.get("XDG_CONFIG_HOME") or str(Path(self.environ.get("HOME") or Path.home()) / ".config")
        return Path(config) / "systemd" / "user"

    @property
    def may_write(self) -> bool:
        return self.scope == "user" or self.root

    @property
    def works(self) -> bool:
        """Whether such a manager answers here, and takes orders from us."""
        return self.may_write and self._ask("show", "--property=Version").startswith("Version=")

    def is_running(self, unit: str) -> bool:
        return self._ask("is-active", unit) == "active" and self._ask("is-enabled", unit) == "enabled"

    def knows(self, unit: str) -> bool:
        return (self.units / unit).exists()

    def stays(self, user: str) -> bool:
        """Whether what it runs outlives the user's logout."""
        return self.scope == "system" or self.root or (LINGER / user).exists()

    def shown(self, *words: str) -> str:
        sudo = [] if self.may_write else ["sudo"]
        return shlex.join([*sudo, "systemctl", *(["--user"] if self.scope == "user" else []), *words])

    def commands(self, *words: str) -> list[str]:
        return [self.shown(*words)]

    def call(self, *words: str) -> list[str]:
        """Do it; return the command for a person where no manager takes it from us. Raises `LocalError` when it fails."""
        if not self.works:
            return self.commands(*words)
        done = self._run(words, CALL_SECONDS)
        if done is None or done.returncode != 0:
            why = (done.stderr.strip().splitlines() or ["no answer"])[0] if done else "no answer"
            raise LocalError(f"{self.shown(*words)}: {why}", f"see `{self.shown('status', words[-1])}` and the journal")
        return []

    def _ask(self, *words: str) -> str:
        done = self._run(words, 30.0)
        return done.stdout.strip() if done is not None else ""

    def _run(self, words: Sequence[str], timeout: float) -> subprocess.CompletedProcess[str] | None:
        systemctl = shutil.which("systemctl", path=self.environ.get("PATH"))
        if systemctl is None:
            return None
        command = [systemctl, *(["--user"] if self.scope == "user" else []), *words]
        try:
            return subprocess.run(
                command, env=dict(self.environ), capture_output=True, text=True, timeout=timeout, check=False,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return None

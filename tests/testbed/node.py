"""Dragon nodes as their users run them: `dragon serve` in a process of its own, driven through the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

START_BOUND = 60.0
"""Seconds that a node may need until `ready`, on a machine that is busy with other tests. A bound, not a figure."""


class DragonNode:
    """One `dragon serve` with its own home. `config` is the text of its config.toml; `enter` is a host's (`testbed.netns`)."""

    def __init__(self, home: Path, config: str, *, env: dict[str, str] | None = None, enter: Sequence[str] = ()) -> None:
        self.enter = enter
        self.home = home
        home.mkdir(parents=True, exist_ok=True)
        (home / "config.toml").write_text(config)
        runtime = home / "run"
        runtime.mkdir(exist_ok=True)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("DRAGON_", "IPFS_", "ZEN_"))}
        self.env = {**inherited, "DRAGON_HOME": str(home), "NO_COLOR": "1", "TMPDIR": "/tmp", **(env or {})}
        if "HOME" not in (env or {}):  # whoever runs the tests may live on a station: that one is not ours to touch
            self.env.setdefault("ZEN_HOME", str(home / "no-station"))
        self.env.pop("XDG_RUNTIME_DIR", None)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        path = self.home / "serve.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def spawn(self, *flags: str) -> subprocess.Popen[bytes]:
        """Start `dragon serve` and return at once."""
        with (self.home / "serve.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self.enter, sys.executable, "-m", "dragon", "serve", *flags],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self.process

    def start(self, *flags: str) -> DragonNode:
        """Start and wait for `ready`."""
        before = self._announced()
        process = self.spawn(*flags)

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"dragon serve ended with {process.returncode}:\n{self.log}")
            return self._announced() > before

        wait_for(ready, START_BOUND, lambda: f"the node did not get ready:\n{self.log}")
        return self

    def _announced(self) -> int:
        return sum(line.startswith("ready: ") for line in self.log.splitlines())

    def run(self, *words: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run `dragon WORDS…` against this node."""
        return subprocess.run(
            [sys.executable, "-m", "dragon", *words], env=self.env, capture_output=True, text=True, timeout=timeout
        )

    def json(self, *words: str, timeout: float = 60.0) -> Any:
        """Run `dragon WORDS… --json`, which must succeed, and return what it printed."""
        done = self.run(*words, "--json", timeout=timeout)
        assert done.returncode == 0, f"dragon {' '.join(words)}: exit {done.returncode}\n{done.stderr}\n{self.log}"
        return json.loads(done.stdout)

    def terminate(self, timeout: float = 30.0) -> int:
        """Stop cleanly with SIGTERM and return the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def kill(self) -> None:
        """`kill -9` the node, and only the node: its Kubo stays behind."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def kubo_pid(self) -> int | None:
        """The process id of the node's managed Kubo daemon, found by its repo."""
        wanted = str(self.home / "kubo")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                command = (entry / "cmdline").read_bytes().split(b"\0")
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"daemon" in command and f"IPFS_PATH={wanted}".encode() in environment:
                return int(entry.name)
        return None

    def cleanup(self) -> None:
        """End the node and its Kubo, whatever state they are in."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(10)
        while (pid := self.kubo_pid()) is not None:
            os.kill(pid, signal.SIGKILL)
            time.sleep(0.1)


def wait_for(condition: Callable[[], Any], bound: float, otherwise: Callable[[], str] | str = "it did not happen") -> Any:
    """Return the first truthy value of `condition`; fail after `bound` seconds."""
    deadline = time.monotonic() + bound
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(otherwise() if callable(otherwise) else otherwise)
        time.sleep(0.05)


def config_text(
    *,
    alias: str,
    swarm: str,
    join: Sequence[str] = (),
    catalogue: str = 'only = ["ollama"]',
    tables: str = "",
) -> str:
    """The config.toml of an isolated test node."""
    return (
        f'[node]\nalias = "{alias}"\nswarm = "{swarm}"\nisolated = true\njoin = {json.dumps(list(join))}\n\n'
        f"[catalogue]\n{catalogue}\n\n{tables}\n"
    )

"""The stage of `dragon demo`: a temporary folder, nodes in it, and an end for everything that was started, whatever happens."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

from dragon.client import Control
from dragon.errors import LocalError, NotRunning
from dragon.home import Home
from dragon.kubo.ports import any_port

START_BOUND = 120.0
"""Seconds for a node to get ready: a second or two, and a minute on a machine that does three other things."""

STEP_BOUND = 60.0
"""Seconds for any step of the story, each of which usually takes far less than one."""

STOP_BOUND = 20.0
"""Seconds for a node to leave cleanly before it is killed; it takes a fraction of one."""

LOOK = 0.02
"""Seconds between two looks while waiting: small against what is being waited for."""

Found = TypeVar("Found")


class Node:
    """One `dragon serve` with a home of its own."""

    def __init__(self, alias: str, root: Path, swarm: str, binary: Path, join: list[str]) -> None:
        self.alias = alias
        self.home = Home(root / alias)
        self.port = any_port()
        """Where this node would look for an ollama of its own: each looks elsewhere, since all share this machine."""
        self.home.root.mkdir()
        self.home.config_file.write_text(_config(alias, swarm, join, self.port))
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DRAGON_", "IPFS_"))}
        self.environment = {**kept, "DRAGON_HOME": str(self.home.root), "DRAGON_KUBO_BINARY": str(binary)}
        self.control = Control(self.home)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, stage: Stage) -> None:
        """Start the node; from now on the end of the stage is its end too."""
        stage.callback(self.stop)
        with self.log.open("ab") as log, stage.undisturbed():
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dragon", "serve", "--quiet"],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which stops its nodes in order
            )

    def wait_until_ready(self) -> dict[str, Any]:
        """Return the node's status once it answers and has a peer id; `LocalError` with its last words when it ends instead."""

        def status() -> dict[str, Any] | None:
            assert self.process is not None
            if self.process.poll() is not None:
                raise LocalError(f"the node {self.alias} did not start: {self.last_words()}", "run: dragon doctor")
            with suppress(NotRunning):
                return self.control.status()
            return None

        found: dict[str, Any] = wait(status, START_BOUND, f"the node {self.alias} did not get up")
        return found

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `dragon WORDS…` as a user of this node."""
        return subprocess.run(
            [sys.executable, "-m", "dragon", *words], env=self.environment, capture_output=True, text=True, timeout=STEP_BOUND
        )

    def stop(self) -> None:
        """End the node, and its Kubo where the node could not."""
        from dragon.kubo.process import left_over

        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(STOP_BOUND)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if (pid := left_over(self.home.kubo_repo)) is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1] if lines else "it said nothing"

    @property
    def log(self) -> Path:
        return self.home.root / "serve.log"


class Stage(ExitStack):
    """A temporary folder `root` and the stack of what ends whatever was started there; both are cleared in any case.

    SIGTERM is as Ctrl-C meanwhile. A second Ctrl-C does not stop the clearing, which takes a second or two.
    """

    def __enter__(self) -> Stage:
        self._waits: bool | None = None
        """Whether an interruption waits for the end of an undisturbed block; `None` outside of one."""
        self._previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
        self.root = Path(tempfile.mkdtemp(prefix="dragon-demo-"))
        return self

    def __exit__(self, *error: Any) -> bool:
        for number in self._previous:
            signal.signal(number, signal.SIG_IGN)
        try:
            return bool(super().__exit__(*error))
        finally:
            shutil.rmtree(self.root, ignore_errors=True)
            for number, handler in self._previous.items():
                signal.signal(number, handler)

    @contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Let an interruption wait for the end of the block.

        Else it may come while a process is started and not yet known to whoever would end it.
        """
        self._waits = False
        try:
            yield
        finally:
            waits, self._waits = self._waits, None
        if waits:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._waits is None:
            raise KeyboardInterrupt
        self._waits = True


def _config(alias: str, swarm: str, join: list[str], port: int) -> str:
    evidence = "" if sys.platform == "linux" else 'evidence = ["port"]\n'  # elsewhere a process cannot name itself
    return (
        f'[node]\nalias = "{alias}"\nswarm = "{swarm}"\nisolated = true\njoin = {json.dumps(join)}\n\n'
        f'[astroport]\nenabled = "off"\n\n[catalogue]\nonly = ["ollama"]\n\n[catalogue.ollama]\nport = {port}\n{evidence}'
    )


def end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        process.wait()


def wait(condition: Callable[[], Found], bound: float, otherwise: str) -> Any:
    """Return the first truthy value of `condition`; `LocalError` after `bound` seconds."""
    deadline = time.monotonic() + bound
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise LocalError(f"{otherwise} within {bound:.0f} s", "run: dragon doctor")
        time.sleep(LOOK)
    return value

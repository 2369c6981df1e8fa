"""Real Kubo daemons on loopback, each with its own repo and ports, ended by pid.

They talk to nobody outside this machine: no bootstrap, resolvers, delegated routers or mDNS (KUBO.md says which settings).
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

START_BOUND = 60.0
"""Seconds a daemon may take on a busy machine; about 1 on an idle one."""

LOOPBACK_CONFIG: dict[str, Any] = {
    "Experimental": {"Libp2pStreamMounting": True},
    "Pubsub": {"Enabled": True},
    "Ipns": {"UsePubsub": True, "DelegatedPublishers": []},
    "Bootstrap": [],
    "AutoConf": {"Enabled": False},
    "DNS": {"Resolvers": {}},
    "Routing": {"Type": "dhtserver", "DelegatedRouters": []},
    "Swarm": {"RelayClient": {"Enabled": False}},
}


def merged(config: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `config` with `changes` laid over it, tables merged, everything else replaced."""
    result = dict(config)
    for key, value in changes.items():
        before = result.get(key)
        result[key] = merged(before, value) if isinstance(value, Mapping) and isinstance(before, dict) else value
    return result


@dataclass(slots=True)
class KuboDaemon:
    """One daemon. `repo` is made at the first start; `changes` are laid over the loopback configuration.

    `auth` is a secret of `API.Authorizations` in `changes`, for the command line tool.
    """

    binary: Path
    repo: Path
    changes: Mapping[str, Any] = field(default_factory=dict)
    features: bool = True
    auth: str = ""
    enter: Sequence[str] = ()
    """What comes before its commands: how a host of `tests.testbed.netns` is entered."""
    process: subprocess.Popen[bytes] | None = None
    api: str = ""
    node_id: str = ""

    @property
    def pid(self) -> int:
        assert self.process is not None, "the daemon was not started"
        return self.process.pid

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "IPFS_PATH": str(self.repo), "IPFS_TELEMETRY": "off"}

    @property
    def log(self) -> Path:
        return self.repo.with_name(self.repo.name + ".log")

    def init(self) -> None:
        """Make the repo; `features=False` leaves stream mounting and pubsub as Kubo ships them: off."""
        if (self.repo / "config").exists():
            return
        self.repo.mkdir(parents=True, exist_ok=True)
        self.ipfs("init", "--profile=test")
        base = LOOPBACK_CONFIG
        if not self.features:
            base = {key: value for key, value in base.items() if key not in ("Experimental", "Pubsub")}
            base["Ipns"] = {"DelegatedPublishers": []}
        path = self.repo / "config"
        config = merged(merged(json.loads(path.read_text()), base), self.changes)
        path.write_text(json.dumps(config, indent=2))

    def ipfs(self, *arguments: str, timeout: float = 60) -> str:
        """Run the command line tool on this repo and return what it printed."""
        secret = [f"--api-auth={self.auth}"] if self.auth else []
        done = subprocess.run(
            [*self.enter, self.binary, *secret, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"ipfs {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def start(self) -> KuboDaemon:
        """Start the daemon and return when its API answers; the ports stay the same after the first start."""
        assert self.process is None or self.process.poll() is not None, "the daemon runs already"
        self.init()
        (self.repo / "api").unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.enter, self.binary, "daemon"],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_BOUND
        while not self._ready():
            assert self.process.poll() is None, f"the daemon ended: {self.log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"the daemon did not start: {self.log.read_text()[-2000:]}"
            time.sleep(0.05)
        if not self.api:
            self.api = (self.repo / "api").read_text().strip()
            self._keep_ports()
        self.node_id = json.loads((self.repo / "config").read_text())["Identity"]["PeerID"]
        return self

    def _ready(self) -> bool:
        return (self.repo / "api").exists() and b"Daemon is ready" in self.log.read_bytes().rsplit(b"Initializing daemon", 1)[
            -1
        ]

    def _keep_ports(self) -> None:
        """Write the ports that the kernel chose into the config, so that a restart has the same addresses."""
        addresses = json.loads(self.ipfs("id"))["Addresses"] or []
        swarm = [each.split("/p2p/")[0] for each in addresses if each.startswith("/ip4/127.0.0.1/tcp/")]
        path = self.repo / "config"
        config = json.loads(path.read_text())
        config["Addresses"]["API"] = self.api
        config["Addresses"]["Swarm"] = swarm or config["Addresses"]["Swarm"]
        path.write_text(json.dumps(config, indent=2))

    @property
    def address(self) -> str:
        """The multiaddr others connect to."""
        swarm = json.loads((self.repo / "config").read_text())["Addresses"]["Swarm"]
        return f"{swarm[0]}/p2p/{self.node_id}"

    def signal(self, number: int) -> None:
        """Send a signal to the daemon and to nobody else."""
        assert self.process is not None
        if self.process.poll() is None:
            os.kill(self.process.pid, number)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Ask the daemon to end and do not wait: with an open subscription that takes 30 s."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the daemon at once, as a crash does; it is gone when this returns."""
        if self.process is not None:
            self.signal(signal.SIGKILL)
            self.process.wait(START_BOUND)

    def stop(self, grace: float = 5.0) -> None:
        """End the daemon: politely for `grace` seconds, then not; also after a failed start."""
        if self.process is None or self.process.poll() is not None:
            return
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            self.process.wait(grace)
        except subprocess.TimeoutExpired:
            self.kill()

    def connect(self, other: KuboDaemon) -> None:
        self.ipfs("swarm", "connect", other.address)


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that ended and that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[-1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def is_stopped(pid: int) -> bool:
    """Tell whether every thread of a process stands still: SIGSTOP returns before the last of them does."""
    states = [task.read_text().rsplit(")", 1)[-1].split()[0] for task in Path(f"/proc/{pid}/task").glob("*/stat")]
    return bool(states) and set(states) <= {"T", "t"}


async def until(condition: Any, bound: float = 30.0, every: float = 0.02) -> None:
    """Return when `condition()` (plain or async) holds; fail after `bound` seconds, which is generous on purpose."""
    deadline = time.monotonic() + bound
    while True:
        held = condition()
        if asyncio.iscoroutine(held):
            held = await held
        if held:
            return
        assert time.monotonic() < deadline, f"did not come true within {bound} s"
        await asyncio.sleep(every)

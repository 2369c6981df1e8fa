"""Stations as they are in the field: a host of its own, its own running Kubo, a HOME with a `~/.zen`, Dragon or only scripts.

with Stations(folder, binary) as stations:
    a = stations.add("alpha")                 # Kubo and files; nothing of Dragon yet
    a.serve()                                 # `dragon serve`, on the station's own Kubo
    a.bash("x_ollama.sh")                     # a script of its balise or cache, with `ipfs` on PATH and nothing else
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.testbed.kubo import KuboDaemon
from tests.testbed.netns import Host, Network
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.services import RunningService, start_service
from tests.unit.connect.sockets import get

OLLAMA = 11434
UPLANET = "g1P5WrGVpqGaEYuGkD4osfxPscfk6uBUqeYh44i2nW65oGGaK"
"""What a UPlanet is known by: a Ğ1 address, of a key made for the tests."""

ORIGIN = "/key/swarm/psk/1.0.0/\n/base16/\n" + "0" * 64 + "\n"
"""The all-zero key that the Bash DRAGON writes."""

MODULES = """\
# name|port|check|install_group|label
ollama|11434|pgrep:ollama|gpu-ai|Ollama LLM API
qdrant|6333|auto|ai-company|Qdrant VectorDB
leann|-|-|leann|LEANN
"""

CATALOGUE = 'only = ["ollama", "qdrant", "strfry"]'


class Station:
    """One host with the layout of an Astroport. `kubo` runs from the start; `node` exists once `serve` was called."""

    def __init__(
        self, host: Host, folder: Path, binary: Path, alias: str, stack: ExitStack, swarm_key: str, features: bool
    ) -> None:
        self.host, self.alias, self.folder, self._stack = host, alias, folder, stack
        self.home = folder / "home"
        self.zen = self.home / ".zen"
        self.bin = folder / "bin"
        self.bin.mkdir(parents=True)
        (self.bin / "ipfs").symlink_to(binary)
        changes = {
            "Addresses": {"Swarm": [f"/ip4/{host.address}/tcp/4001"]},
            "Swarm": {"AddrFilters": [], "DisableNatPortMap": True},
        }
        self.kubo = KuboDaemon(binary, self.home / ".ipfs", changes=changes, enter=host.enter, features=features)
        self.node: DragonNode | None = None
        stack.callback(self.kubo.stop)
        self.kubo.init()
        if swarm_key:
            (self.kubo.repo / "swarm.key").write_text(swarm_key)
        self.kubo.start()
        self.lay_out()

    @property
    def id(self) -> str:
        return self.kubo.node_id

    @property
    def tmp(self) -> Path:
        return self.zen / "tmp"

    @property
    def balise(self) -> Path:
        return self.tmp / self.id

    @property
    def swarm(self) -> Path:
        return self.tmp / "swarm"

    @property
    def environment(self) -> dict[str, str]:
        """What a shell of this station has: `ipfs` on PATH, its HOME, and nothing of Dragon."""
        path = os.pathsep.join((str(self.bin), "/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"))
        return {"PATH": path, "HOME": str(self.home), "USER": "astro", "LANG": "C.UTF-8"}

    def lay_out(self) -> None:
        """Make the files that a station has before anything of it runs."""
        captain = f"captain@{self.alias}.example"
        player = self.zen / "game" / "players" / captain
        player.mkdir(parents=True)
        (player / ".player").write_text(captain)
        (self.zen / "game" / "players" / ".current").symlink_to(player)
        (self.zen / "game" / "nostr" / captain).mkdir(parents=True)
        (self.zen / "game" / "nostr" / captain / "HEX").write_text("ca" * 32)
        number = f"{int(self.host.address.rpartition('.')[2]):02x}"
        (self.zen / "game" / "secret.nostr").write_text(f"NSEC=nsec1secret; NPUB=npub1public; HEX={number * 32}\n")
        programs = self.zen / "Astroport.ONE"
        (programs / "IA" / "services").mkdir(parents=True)
        (programs / "IA" / "modules.list").write_text(MODULES)
        self.set_env()
        self.tmp.mkdir()

    def set_env(self, private: str = "qdrant") -> None:
        """Write the station's `.env`."""
        (self.zen / "Astroport.ONE" / ".env").write_text(
            f'UPLANETG1PUB="{UPLANET}"\nDRAGON_PRIVATE_SERVICES="{private}"\nPAF=14\n'
        )

    # -- Dragon -------------------------------------------------------------------------------------------------------

    def serve(self, *, tables: str = "", catalogue: str = CATALOGUE, wait: bool = True) -> DragonNode:
        """Start `dragon serve` as this station's user would: nothing names the daemon or the station."""
        config = f'[node]\nalias = "{self.alias}"\nswarm = "stations"\n\n[catalogue]\n{catalogue}\n\n{tables}\n'
        self.node = DragonNode(self.folder / "dragon", config, env=self.environment, enter=self.host.enter)
        self.node.env.pop("XDG_DATA_HOME", None)
        self._stack.callback(self.node.cleanup)
        if wait:
            self.node.start()
        else:
            self.node.spawn()
        return self.node

    @property
    def dragon(self) -> DragonNode:
        assert self.node is not None, "serve() first"
        return self.node

    def sees(self, other: Station) -> Mapping[str, Any] | None:
        """What this station's node shows of another station, None when it does not know it."""
        return next((peer for peer in self.dragon.json("peers") if peer["id"] == other.id), None)

    # -- without Dragon -----------------------------------------------------------------------------------------------

    def bash(self, script: str | Path, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a script by plain bash on this host, from the root folder, with the station's environment."""
        return subprocess.run(
            [*self.host.enter, "bash", str(script), *words],
            env=self.environment, cwd="/", capture_output=True, text=True, timeout=timeout, check=False,
        )  # fmt: skip

    def ipfs(self, *words: str, timeout: float = 60) -> str:
        return self.kubo.ipfs(*words, timeout=timeout)

    def publish_by_hand(self) -> None:
        """Publish the balise as `_12345.sh` does: everything but dotted names, under the node's own name."""
        files = [str(path) for path in sorted(self.balise.iterdir()) if not path.name.startswith(".")]
        cid = self.ipfs("add", "-rwq", *files).split()[-1]
        self.ipfs("name", "publish", "--allow-offline", "--lifetime=24h", "--ttl=30m", f"/ipfs/{cid}")

    def pretend_running(self, script: str) -> subprocess.Popen[bytes]:
        """Run a process that looks like one of the station's scripts and does nothing."""
        folder = self.folder / "pretend"
        folder.mkdir(exist_ok=True)
        path = folder / script
        path.write_text("read -r forever\n")
        process = subprocess.Popen(
            [*self.host.enter, "bash", str(path)], env=self.environment, stdin=subprocess.PIPE, start_new_session=True
        )
        self._stack.callback(_end, process)
        return process

    # -- services -----------------------------------------------------------------------------------------------------

    def run_service(self, name: str = "ollama", port: int = OLLAMA, **options: Any) -> RunningService:
        """Start a service on this host's loopback."""
        service = start_service("http", name=name, home=self.folder / "services", port=port, enter=self.host.enter, **options)
        return self._stack.enter_context(service)

    def ask(self, port: int, path: str = "/whoami") -> Any:
        """Return the JSON that a service answers on this host's loopback."""
        return json.loads(self.host.run(partial(get, port, path)))


class Stations:
    """Stations on one network, each connected with the first."""

    def __init__(self, folder: Path, binary: Path) -> None:
        self._folder, self._binary = folder, binary
        self._stack = ExitStack()
        self.all: list[Station] = []

    def __enter__(self) -> Stations:
        self._network = self._stack.enter_context(Network())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def add(self, alias: str, *, binary: Path | None = None, swarm_key: str = "", features: bool = True) -> Station:
        """Return one more station, its Kubo running and connected; `swarm_key` makes its network a private one, without
        `features` it is as Kubo ships it: no tunnels, no pubsub."""
        folder = self._folder / alias
        station = Station(self._network.host(), folder, binary or self._binary, alias, self._stack, swarm_key, features)
        for other in self.all:
            station.kubo.connect(other.kubo)
        self.all.append(station)
        return station


def wipe(folder: Path) -> None:
    """Empty a folder as 20h12.process.sh does: everything in it, the folder stays. Somebody may be writing there meanwhile."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    if process.stdin is not None:
        process.stdin.close()


__all__ = ["OLLAMA", "ORIGIN", "Station", "Stations", "wait_for", "wipe"]

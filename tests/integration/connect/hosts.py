"""A consumer and two providers on hosts of their own: each with its Kubo daemon, its Dragon node and the links between them."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from tests.testbed.kubo import KuboDaemon
from tests.testbed.netns import Host, Network
from tests.testbed.node import DragonNode, wait_for
from tests.testbed.services import RunningService, start_service
from tests.unit.connect.sockets import get

SERVICE_PORT = 11434
NAMES = ("alpha", "beta")


class Hosts:
    """A consumer and two providers, each on a host of its own."""

    def __init__(self, folder: Path, binary: Path, stack: ExitStack) -> None:
        network = stack.enter_context(Network())
        self.hosts: list[Host] = []
        self.daemons: list[KuboDaemon] = []
        self.nodes: list[DragonNode] = []
        self.services: list[RunningService] = []
        for number, alias in enumerate(("me", *NAMES)):
            host = network.host()
            changes = {
                "Addresses": {"Swarm": [f"/ip4/{host.address}/tcp/4001"]},
                "Swarm": {"AddrFilters": [], "DisableNatPortMap": True},
            }
            daemon = KuboDaemon(binary, folder / f"k{number}", changes=changes, enter=host.enter)
            stack.callback(daemon.stop)
            daemon.start()
            join = [self.daemons[0].address] if self.daemons else []
            config = (
                f'[node]\nalias = "{alias}"\nswarm = "cut"\njoin = {json.dumps(join)}\n\n[kubo]\napi = "{daemon.api}"\n\n'
                f'[catalogue]\nonly = ["ollama"]\n'
            )
            node = DragonNode(folder / alias, config, env={"DRAGON_KUBO_BINARY": str(binary)}, enter=host.enter)
            stack.callback(node.cleanup)
            if number:
                service = start_service("http", name="ollama", home=folder / alias, port=SERVICE_PORT, enter=host.enter)
                self.services.append(stack.enter_context(service))
            self.hosts.append(host)
            self.daemons.append(daemon)
            self.nodes.append(node.start())
        self.me, self.host = self.nodes[0], self.hosts[0]
        wait_for(lambda: self.offered() == set(NAMES), 60, lambda: f"{self.me.json('peers')}\n{self.me.log}")

    def offered(self) -> set[str]:
        """The aliases of those whom the consumer's node holds for live providers."""
        listing = self.me.json("services")
        return {each["alias"] for one in listing for each in one["providers"] if each["state"] == "live"}

    def provider_of(self, port: int) -> int:
        """The number of the host whose provider the forward leads to."""
        (info,) = [each for each in self.me.json("forwards") if each["port"] == port]
        ids = [node.json("status")["id"] for node in self.nodes]
        return ids.index(info["provider"])

    def ask(self, port: int) -> int:
        """Return the process id of the service that answers on the consumer's port."""
        return int(json.loads(self.host.run(partial(get, port, "/whoami")))["pid"])

    def mend(self, number: int) -> None:
        """Join a host again, and wait until the consumer offers both providers."""
        self.hosts[number].mend()
        self.daemons[0].connect(self.daemons[number])  # libp2p waits longer and longer between attempts of its own
        wait_for(lambda: self.offered() == set(NAMES), 90, lambda: f"{self.me.json('peers')}\n{self.me.log}")

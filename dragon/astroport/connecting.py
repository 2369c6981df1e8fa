"""From a command to a connection: which of the node's forwards is asked for, on which port, in which order.

A service has one connection of ours, the one its status file tells of. A new one takes its port, but only once the new one is
known to work; forwards that others opened are never touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from dragon.astroport.environment import Environment
from dragon.astroport.nodes import Node, nodes_of, pick
from dragon.astroport.queue import LIMITS, USUAL_LIMIT, busy_line, jobs_at
from dragon.astroport.services import Service
from dragon.astroport.status_file import Connection, StatusFile, node_hex_of, port_in
from dragon.astroport.words import Best, Command, Target
from dragon.errors import DragonError, HomeError, LocalError, NoProvider, NotRunning, PortInUse, UsageError

Document = dict[str, Any]
Say = Callable[[str], None]


class Control(Protocol):
    """What is asked of the running node: `dragon.client.Control`."""

    def services(self, slug: str | None = None) -> list[Document]: ...

    def forward(
        self, slug: str, target: str = "auto", *, via: str | None = None, port: int | None = None, strategy: str | None = None
    ) -> Document: ...

    def forwards(self) -> list[Document]: ...

    def off(self, slug: str | None = None, *, port: int | None = None) -> int: ...

    def check(self, slug: str, *, port: int | None = None, via: str | None = None) -> Document: ...

    def explain(self, slug: str) -> Document: ...

    def peers(self) -> list[Document]: ...


class Connector:
    """Opens the connections of one service. `say` gets what a person is told on the way, `warn` what went wrong besides."""

    def __init__(
        self,
        control: Control,
        service: Service,
        environment: Environment,
        *,
        say: Say,
        warn: Say,
        jobs: Callable[[int], int | None] = jobs_at,
    ) -> None:
        self._control = control
        self._service = service
        self._environment = environment
        self._say = say
        self._warn = warn
        self._jobs = jobs
        self.file = StatusFile(environment.zen, service.slug)

    def connect(self, command: Command) -> Connection:
        """Return a connection as `command` asks for, told in the status file. Raises `LocalError`s when there is none."""
        limit = LIMITS.get(command.verb, USUAL_LIMIT)
        match command.verb:
            case "local":
                document = self._open("local")
            case "ssh":
                document = self._over_ssh(("ssh6", "ssh4"))
            case "ssh6" | "ssh4":
                document = self._over_ssh((command.verb,))
            case "p2p":
                document = self._over_p2p(command.target, limit)
            case _:
                document = self._as_it_comes(limit)
        connection = connection_of(self._service.slug, document)
        self._tell(connection)
        return connection

    def standing(self) -> Document | None:
        """Return the open forward that the status file tells of, None when there is none."""
        port = port_in(self.file.read())
        if port is None:
            return None
        return next((one for one in self._control.forwards() if one["port"] == port and not one.get("raw")), None)

    # -- ways ---------------------------------------------------------------------------------------------------------

    def _as_it_comes(self, limit: int) -> Document:
        """Connect to what stands already, else as the node's cascade says."""
        environment = self._environment
        standing = self.standing()
        if standing is not None and self._serves(standing):
            return standing
        if environment.without_p2p:
            return self._without_p2p()
        here = self._answers_here()
        if here is not None and "local" in self._control.explain(self._service.slug)["cascade"]:
            wished = environment.port or (self._service.usual_port if self._service.insists else None)
            if wished in (None, here["port"]):
                return here
        if environment.p2p_port is not None:  # a port for P2P only: what this machine serves itself keeps its own
            try:
                return self._open("local")
            except NoProvider:
                pass
        return self._unless_busy(self._replace(standing, None, Best()), limit)

    def _without_p2p(self) -> Document:
        why = self._environment.without_p2p
        try:
            return self._open("local")
        except NoProvider as error:
            here = error
        try:
            return self._over_ssh(("ssh6", "ssh4"))
        except (NoProvider, UsageError):
            raise NoProvider(str(here), f"the swarm is left out, because {why}") from here

    def _over_ssh(self, routes: Sequence[str]) -> Document:
        refused: list[LocalError] = []
        for route in routes:
            try:
                return self._open(route)
            except NotRunning:
                raise
            except LocalError as error:
                refused.append(error)
        usage = [error for error in refused if isinstance(error, UsageError)]
        if len(usage) == len(refused):
            raise usage[0]
        failed = [error for error in refused if not isinstance(error, UsageError)]
        raise NoProvider("; ".join(dict.fromkeys(map(str, failed))), failed[0].hint)

    def _over_p2p(self, target: Target, limit: int) -> Document:
        if why := self._environment.without_p2p:
            raise UsageError(f"P2P is switched off by {why}", "unset it to use the swarm")
        nodes = nodes_of(self._control.services(self._service.slug))
        others = [node for node in nodes if not node.is_self]
        if not isinstance(target, Best):
            return self._open("p2p", pick(target, nodes, self._service.slug))
        if not others:
            raise NoProvider(
                f"No {self._service.slug} nodes found in swarm", "`dragon peers` lists the nodes; wait for one that offers it"
            )
        if len(others) > 1:
            self._say(f"{len(others)} nodes offer {self._service.slug}:")
            for line in node_lines(others):
                self._say(line)
        return self._unless_busy(self._open("p2p", target), limit, others)

    # -- ports --------------------------------------------------------------------------------------------------------

    def _open(self, route: str, target: Node | Best | None = None) -> Document:
        """Return the standing forward where it leads there, else a new one."""
        standing = self.standing()
        if standing is not None and self._leads_to(standing, route, target) and self._serves(standing):
            return standing
        return self._replace(standing, route, target)

    def _replace(self, standing: Document | None, route: str | None, target: Node | Best | None) -> Document:
        """Return a new forward on the port that callers know, of which the standing one makes way once this one works."""
        wished = self._wished_port(route)
        if standing is not None and wished in (None, standing["port"]):
            proof = self._ask(route, target, None)
            self._control.off(self._service.slug, port=int(standing["port"]))
            if not proof.get("reused", True):
                self._control.off(self._service.slug, port=int(proof["port"]))
        if wished is None and self._service.insists:
            try:
                return self._ask(route, target, self._service.usual_port)
            except PortInUse:
                pass
        return self._ask(route, target, wished)

    def _ask(self, route: str | None, target: Node | Best | None, port: int | None) -> Document:
        named = target.node_id if isinstance(target, Node) else "auto"
        strategy = None
        if not self._environment.balance:
            strategy = "first"
        elif isinstance(target, Best) and target.random:
            strategy = "random"
        try:
            return self._control.forward(self._service.slug, named, via=route, port=port, strategy=strategy)
        except NoProvider:
            here = self._answers_here() if route in (None, "local") and not isinstance(target, Node) else None
            if here is None:
                raise
            return here

    def _answers_here(self) -> Document | None:
        """Return the service of this machine that answers, also one that is offered to nobody: private, or run in a way of its
        own."""
        try:
            checked = self._control.check(self._service.slug, via="local")
        except NoProvider:
            return None
        return checked if checked["ok"] else None

    def _wished_port(self, route: str | None) -> int | None:
        environment = self._environment
        return environment.port if route not in (None, "p2p") else environment.p2p_port or environment.port

    def _leads_to(self, standing: Document, route: str | None, target: Node | Best | None) -> bool:
        if route is not None and standing["route"] != route:
            return False
        if isinstance(target, Node):
            return bool(standing["provider"] == target.node_id)
        return not (isinstance(target, Best) and target.random)

    def _serves(self, standing: Document) -> bool:
        """Tell whether the standing connection is allowed, where the caller expects it, and works."""
        route, port = str(standing["route"]), int(standing["port"])
        if route == "p2p" and self._environment.without_p2p:
            return False
        if self._wished_port(route) not in (None, port):
            return False
        try:
            checked = self._control.check(self._service.slug, port=port)
        except NoProvider:
            return False
        return bool(checked["ok"]) and checked["port"] == port

    # -- comfyui's queues ---------------------------------------------------------------------------------------------

    def _unless_busy(self, first: Document, limit: int, others: Sequence[Node] | None = None) -> Document:
        """Return `first`, or where its node has too many jobs waiting, the next one that has not. Only for comfyui over P2P.

        A connection that stood before is kept whatever its queue: its user must stay on one node. Where nobody's queue can be
        read, none is known to be too long, and the first is as good as any.
        """
        if self._service.slug != "comfyui" or first["route"] != "p2p" or first.get("reused", True):
            return first
        waiting = {str(first["provider"]): self._jobs(int(first["port"]))}
        current, nodes = first, list(others or [])
        while (jobs := waiting[str(current["provider"])]) is None or jobs > limit:
            self._control.off(self._service.slug, port=int(current["port"]))
            nodes = nodes or [node for node in nodes_of(self._control.services(self._service.slug)) if not node.is_self]
            ranked = sorted(nodes, key=lambda node: (node.trust != "signed", node.load, node.n))
            opened = None
            for node in [node for node in ranked if node.node_id not in waiting]:
                try:
                    opened = self._open("p2p", node)
                except NotRunning:
                    raise
                except LocalError as error:
                    self._warn(f"{node.alias}: {error}")
                    waiting[node.node_id] = None
                else:
                    waiting[node.node_id] = self._jobs(int(opened["port"]))
                    break
            if opened is None:
                return self._though_unasked(str(first["provider"]), waiting, nodes)
            current = opened
        return current

    def _though_unasked(self, first: str, waiting: Mapping[str, int | None], nodes: Sequence[Node]) -> Document:
        """Return a connection to the node that was `first` where no queue could be read; `NoProvider` where one is too long."""
        node = next((node for node in nodes if node.node_id == first), None)
        if node is None or any(jobs is not None for jobs in waiting.values()):
            names = {node.node_id: node.alias for node in nodes}
            raise NoProvider(f"every {self._service.slug} node is busy: {busy_line(waiting, names)}", "try again later")
        self._warn(f"nobody tells how long a {self._service.slug} queue is; {node.alias} is taken all the same")
        return self._open("p2p", node)

    # -- the file -----------------------------------------------------------------------------------------------------

    def _tell(self, connection: Connection) -> None:
        """Write the status file. A connection that stands is a success, also where it cannot be told of."""
        node_hex = ""
        if connection.service == "comfyui":
            node_hex = node_hex_of(self._station(connection.provider), self._environment.zen, connection.provider)
        try:
            self.file.write(connection, node_hex)
        except HomeError as error:
            self._warn(f"connected, but the status file could not be written: {error}")

    def _station(self, node_id: str) -> Mapping[str, object]:
        try:
            return next((dict(peer.get("station") or {}) for peer in self._control.peers() if peer["id"] == node_id), {})
        except DragonError:
            return {}


def connection_of(service: str, document: Mapping[str, Any]) -> Connection:
    return Connection(service, str(document["provider"]), str(document["route"]), int(document["port"]), str(document["url"]))


def node_lines(nodes: Sequence[Node]) -> list[str]:
    """Return one aligned line for each node: number, alias, id, health, load, what it has, and that it does not sign."""
    rows = [
        (str(node.n), node.alias, node.node_id, node.health, f"load {node.load:.2f}", " ".join(_having(node))) for node in nodes
    ]
    wide = [max(len(row[column]) for row in rows) for column in range(6)]
    return [f"  {row[0]:>{wide[0]}}  " + "  ".join(f"{row[c]:{wide[c]}}" for c in range(1, 6)).rstrip() for row in rows]


def _having(node: Node) -> list[str]:
    return [*node.models_and_gpus(), *(["(ipns)"] if node.trust == "ipns" else [])]

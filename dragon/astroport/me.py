"""`dragon me`: one command of a connection manager, from its words to its exit code, which is 0 or 1."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from dragon.astroport.connecting import Connector, Control, Document, Say, connection_of, node_lines
from dragon.astroport.environment import read
from dragon.astroport.nodes import nodes_of
from dragon.astroport.own import speak
from dragon.astroport.services import Service, service_named
from dragon.astroport.status_file import Connection, port_in
from dragon.astroport.veteran import note_success
from dragon.astroport.words import CONNECTING, Command, help_lines, parse
from dragon.errors import DragonError, HomeError, LocalError, NoProvider, NotRunning
from dragon.text import complaint


def run(control: Control, name: str, words: Sequence[str], variables: Mapping[str, str], say: Say, warn: Say) -> int:
    """Do what `words` ask of the service called `name`; return 0 when it was done, or is so, else 1.

    `variables` is the caller's environment. `say` gets the lines of the answer, `warn` those of what went wrong.
    """
    try:
        service = service_named(name)
        command = parse(service, words)
        if command.verb == "help":
            for line in help_lines(service):
                say(line)
            return 0
        manager = Manager(control, service, variables, say, warn)
    except DragonError as error:
        warn(line_of(error))
        return 1
    try:
        return manager.obey(command)
    except DragonError as error:
        if command.verb in CONNECTING:
            warn(service.failure)
        warn(line_of(error))
        return 1


class Manager:
    """The connection manager of one service."""

    def __init__(self, control: Control, service: Service, variables: Mapping[str, str], say: Say, warn: Say) -> None:
        self._control = control
        self._service = service
        self._environment = read(variables, service)
        self._connector = Connector(control, service, self._environment, say=say, warn=warn)
        self._say = say
        self._warn = warn

    def obey(self, command: Command) -> int:
        if command.verb in CONNECTING:
            connection = self._connector.connect(command)
            for line in ready_lines(self._service, connection):
                self._say(line)
            return 0
        match command.verb:
            case "status":
                return self._status()
            case "test":
                return self._test()
            case "scan":
                return self._scan()
            case "off":
                return self._off()
            case _:
                return self._own(command)

    def _status(self) -> int:
        try:
            checked = self._current()
        except NotRunning:
            raise
        except NoProvider as error:
            self._say(f"{self._service.name}: not connected")
            raise error
        connection = connection_of(self._service.slug, checked)
        if not checked["ok"]:
            raise NoProvider(
                f"{self._service.name} at {connection.shown_url} does not work: {checked['detail']}",
                f"connect anew: dragon me {self._service.slug}",
            )
        self._say(ready_lines(self._service, connection)[-1])
        if connection.route != "local":
            self._say(f"  node   {connection.provider}")
        told = self._connector.file.read()
        if port_in(told) == connection.port and "CONNECTION_TIME" in told:
            self._say(f"  since  {told['CONNECTION_TIME']}")
        self._say(f"  test   {tested(checked)}")
        return 0

    def _test(self) -> int:
        checked = self._current()
        connection = connection_of(self._service.slug, checked)
        if not checked["ok"]:
            raise LocalError(
                f"{self._service.name} API at {connection.shown_url}: {checked['detail']}",
                f"connect anew: dragon me {self._service.slug}",
            )
        self._say(f"{self._service.name} API answers at {connection.shown_url}: {tested(checked)}")
        if self._service.slug == "qdrant":
            try:
                note_success(self._environment.zen, time.time())
            except HomeError as error:  # the service answers all the same
                self._warn(line_of(error))
        return 0

    def _scan(self) -> int:
        slug = self._service.slug
        nodes = nodes_of(self._control.services(slug)) if self._environment.discovery else []
        try:
            here = self._control.check(slug, via="local")
        except NoProvider:
            here = None
        runs_here = here is not None and bool(here["ok"])
        place = f"port {here['port']}" if here is not None and runs_here else "no"
        self._say(f"{self._service.name} here: {place}")
        others = [node for node in nodes if not node.is_self]
        if others:
            self._say(f"{self._service.name} in the swarm:")
            for line in node_lines(others):
                self._say(line)
        elif not self._environment.discovery:
            self._say(f"the swarm is left out, because {self._environment.without_p2p}")
        else:
            self._say(f"No {slug} nodes found in swarm")
        methods = [f"LOCAL={_flag(runs_here)}"]
        if self._service.ssh:
            methods.append(f"SSH={_flag(self._has_ssh())}")
        methods.append(f"P2P={_flag(bool(others) and not self._environment.without_p2p)}")
        self._say(f"Available methods: {' '.join(methods)}")
        return 0

    def _off(self) -> int:
        try:
            closed = self._control.off(self._service.slug)
        finally:  # also without a node: then nothing of it is open, and the file would lie
            self._connector.file.remove()
        self._say(f"{self._service.name}: {f'closed {closed}' if closed else 'nothing of ours was open'}")
        return 0

    def _own(self, command: Command) -> int:
        port = int(self._current()["port"])
        for line in speak(self._service, command.verb, port):
            self._say(line)
        return 0

    def _current(self) -> Document:
        """Return what is connected now, tested. Raises `NoProvider` when nothing is."""
        return self._control.check(self._service.slug, port=port_in(self._connector.file.read()))

    def _has_ssh(self) -> bool:
        cascade = self._control.explain(self._service.slug)["cascade"]
        return any(route in cascade for route in ("ssh6", "ssh4"))


def ready_lines(service: Service, connection: Connection) -> list[str]:
    """Return what is said of a connection; the last line is the one that callers know."""
    ready = f"{service.name} API ready"
    match connection.route:
        case "local":
            return [f"{ready} at {connection.shown_url}"]
        case "p2p":
            return [f"Connected to {connection.provider} via IPFS P2P", f"{ready} via P2P at {connection.shown_url}"]
    return [f"{ready} via SSH at {connection.shown_url}"]


def line_of(error: DragonError) -> str:
    """Return an error as the one line that every command prints."""
    return complaint(str(error), error.hint if isinstance(error, LocalError) else "")


def tested(checked: Document) -> str:
    return f"{checked['detail']} ({checked['rtt_ms']:.0f} ms)"


def _flag(truth: bool) -> str:
    return "Y" if truth else "N"

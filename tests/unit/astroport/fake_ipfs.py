"""An `ipfs` for scripts under test: a program on a PATH of its own that asks this process, which holds real ports."""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

PROGRAM = """#!/bin/bash
exec 3<>/dev/tcp/127.0.0.1/{port}
printf '%s\\n' "$#" "$@" >&3
read -r code <&3
while IFS= read -r line <&3; do printf '%s\\n' "$line"; done
exit "$code"
"""
"""In bash: it starts ten times as fast as Python, and a script under test calls it dozens of times."""


@dataclass
class FakeIpfs:
    """Tunnels as `ipfs p2p ls` lists them, `(protocol, listen, target)`; ports on loopback are really bound.

    `reachable`: whether pings are answered. `alive`: whether there is a daemon. `binds`: whether a forward that it takes binds.
    """

    folder: Path
    reachable: bool = True
    alive: bool = True
    binds: bool = True
    tunnels: list[tuple[str, str, str]] = field(default_factory=list)
    calls: list[list[str]] = field(default_factory=list)
    _sockets: dict[str, socket.socket] = field(default_factory=dict)

    def __enter__(self) -> FakeIpfs:
        self.folder.mkdir(parents=True, exist_ok=True)
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                count = int(self.rfile.readline())
                code, said = outer.answer([self.rfile.readline().decode().removesuffix("\n") for _ in range(count)])
                self.wfile.write(f"{code}\n{said}".encode())

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        program = self.path / "ipfs"
        self.path.mkdir()
        program.write_text(PROGRAM.format(port=self._server.server_address[1]))
        program.chmod(0o755)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for each in self._sockets.values():
            each.close()

    @property
    def path(self) -> Path:
        """The folder for PATH: nothing but `ipfs` is in it."""
        return self.folder / "bin"

    def answer(self, words: list[str]) -> tuple[int, str]:
        self.calls.append(words)
        words = [word for word in words if not word.startswith("--timeout=")]
        if not self.alive:
            return 1, "Error: no IPFS repo found\n"
        match words:
            case ["ping", "-n", _, _]:
                return (0, "Pong\n") if self.reachable else (1, "Error: ping failed\n")
            case ["p2p", "ls"]:
                return 0, "".join(f"{protocol}   {listen} {target}\n" for protocol, listen, target in self.tunnels)
            case ["p2p", "forward", protocol, listen, target]:
                return self._forward(protocol, listen, target)
            case ["p2p", "close", *options]:
                return self._close(dict(zip(options[::2], options[1::2], strict=True)))
        return 2, f"Error: unknown {words}\n"

    def _forward(self, protocol: str, listen: str, target: str) -> tuple[int, str]:
        if self.binds:
            _, _, host, _, port = listen.split("/")
            try:
                self._sockets[listen] = socket.create_server((host, int(port)))
            except OSError as error:
                return 1, f"Error: {error}\n"
        self.tunnels.append((protocol, listen, target))
        return 0, ""

    def _close(self, wanted: dict[str, str]) -> tuple[int, str]:
        place = {"-p": 0, "-l": 1, "-t": 2}
        gone = [each for each in self.tunnels if all(each[place[option]] == value for option, value in wanted.items())]
        for each in gone:
            self.tunnels.remove(each)
            with suppress(KeyError):
                self._sockets.pop(each[1]).close()
        return 0, f"Closed {len(gone)} stream(s)\n"

"""Hosts of the tests' own: network namespaces joined by a bridge, from which nothing else can be reached. Needs root on Linux.

    with Network() as network:
        a, b = network.host(), network.host()             # 10.77.0.1, 10.77.0.2; loopback of their own
        subprocess.Popen([*b.enter, "program"])           # as a process of that host
        a.run(main)                                       # a coroutine function in this process, its sockets in that host
        b.lose(0.1)                                       # a tenth of what it sends (not with netem: not every kernel has it)
        b.cut(); b.mend()

Every host, and the wire between them, is held open by a process that the kernel ends with this one, however that ends; the
namespaces are without names and vanish with whoever is in them, so nothing can be left behind.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tests.testbed.packages import program

T = TypeVar("T")

NET = "10.77.0"
SWITCH = "switch"
CLONE_NEWNET = 0x40000000
PROGRAMS = ("ip", "iptables", "nsenter", "unshare", "setpriv")


def unable() -> str | None:
    """Return why this machine cannot have such hosts, None when it can."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        return "network namespaces need Linux and root"
    missing = [name for name in PROGRAMS if program(name) is None]
    return f"{', '.join(missing)} not installed" if missing else None


def _tool(name: str) -> str:
    path = program(name)
    assert path is not None, name
    return path


class _Space:
    """A network and pid namespace, held by a process that does nothing else."""

    def __init__(self) -> None:
        command = [
            _tool("setpriv"), "--pdeathsig", "KILL",
            _tool("unshare"), "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
            "sh", "-c", "echo up; exec sleep 86400",
        ]  # fmt: skip
        self._holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"up\n":
            self.close()
            raise RuntimeError("no network namespace could be made")
        children = Path(f"/proc/{self._holder.pid}/task/{self._holder.pid}/children").read_text().split()
        self.pid = int(children[0])
        self.enter = [_tool("nsenter"), "--target", str(self.pid), "--net"]
        self.do("ip", "link", "set", "lo", "up")

    def do(self, tool: str, *words: str) -> None:
        """Run a tool here; its own words when it fails."""
        done = subprocess.run([*self.enter, _tool(tool), *words], capture_output=True, text=True, timeout=30, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{tool} {' '.join(words)}: {done.stderr.strip()}")

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()
        if self._holder.stdout is not None:
            self._holder.stdout.close()


class Host:
    """One host. `enter` before a command makes it a process there, which also ends with its parent."""

    def __init__(self, space: _Space, switch: _Space, port: str, address: str) -> None:
        self._space = space
        self._switch = switch
        self._port = port
        self.address = address
        self.enter = [*space.enter, _tool("setpriv"), "--pdeathsig", "KILL"]

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what `main()` returns, run in a thread of its own whose sockets are this host's."""
        result: list[T] = []
        trouble: list[BaseException] = []

        def inside() -> None:
            try:
                self._join()
                result.append(asyncio.run(main()))
            except BaseException as error:
                trouble.append(error)

        thread = threading.Thread(target=inside)
        thread.start()
        thread.join()
        if trouble:
            raise trouble[0]
        return result[0]

    def _join(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with Path(f"/proc/{self._space.pid}/ns/net").open() as space:
            if libc.setns(space.fileno(), CLONE_NEWNET) != 0:  # of this thread only
                raise OSError(ctypes.get_errno(), "setns")

    def lose(self, share: float) -> None:
        """Lose this share (0 to 1) of the packets that leave this host, at random; 0: none any more."""
        self._space.do("iptables", "-F", "OUTPUT")
        if share:
            chance = ("-m", "statistic", "--mode", "random", "--probability", str(share))
            self._space.do("iptables", "-A", "OUTPUT", "-o", "net0", *chance, "-j", "DROP")

    def cut(self) -> None:
        """Cut the link as a cable pulled behind the next switch does: both sides send into nothing, nobody is told."""
        self._switch.do("ip", "link", "set", self._port, "nomaster")

    def mend(self) -> None:
        self._switch.do("ip", "link", "set", self._port, "master", SWITCH)

    def close(self) -> None:
        self._space.close()


class Network:
    """Hosts on one bridge. Closing ends their holders; processes in them are their starters' to end."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self._switch: _Space | None = None

    def __enter__(self) -> Network:
        self._switch = _Space()
        try:
            self._switch.do("ip", "link", "add", SWITCH, "type", "bridge")
            self._switch.do("ip", "link", "set", SWITCH, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for host in self.hosts:
            host.close()
        if self._switch is not None:
            self._switch.close()

    def host(self) -> Host:
        """Return one more host, connected."""
        assert self._switch is not None, "use it as a context"
        space, number = _Space(), len(self.hosts) + 1
        host = Host(space, self._switch, f"port{number}", f"{NET}.{number}")
        self.hosts.append(host)
        ends = (f"port{number}", "type", "veth", "peer", "name", "net0")
        self._switch.do("ip", "link", "add", *ends, "netns", str(space.pid))
        self._switch.do("ip", "link", "set", f"port{number}", "master", SWITCH, "up")
        space.do("ip", "addr", "add", f"{host.address}/24", "dev", "net0")
        space.do("ip", "link", "set", "net0", "up")
        return host

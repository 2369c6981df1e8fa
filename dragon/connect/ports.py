"""Our own user-facing port: chosen, bound and proven to be ours before anybody is told about it (THREATS 11)."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

from dragon import sockdiag
from dragon.connect.station_port import station_port
from dragon.errors import LocalError, PortInUse, UsageError

HOST = "127.0.0.1"
"""Every port of this room is on loopback: what a swarm offers is for programs of this machine."""

FIRST_UNPRIVILEGED = 1024

BACKLOG = 1024
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""


def wishes(native: int, local_port: int | None, node_id: str, slug: str) -> Iterator[int]:
    """Yield the ports to try in order when none was asked for (DESIGN §8); 0, any free one, comes last.

    `native` is the service's usual port and `local_port` the catalogue's own wish.
    """
    first = local_port or native
    if first >= FIRST_UNPRIVILEGED:
        yield first
    if (station := station_port(node_id, slug)) != first:
        yield station
    yield 0


def bind_asked(port: int) -> socket.socket:
    """Return a listening socket on exactly `port`. `PortInUse` names who has it, as far as this user may see."""
    if not 1 <= port <= 65535:
        raise UsageError(f"not a port: {port}", "a port is a number from 1 to 65535")
    try:
        return _bind(port)
    except PermissionError:
        raise LocalError(f"port {port} may only be opened by root", f"ask for one from {FIRST_UNPRIVILEGED} up") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise LocalError(f"port {port} cannot be opened: {error.strerror}", "ask for another one") from error
        raise PortInUse(
            f"port {port} of {HOST} is taken{_by_whom(port)}", "ask for another with --port, or leave it out to get a free one"
        ) from None


def bind_first(candidates: Iterator[int]) -> socket.socket:
    """Return a listening socket on the first of `candidates` that is free; 0 among them means any."""
    reason: OSError | None = None
    for port in candidates:
        try:
            return _bind(port)
        except OSError as error:
            reason = error
    raise PortInUse(f"no free port on {HOST}: {reason}", "close some programs, or some forwards with `dragon off`")


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        # Only so that a port whose last connections still time out can be taken again; a living listener still refuses it.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


def _by_whom(port: int) -> str:
    try:
        holders = [each for each in sockdiag.listening() if each.local_port == port and each.inode]
    except OSError:
        return ""
    pids = sorted(pid for each in holders for pid in sockdiag.owner_pids(each.inode) or ())
    if not pids:
        return f" by user {holders[0].uid}" if holders and holders[0].uid >= 0 else ""
    try:
        with open(f"/proc/{pids[0]}/comm") as file:  # noqa: PTH123
            name = "".join(c for c in file.read().strip() if c.isprintable())
    except OSError:
        name = "?"
    return f" by {name} (pid {pids[0]})"

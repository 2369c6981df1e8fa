"""Who really connected to the gate: Kubo, or a local process that only says it brings a friend (THREATS 14).

The peer-id line proves nothing by itself: any process of this machine could write one. So the socket at the other end is looked
up in the kernel's table (sock_diag) and its owner compared with the owner of Kubo's API socket: the same user, and, where the
processes of that user can be looked into, the same process.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path

from dragon import sockdiag

log = logging.getLogger(__name__)

LOOK_UP_SPACING = 1.0
"""Seconds between two searches for Kubo's process: a search walks /proc, and any local process could cause them."""

_CREDENTIALS = struct.Struct("3i")

IsKubo = Callable[[socket.socket], bool]
"""Tells whether an accepted loopback connection was made by our Kubo."""


class KuboOwner:
    """Compares callers with the process that listens on Kubo's API: on `api_port`, or on the unix socket `api_socket`.

    Which process that is is remembered and looked up again when a caller does not match, since Kubo may have been restarted.
    """

    def __init__(self, api_port: Callable[[], int | None], api_socket: Callable[[], str | None] = lambda: None) -> None:
        self._api_port = api_port
        self._api_socket = api_socket
        self._uids: frozenset[int] = frozenset()
        self._pids: frozenset[int] = frozenset()
        self._looked_up = float("-inf")

    def __call__(self, connection: socket.socket) -> bool:
        try:
            caller = sockdiag.connection(connection.getpeername()[:2], connection.getsockname()[:2])
        except OSError:
            return False  # it is gone already
        if caller is None or not caller.inode:
            return False
        return self._is_kubos(caller) or (self._look_up() and self._is_kubos(caller))

    def _is_kubos(self, caller: sockdiag.Socket) -> bool:
        if caller.uid not in self._uids:
            return False
        if not self._pids:
            return True
        holders = sockdiag.owner_pids(caller.inode, among=self._pids)
        return holders is None or bool(holders)

    def _look_up(self) -> bool:
        """Find out who Kubo is; False when nobody listens on its API port."""
        if time.monotonic() - self._looked_up < LOOK_UP_SPACING:
            return False
        self._looked_up = time.monotonic()
        path = self._api_socket()
        if path is not None:
            return self._ask_socket(path)
        port = self._api_port()
        try:
            mine = [each for each in sockdiag.listening() if each.local_port == port and each.inode]
        except OSError as error:
            log.debug("the socket table cannot be read: %s", error)
            return False
        if not mine:
            return False
        self._pids = frozenset(pid for each in mine for pid in sockdiag.owner_pids(each.inode) or ())
        # systemd may have opened the socket for a daemon of another user (ipfs-api.socket)
        self._uids = frozenset({each.uid for each in mine} | {uid for pid in self._pids if (uid := _user_of(pid)) is not None})
        return True

    def _ask_socket(self, path: str) -> bool:
        """Learn from the kernel who listens on a unix socket (SO_PEERCRED: pid, uid and gid of the listener)."""
        if not hasattr(socket, "SO_PEERCRED"):
            return False
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)  # a unix socket connects at once or not at all
            try:
                asking.connect(path)
                credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            except OSError as error:
                log.debug("%s: %s", path, error)
                return False
        pid, uid, _ = _CREDENTIALS.unpack(credentials)
        self._uids, self._pids = frozenset({uid}), frozenset({pid} if pid else ())
        return True


def _user_of(pid: int) -> int | None:
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None  # it ended

"""End the calls of a requests session that are under way, from another thread.

requests gives no way to give up a call: it ends with its answer or its time limit, which for publishing a name on the public
network is two minutes. So the session's sockets are remembered, and shut down when the node stops.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from threading import Event, Lock
from typing import Any
from weakref import WeakSet


class Hangup:
    """Remembers the sockets of the sessions that it is told to `watch`; after `now` their calls fail, those to come too."""

    def __init__(self) -> None:
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = Lock()
        self._done = Event()

    def watch(self, session: Any) -> None:
        """From now on every connection of `session` (ipfshttpclient's, on urllib3) is remembered."""
        for adapter in set(session.adapters.values()):
            classes = adapter.poolmanager.pool_classes_by_scheme
            adapter.poolmanager.pool_classes_by_scheme = {scheme: self._watched(pool) for scheme, pool in classes.items()}

    def now(self) -> None:
        """Hang up. Over TLS only calls to come fail: what was wrapped is out of our hands and ends at its limit."""
        self._done.set()
        with self._lock:
            sockets = list(self._sockets)
        for each in sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _watched(self, pool: Any) -> Any:
        def connected(connection: Any) -> socket.socket:
            if self._done.is_set():
                raise ConnectionAbortedError("the client is closed")
            made: socket.socket = pool.ConnectionCls._new_conn(connection)
            with self._lock:
                self._sockets.add(made)
            if self._done.is_set():  # meanwhile
                self.now()
            return made

        kind = type("Watched", (pool.ConnectionCls,), {"_new_conn": connected})
        return type("WatchedPool", (pool,), {"ConnectionCls": kind})

"""Two connected sockets joined into one conversation: what every relay promises (`joining` chooses how it is done).

`near` is the side of this machine (a user's client, or the service that we offer), `far` the side of the tunnel. A relay owns
both sockets from `start` on and closes them when it ends, whatever the reason.
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Protocol

LINGER = 5.0
"""Seconds that the second direction may outlive the first. A Kubo tunnel ends in both directions with the first end-of-file
(KUBO.md), so what comes later cannot arrive; the time is for the local program to see the end and close by itself."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Relay(Protocol):
    """One running conversation. Counts are bytes; `ended` is None while it runs, then a few words."""

    @property
    def sent(self) -> int: ...

    @property
    def received(self) -> int: ...

    @property
    def ended(self) -> str | None: ...

    def start(self) -> None:
        """Begin to move bytes, both directions, with back-pressure."""
        ...

    def abort(self, why: str) -> None:
        """End both connections at once; the peers see a reset, so that a cut is never taken for an end."""
        ...


def tune(connection: socket.socket) -> None:
    """Make a fresh connection fit for a relay: non-blocking, and small messages leave at once."""
    connection.setblocking(False)
    with suppress(OSError):  # a unix socket has no such option; a connection that is already gone shows at the first read
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def reset(connection: socket.socket) -> None:
    """Close so that the peer sees a reset."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    connection.close()

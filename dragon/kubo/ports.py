"""Local ports that are named before whoever shall have them listens: free at the look, which promises nothing."""

from __future__ import annotations

import socket

from dragon.kubo.types import LOOPBACK


def any_port(host: str = LOOPBACK) -> int:
    """Return a port on which nobody listens. Who takes it tries another one where somebody was quicker."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def is_free(host: str, port: int) -> bool:
    """Tell whether a program could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Go does: closing connections do not count
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True

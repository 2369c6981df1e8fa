"""Free ports for tests that must name one before something listens."""

from __future__ import annotations

import os
import socket
from itertools import count

_LOWEST, _SPAN = 20000, 1000
"""Below the kernel's ephemeral range (32768), so that no outgoing connection takes a port between our look and its use."""

_turns = count()


def free_port() -> int:
    """Return a loopback port that nobody listens on; parallel test workers draw from ranges of their own."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw") or 0)
    while True:
        port = _LOWEST + _SPAN * (worker % 12) + (os.getpid() * 37 + next(_turns)) % _SPAN
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port

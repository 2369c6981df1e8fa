"""Telling systemd how the service is: sd_notify(3), which is one datagram to a socket it names."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(*states: str) -> bool:
    """Send `states` (`READY=1`, `STATUS=…`) to the manager; False when none listens, which is every start from a shell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender, suppress(OSError):
        sender.sendto("\n".join(states).encode(), "\0" + address[1:] if address[0] == "@" else address)
        return True
    return False

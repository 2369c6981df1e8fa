"""What a listener may lead to: a port of 127.0.0.1 that nothing private listens on (THREATS 12). Pure.

Kubo itself would lead the world to its own API port; this guard is ours alone. A target is a bare port number by the time it
gets here, so no spelling of an address (`localhost`, `0x7f.1`, `[::1]`, a host name) can be expressed; what is left to refuse
are the ports themselves.
"""

from __future__ import annotations

from collections.abc import Collection

from dragon.errors import LocalError


def allowed_target(port: object, forbidden: Collection[int], what: str = "the service") -> int:
    """Return `port` as the number to listen towards; `LocalError` says why it must not be.

    `forbidden`: ports of Kubo (API, gateway, swarm), of our own, and of tunnels.
    """
    if isinstance(port, bool) or not isinstance(port, int):
        raise LocalError(f"{what}: {port!r} is no port", "a port is a number from 1 to 65535")
    if not 1 <= port <= 65535:
        raise LocalError(f"{what}: {port} is no port", "a port is a number from 1 to 65535")
    if port in forbidden:
        raise LocalError(f"{what}: port {port} is Kubo's, Dragon's own or a tunnel's and is never offered", "check its port")
    return port

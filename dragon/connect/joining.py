"""Which relay this platform has: bytes spliced inside the kernel on Linux, copied through the event loop elsewhere."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable

from dragon.connect.relay import LINGER, Relay

if sys.platform == "linux":
    from dragon.connect.splice import SplicedRelay as Best
else:
    from dragon.connect.copying import CopyingRelay as Best


def make_relay(
    near: socket.socket,
    far: socket.socket,
    *,
    loop: asyncio.AbstractEventLoop,
    on_end: Callable[[Relay], None],
    half_close: bool = False,
    linger: float = LINGER,
) -> Relay:
    """Return the best relay of this platform for two tuned sockets, not yet started.

    `on_end` is called exactly once, after both sockets are closed. `half_close` keeps one direction open for as long as it
    likes after the other ended: for routes that can carry that (SSH), never for Kubo's.
    """
    return Best(near, far, loop=loop, on_end=on_end, half_close=half_close, linger=linger)

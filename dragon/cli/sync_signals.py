"""What ends a run in order: a signal, or the end of the process that started it."""

from __future__ import annotations

import asyncio
import os
import signal

from dragon.cli.sync_progress import say

WATCH = 1.0
"""Seconds between two looks whether the node that started us still lives."""


def stop_on_signals(parent: int | None) -> asyncio.Event:
    """Return what is set when the run shall end: at SIGINT, at SIGTERM, or when the process `parent` that started us is gone.

    A second signal ends it at once.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if stop.is_set():
            os._exit(128 + number)
        say("stopping; what came until now is kept (once more: at once)")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, asked, number)

    def look() -> None:
        if os.getppid() != parent:
            stop.set()
        else:
            loop.call_later(WATCH, look)

    if parent is not None:
        look()
    return stop

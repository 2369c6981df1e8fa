"""A listening socket of ours, and the tasks of those who came in and are not served yet: under a port, and under the gate."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from dragon.connect.relay import reset, tune

log = logging.getLogger(__name__)

ACCEPT_BATCH = 64
"""Connections taken per wake-up: a burst must not keep the loop from moving bytes."""

OUT_OF_DESCRIPTORS_PAUSE = 0.1
"""Seconds without accepting when the process may open no more files; relays that end give some back."""

_OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Entrance:
    """Accepts from `listener` from now on, and does `serve(connection)` for each in a task; None from it turns the caller away.

    `starved` is told when the process may open no more files. `name` is for the log.
    """

    def __init__(
        self,
        listener: socket.socket,
        serve: Callable[[socket.socket], Coroutine[Any, Any, None] | None],
        starved: Callable[[str], object],
        name: str,
    ) -> None:
        self._listener = listener
        self._serve = serve
        self._starved = starved
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._resume: asyncio.TimerHandle | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self._open()

    def close(self) -> None:
        """Close the socket; those who came in are still served."""
        if self._resume is not None:
            self._resume.cancel()
            self._resume = None
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()

    def _open(self) -> None:
        self._resume = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                if error.errno not in _OUT_OF_DESCRIPTORS:
                    raise
                self._starved(error.strerror or str(error))
                self._loop.remove_reader(self._listener)
                self._resume = self._loop.call_later(OUT_OF_DESCRIPTORS_PAUSE, self._open)
                return
            tune(connection)
            work = self._serve(connection)
            if work is None:
                reset(connection)
                continue
            task = self._loop.create_task(work)
            self.tasks.add(task)
            task.add_done_callback(partial(self._done, connection))

    def _done(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled():  # perhaps before its first step, and then nobody else closes it
            reset(connection)
        elif (error := task.exception()) is not None:
            log.error("a connection to %s failed", self._name, exc_info=error)

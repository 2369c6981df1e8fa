"""The relay of Linux: bytes go from socket to socket through a pipe, inside the kernel, on readiness (splice(2)).

Python only decides; it never touches the bytes. One wake-up is two system calls, whatever the amount. A pipe is borrowed while
bytes are in flight and given back when they are through, so thousands of quiet connections hold two descriptors each.

Measured against the same relay on asyncio streams: about half the CPU per byte (`make bench`, KUBO.md).
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from dragon.connect.relay import LINGER, Relay, reset

assert sys.platform == "linux"

import fcntl  # noqa: E402  (exists only here)

PIPE_BYTES = 1 << 20
"""Room of a pipe, the most an unprivileged process may ask for (/proc/sys/fs/pipe-max-size): fewer wake-ups per megabyte."""

POOLED_PIPES = 16
"""Pipes kept for the next use. Only directions with bytes in flight need one; 16 MiB is what a user's quota of 64 MiB leaves
comfortably to other programs."""

BULK_AFTER = 4 << 20
"""Bytes in one run after which a direction counts as bulk: web pages and answers of models stay below it."""

BULK_GATHER = 256 << 10
"""Bytes that gather in the kernel before a bulk direction is woken (SO_RCVLOWAT). Kubo writes 32 KiB at a time: a wake-up for
each costs more than the bytes do."""

BULK_TICK = 0.002
"""Seconds without progress after which bulk is over, so that a last bit smaller than `BULK_GATHER` is not left waiting."""

GONE = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, TimeoutError)
"""What a socket says when the other end is no more."""

_FLAGS = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK


class Pipes:
    """A stock of empty pipes, as (read end, write end)."""

    def __init__(self, keep: int = POOLED_PIPES) -> None:
        self._keep = keep
        self._idle: list[tuple[int, int]] = []
        self.lent = 0

    def borrow(self) -> tuple[int, int]:
        """Return an empty pipe. Raises `OSError` when the process is out of descriptors."""
        if self._idle:
            pipe = self._idle.pop()
        else:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            with suppress(OSError):  # over the user's quota: the default 64 KiB serve as well, only slower
                fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self.lent += 1
        return pipe

    def give_back(self, pipe: tuple[int, int], *, empty: bool) -> None:
        """Take a pipe back; one that still holds bytes of a broken conversation is closed, never reused."""
        self.lent -= 1
        if empty and len(self._idle) < self._keep:
            self._idle.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])

    def clear(self) -> None:
        """Close the idle ones."""
        while self._idle:
            for end in self._idle.pop():
                os.close(end)


PIPES = Pipes()
"""The process's stock: pipes are anonymous, and every relay of the process may use any."""


class _Direction:
    """One direction of a relay: source → pipe → destination."""

    __slots__ = (
        "_blocked",
        "_from",
        "_loop",
        "_pending",
        "_pipe",
        "_relay",
        "_run_began",
        "_seen",
        "_socket",
        "_ticking",
        "_to",
        "_woken",
        "finished",
        "moved",
    )

    def __init__(self, relay: SplicedRelay, source: socket.socket, destination: socket.socket) -> None:
        self._relay = relay
        self._loop = relay.loop
        self._socket = source
        self._from = source.fileno()
        self._to = destination.fileno()
        self._run_began = 0
        self._woken = 0.0
        self._seen = 0
        self._ticking: asyncio.TimerHandle | None = None
        self._pipe: tuple[int, int] | None = None
        self._pending = 0
        self._blocked = False
        self.moved = 0
        self.finished = False

    def start(self) -> None:
        self._loop.add_reader(self._from, self._readable)

    def _readable(self) -> None:
        pipe = self._pipe
        try:
            if pipe is None:
                pipe = self._pipe = PIPES.borrow()
            count = os.splice(self._from, pipe[1], PIPE_BYTES, flags=_FLAGS)
        except BlockingIOError:
            self._release()
            return
        except GONE:
            self._relay.cut(self, "reset")
            return
        except OSError as error:
            self._relay.cut(self, errno.errorcode.get(error.errno or 0, "error"))
            return
        if count == 0:
            self._release()
            self._finish()
            return
        self._pending = count
        if self._ticking is None:
            self._notice_bulk()
        self._flush()

    def _notice_bulk(self) -> None:
        """Let bytes gather before the next wake-up when they have been coming without a pause."""
        now = self._loop.time()
        if now - self._woken > BULK_TICK:
            self._run_began = self.moved
        self._woken = now
        if self.moved - self._run_began > BULK_AFTER:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, BULK_GATHER)
            self._seen = self.moved
            self._ticking = self._loop.call_later(BULK_TICK, self._tick)

    def _tick(self) -> None:
        if self.moved != self._seen:
            self._seen = self.moved
            self._ticking = self._loop.call_later(BULK_TICK, self._tick)
            return
        self._ticking = None
        self._run_began = self.moved
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)  # what has gathered wakes us now

    def _flush(self) -> None:
        pipe = self._pipe
        assert pipe is not None
        try:
            while self._pending:
                count = os.splice(pipe[0], self._to, self._pending, flags=_FLAGS)
                self._pending -= count
                self.moved += count
        except BlockingIOError:
            if not self._blocked:
                self._blocked = True
                self._loop.remove_reader(self._from)
                self._loop.add_writer(self._to, self._flush)
            return
        except GONE:
            self._relay.cut(self, "reset")
            return
        except OSError as error:
            self._relay.cut(self, errno.errorcode.get(error.errno or 0, "error"))
            return
        self._release()
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._to)
            self._loop.add_reader(self._from, self._readable)

    def _release(self) -> None:
        if self._pipe is not None:
            PIPES.give_back(self._pipe, empty=self._pending == 0)
            self._pipe = None

    def _finish(self) -> None:
        """The source said end-of-file and everything before it is delivered."""
        self._stop_ticking()
        self._loop.remove_reader(self._from)
        self.finished = True
        self._relay.finished_one()

    def stop(self) -> None:
        """Leave the loop and give everything back; bytes still in the pipe are lost."""
        self._stop_ticking()
        if self._blocked:
            self._loop.remove_writer(self._to)
            self._blocked = False
        elif not self.finished:
            self._loop.remove_reader(self._from)
        self._release()
        self.finished = True

    def _stop_ticking(self) -> None:
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None


class SplicedRelay:
    """See `dragon.connect.relay.Relay`."""

    __slots__ = ("_back", "_far", "_forth", "_half_close", "_linger", "_near", "_on_end", "_timer", "ended", "loop")

    def __init__(
        self,
        near: socket.socket,
        far: socket.socket,
        *,
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[Relay], None],
        half_close: bool = False,
        linger: float = LINGER,
    ) -> None:
        self.loop = loop
        self.ended: str | None = None
        self._near = near
        self._far = far
        self._on_end = on_end
        self._half_close = half_close
        self._linger = linger
        self._timer: asyncio.TimerHandle | None = None
        self._forth = _Direction(self, near, far)
        self._back = _Direction(self, far, near)

    @property
    def sent(self) -> int:
        return self._forth.moved

    @property
    def received(self) -> int:
        return self._back.moved

    def start(self) -> None:
        self._forth.start()
        self._back.start()

    def finished_one(self) -> None:
        """One direction came to its end: pass the end on, and close when the other one is through as well."""
        if self._forth.finished and self._back.finished:
            self._end("closed")
            return
        destination = self._far if self._forth.finished else self._near
        try:
            destination.shutdown(socket.SHUT_WR)
        except OSError:  # it is gone altogether, so nothing can come back either
            self._end("closed")
            return
        if not self._half_close:
            self._timer = self.loop.call_later(self._linger, self._end, "closed")

    def cut(self, direction: _Direction, why: str) -> None:
        """A socket broke. After one direction had ended cleanly this is the usual way for the other to end."""
        if self._forth.finished or self._back.finished:
            self._end("closed")
        else:
            self.abort(why)

    def abort(self, why: str) -> None:
        if self.ended is None:
            self._stop(why)
            reset(self._near)
            reset(self._far)
            self._on_end(self)

    def _end(self, why: str) -> None:
        if self.ended is None:
            self._stop(why)
            self._near.close()
            self._far.close()
            self._on_end(self)

    def _stop(self, why: str) -> None:
        self.ended = why
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._forth.stop()
        self._back.stop()

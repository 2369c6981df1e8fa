"""Verification in a process of its own: it takes most of the time of a backfill, and a thread would fight for the interpreter.

Here is our side; `dragon.constellation.verifying` is the process. Batches of relay messages go out, checked events or reasons
come back, each as a length and a msgpack list. What comes back was built by our own code from checked values.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgpack

from dragon.constellation import verifying
from dragon.constellation.event import Event
from dragon.constellation.verifying import LENGTH, MAX_MESSAGE_SIZE
from dragon.errors import LocalError

PROCESSES = min(os.cpu_count() or 1, 2)
"""Processes that verify at most: each does about 20,000 events a second and takes 15 MB."""

MANY = 2000
"""Events after which another one is worth its start (0.1 s)."""


class Judges:
    """One process, and more of them when there is much to do; each answers in the order in which it is asked."""

    def __init__(self, first: _Judge) -> None:
        self._judges = [first]
        self._judged = 0
        self._growing = asyncio.Lock()

    async def judge(self, texts: Sequence[str]) -> list[Event | str]:
        """Return, for each message, the checked event or the reason why there is none."""
        async with self._growing:
            if self._judged >= MANY * len(self._judges) and len(self._judges) < PROCESSES:
                self._judges.append(await _Judge.start())
        self._judged += len(texts)
        share = -(-len(texts) // len(self._judges)) or 1
        parts = [texts[start : start + share] for start in range(0, len(texts), share)]
        asking = (judge.judge(part) for judge, part in zip(self._judges, parts, strict=False))
        return [verdict for verdicts in await asyncio.gather(*asking) for verdict in verdicts]

    async def close(self) -> None:
        """End the processes: they hold nothing that could be lost."""
        for judge in self._judges:
            await judge.end()


@asynccontextmanager
async def judges() -> AsyncIterator[Judges]:
    """Judges whose processes end with the block; the first one starts now, and is up when events come. Raises `LocalError`."""
    found = Judges(await _Judge.start())
    try:
        yield found
    finally:
        await found.close()


class _Judge:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls) -> _Judge:
        """Start one. Raises `LocalError`."""
        try:
            process = await asyncio.create_subprocess_exec(
                # -P: what lies in the folder where the sync was started is not imported
                sys.executable, "-P", "-m", verifying.__name__,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            said = error.strerror or str(error)
            raise LocalError(f"no process that verifies events can be started: {said}", "see `ulimit -a`") from None
        return cls(process)

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()

    async def judge(self, texts: Sequence[str]) -> list[Event | str]:
        # Lone halves of surrogate pairs cannot be sent, and no sound event has one: the message is malformed without them.
        request = msgpack.packb([text if len(text) <= MAX_MESSAGE_SIZE else None for text in texts], unicode_errors="replace")
        asking = asyncio.ensure_future(self._ask(request))
        try:
            answer = await asyncio.shield(asking)
        except asyncio.CancelledError:  # the answer still comes, and must not be taken for the next one's
            asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        return [each if isinstance(each, str) else Event(*each) for each in msgpack.unpackb(answer, use_list=False)]

    async def _ask(self, request: bytes) -> bytes:
        questions, answers = self.process.stdin, self.process.stdout
        assert questions is not None
        assert answers is not None
        async with self._turn:
            try:
                questions.write(LENGTH.pack(len(request)) + request)
                await questions.drain()
                (length,) = LENGTH.unpack(await answers.readexactly(LENGTH.size))
                return await answers.readexactly(length)
            except (OSError, asyncio.IncompleteReadError):
                raise LocalError("the process that verifies events ended", "run the sync again; is memory short?") from None

"""Where verified events go: a relay's WebSocket, or the `import` of strfry. What is refused is counted, never an end."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dragon.clock import Clock
from dragon.constellation.event import Event
from dragon.constellation.relay import Patience, Relay, RelayFailed, connected
from dragon.errors import LocalError

LANES = 2
"""Connections that events are stored through at once: a relay works through each on its own. (nostr-sdk's LocalRelay takes
12,400 events a second through one, 17,300 through two, 14,900 through three.)"""

IN_FLIGHT = 500
"""Events that wait for an answer on each at once: what hides the way there and back without filling its buffers."""

RECONNECTIONS = 4
"""Connections in a row on which a relay took nothing, before it, or the event that it is offered, is given up. (nostr-sdk's
ends each after 6,000 messages.)"""

BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before what was refused as `rate-limited` is offered again."""

PREFIXES = frozenset(
    {
        "auth-required",
        "blocked",
        "deleted",
        "duplicate",
        "error",
        "invalid",
        "mute",
        "pow",
        "rate-limited",
        "replaced",
        "restricted",
    }
)
"""Machine-readable beginnings of a refusal (NIP-01 and what strfry and nostr-sdk add)."""

IMPORT_GRACE = 10.0
"""Seconds for an `import` that was given its end of input to finish when the run is stopped."""


@dataclass(slots=True)
class Stored:
    """What became of a batch."""

    added: int = 0
    duplicate: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def __iadd__(self, other: Stored) -> Stored:
        self.added += other.added
        self.duplicate += other.duplicate
        self.refused += other.refused
        return self


class Sink(Protocol):
    """A store of events."""

    batch: int
    """Events that it takes best at once."""

    async def store(self, events: Sequence[Event]) -> Stored:
        """Store `events`; `LocalError` only where nothing can be stored at all."""
        ...

    async def close(self) -> None:
        """Let go of it."""
        ...


class RelaySink:
    """A relay's WebSocket: EVENT and OK, many in flight, on `LANES` connections."""

    batch = 2000

    def __init__(self, url: str, clock: Clock, patience: Patience | None = None) -> None:
        self._lanes = [_Lane(url, clock, patience) for _ in range(LANES)]
        self._turn = asyncio.Lock()

    async def store(self, events: Sequence[Event]) -> Stored:
        done = Stored()
        async with self._turn:
            shares = [events[number::LANES] for number in range(LANES)]
            parts = (lane.store(share) for lane, share in zip(self._lanes, shares, strict=True) if share)
            results = await asyncio.gather(*parts, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
            done += result
        return done

    async def close(self) -> None:
        for lane in self._lanes:
            await lane.close()


class _Lane:
    """One connection after another to the relay."""

    def __init__(self, url: str, clock: Clock, patience: Patience | None) -> None:
        self._url = url
        self._clock = clock
        self._patience = patience
        self._connection = AsyncExitStack()
        self._relay: Relay | None = None
        self._pauses: tuple[float, ...] = BACKOFF

    async def store(self, events: Sequence[Event]) -> Stored:
        done, left, later, fruitless = Stored(), {event.id: event for event in events}, dict[str, Event](), 0
        pauses = iter(self._pauses)
        while left or later:
            if not left:
                pause = next(pauses, None)
                if pause is None:
                    done.refused["rate-limited"] += len(later)
                    self._pauses = ()  # it stands by its limit: the next batch does not wait for it again
                    break
                await self._clock.sleep(pause)
                left, later = later, {}
            before = len(left)
            try:
                relay = await self._connected()
            except RelayFailed as error:
                fruitless += 1
                if fruitless >= RECONNECTIONS:
                    raise LocalError(f"the local relay {self._url} {error}", "is it running? see its log") from None
                await self._clock.sleep(BACKOFF[0])
                continue
            try:
                await _offer(relay, left, later, done, 1 if fruitless else IN_FLIGHT)
            except RelayFailed:
                await self.close()
                fruitless = 0 if len(left) < before else fruitless + 1
                if fruitless >= RECONNECTIONS:  # offered alone, and again: it is this event
                    del left[next(iter(left))]
                    done.refused["no answer"] += 1
        return done

    async def close(self) -> None:
        self._relay = None
        await self._connection.aclose()

    async def _connected(self) -> Relay:
        if self._relay is None:
            self._relay = await self._connection.enter_async_context(connected(self._url, self._patience))
        return self._relay


async def _offer(relay: Relay, left: dict[str, Event], later: dict[str, Event], done: Stored, width: int) -> None:
    """Offer all of `left`, taking out what is answered; what the relay wants to be asked again goes into `later`."""
    waiting, in_flight = iter(list(left.values())), 0
    async with relay.asked() as answer:
        while left:
            while in_flight < width and (event := next(waiting, None)):
                await relay.send_text(f'["EVENT",{event.data.decode()}]')
                in_flight += 1
            frame = await answer()
            if frame.verb != "OK" or frame.sub not in left:
                continue
            in_flight -= 1
            event = left.pop(frame.sub)
            reason = refusal(frame.reason)
            if reason == "duplicate":
                done.duplicate += 1
            elif frame.words[:1] == (True,):
                done.added += 1
            elif reason == "rate-limited":
                later[event.id] = event
            else:
                done.refused[reason] += 1


def refusal(said: str) -> str:
    """Return the reason of an `OK`: its prefix where it has a known one, else `refused`."""
    prefix = said.partition(":")[0].strip().lower()
    return prefix if prefix in PREFIXES else "refused"


_SUMMARY = re.compile(rb"Processed (\d+) lines\. (\d+) added, (\d+) rejected, (\d+) dups")


class ToolSink:
    """The `import` of the strfry program, in its own folder, where its configuration lies; one at a time.

    Signatures were verified before, so it is told not to. It ends at the first line it cannot read and tells nothing of those
    before: a failed batch is halved until the line is alone, so that one event costs only itself.
    """

    batch = 5000

    def __init__(self, tool: Path) -> None:
        self._tool = tool
        self._turn = asyncio.Lock()
        self._failures = 0

    async def store(self, events: Sequence[Event]) -> Stored:
        async with self._turn:
            return await self._halving(events)

    async def close(self) -> None:
        """Nothing is held between two batches."""

    async def _halving(self, events: Sequence[Event]) -> Stored:
        done, trouble = await self._import(events)
        if done is not None:
            self._failures = 0
            return done
        self._failures += 1
        if self._failures > self.batch.bit_length() + 1:  # more than one bad line can cause
            raise LocalError(
                f"{self._tool} import fails: {trouble}", f"try `{self._tool} import` by hand in {self._tool.parent}"
            )
        if len(events) == 1:
            return Stored(refused=Counter({"import failed": 1}))
        middle = len(events) // 2
        both = await self._halving(events[:middle])
        both += await self._halving(events[middle:])
        return both

    async def _import(self, events: Sequence[Event]) -> tuple[Stored | None, str]:
        """Import a batch; return what became of it, or None and the last words of the program."""
        try:
            process = await asyncio.create_subprocess_exec(
                self._tool, "import", "--no-verify", cwd=self._tool.parent,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us: it finishes what it was given
            )  # fmt: skip
        except OSError as error:
            raise LocalError(f"{self._tool} cannot be run: {error.strerror}", "is it strfry, and executable?") from None
        lines = b"".join(event.data + b"\n" for event in events)
        talking = asyncio.ensure_future(process.communicate(lines))
        try:
            _, said = await asyncio.shield(talking)
        finally:
            await _reaped(process, talking)
        summaries = _SUMMARY.findall(said)
        if process.returncode != 0 or not summaries:
            return None, (said.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1][:200]
        _, added, rejected, duplicate = map(int, summaries[-1])
        return Stored(added, duplicate, Counter({"rejected": rejected} if rejected else {})), ""


async def _reaped(process: asyncio.subprocess.Process, talking: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Leave no child behind: it may finish what it was given, for a while."""
    if not talking.done():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IMPORT_GRACE):
                await asyncio.shield(talking)
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if not talking.done():
        talking.cancel()
        await asyncio.gather(talking, return_exceptions=True)

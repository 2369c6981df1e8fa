"""The answering half of the exchange: what others may ask us over `/x/dragon-<our id>`, and what that may cost.

| question   | body              | reply                                                                              |
|------------|-------------------|------------------------------------------------------------------------------------|
| `digest`   | {}                | Answer {digest: [16 × 8 bytes]}                                                    |
| `buckets`  | {buckets: [int…]} | Batch* End: what we hold in these buckets                                          |
| `all`      | {}                | Batch* End: all we hold                                                            |
| `envelope` | {node: id}        | Batch? End: the newest of one node                                                 |
| `sequence` | {}                | Answer {sequence, source}: what we hold of the caller and how it came; 0 = nothing |
| `push`     | {}                | Answer {}: go on; then the caller sends                                            |
|            | Batch* End        | Answer {admitted}: how many of these were news                                     |

Further questions of other rooms are named with `answer`. The caller is who Kubo says it is; that it is Kubo who says so is seen
by who owns the connecting socket. That name bears all costs: whoever breaks the framing or the limits loses the connection, and
after a few times is not listened to for a while; nothing that a caller does ends more than its own connection.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from dragon.clock import Clock
from dragon.errors import DragonError, LocalError, ProtocolError
from dragon.registry.budget import Budget
from dragon.registry.channel import Channel
from dragon.registry.framing import Answer, Ask, Batch, End, Refusal, batches, frame
from dragon.registry.intake import Intake
from dragon.registry.view import View
from registry_schema import codec, is_node_id
from registry_schema.limits import DIGEST_BUCKETS

log = logging.getLogger(__name__)

Handler: TypeAlias = Callable[[str, codec.Value], Awaitable[codec.Value]]
"""`(caller's node id, body) -> answer`; a `RemoteError` closes the caller's connection, a `LocalError` refuses politely."""

IsKubo: TypeAlias = Callable[[socket.socket], bool]
"""Tells whether an accepted connection was made by our Kubo: only then does its first line name the caller."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one exchange, one partner and all partners together may take. Seconds and bytes."""

    patience: float = 5.0
    """For each single message; longer than any pause of a healthy peer, far below Kubo's 30 s for a dial that hangs."""
    idle: float = 10.0
    """Between two questions of one connection."""
    lifetime: float = 60.0
    """Of one connection: 10,000 envelopes take about two seconds, a slow line is served in rounds."""
    connections: int = 32
    """At once: each may hold one frame, so 8 MB in all."""
    per_caller: int = 4
    """At once from one node, which itself asks one thing at a time."""
    budget: float = 64 * 1024 * 1024
    """Bytes for one partner at once: twice a view of 10,000 nodes with eight offers each."""
    budget_rate: float = 256 * 1024
    """Bytes per second for one partner afterwards: a view of 1,000 nodes every four seconds."""
    faults: float = 5
    """Broken frames of one caller before its connections are closed at once."""
    fault_rate: float = 1 / 60
    """And how many a second are forgiven: one a minute."""
    received: int = 64 * 1024 * 1024
    """Bytes of envelopes taken in one series: see `budget`."""


class Answering:
    """Serves callers on the streams of one listening socket; `accept` is its connection callback."""

    def __init__(self, view: View, intake: Intake, clock: Clock, limits: Limits, is_kubo: IsKubo) -> None:
        self._view = view
        self._is_kubo = is_kubo
        self._intake = intake
        self._clock = clock
        self._limits = limits
        self._bytes = Budget(limits.budget, limits.budget_rate)
        self._faults = Budget(limits.faults, limits.fault_rate)
        self._handlers: dict[str, Handler] = {}
        self._open: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.counters: Counter[str] = Counter()

    def answer(self, name: str, handler: Handler) -> None:
        """Answer the question `name` of other nodes with `handler`, instead of refusing it as unknown."""
        self._handlers[name] = handler

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take one new connection; never raises and never waits."""
        if self._closed or len(self._tasks) >= self._limits.connections:
            self.counters["connections-refused"] += 1
            writer.transport.abort()
            return
        if not self._is_kubo(writer.get_extra_info("socket")):
            self.counters["local-processes"] += 1  # whatever it writes, nobody of the swarm is speaking (THREATS 14)
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._converse(Channel(reader, writer, patience=self._limits.patience)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: writer.transport.abort())  # also when it was cancelled before its first step

    async def close(self) -> None:
        """End all conversations, and refuse those that are still on their way here."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _converse(self, channel: Channel) -> None:
        caller = ""
        try:
            async with asyncio.timeout(self._limits.lifetime):
                caller = await channel.caller()
                await self._serve(caller, channel)
        except ProtocolError as error:
            self.counters["protocol-errors"] += 1
            if caller:
                self._faults.spend(caller, 1, self._clock.monotonic())
            log.debug("exchange with %s: %s", caller or "a local process", error)
        except (DragonError, TimeoutError) as error:
            self.counters["broken-off"] += 1
            log.debug("exchange with %s broken off: %s", caller or "?", error)
        finally:
            await channel.close()

    async def _serve(self, caller: str, channel: Channel) -> None:
        now = self._clock.monotonic()
        if self._faults.left(caller, now) <= 0:
            self.counters["shunned"] += 1
            return
        if self._open[caller] >= self._limits.per_caller:
            self.counters["connections-refused"] += 1
            return
        self._open[caller] += 1
        try:
            while (message := await channel.receive(self._limits.idle)) is not None:
                if not isinstance(message, Ask):
                    raise ProtocolError(f"a question was due, not {type(message).__name__}")
                await self._reply(caller, message, channel)
        finally:
            self._open[caller] -= 1
            self._open += Counter()  # forgets the zeros

    async def _reply(self, caller: str, ask: Ask, channel: Channel) -> None:
        self.counters["asked"] += 1
        before = channel.received + channel.sent
        if self._bytes.left(caller, self._clock.monotonic()) <= 0:
            self.counters["over-budget"] += 1
            await channel.send(Refusal("budget"))
            return
        try:
            match ask.question:
                case "digest":
                    digest = self._view.digest(self._clock.monotonic())
                    await channel.send(Answer({"digest": list(digest)}))
                case "buckets":
                    await self._send_buckets(channel, _buckets(ask.body))
                case "all":
                    await self._send_buckets(channel, range(DIGEST_BUCKETS))
                case "envelope":
                    await self._send_envelope(channel, _node(ask.body))
                case "sequence":
                    held = self._view.node(caller, self._clock.monotonic())
                    body: codec.Value = {"sequence": held.sequence, "source": held.source} if held else {"sequence": 0}
                    await channel.send(Answer(body))
                case "push":
                    await self._take(caller, channel)
                case question if question in self._handlers:
                    await self._ask_handler(question, caller, ask.body, channel)
                case _:
                    await channel.send(Refusal("unknown"))
        finally:
            self._bytes.spend(caller, channel.received + channel.sent - before, self._clock.monotonic())

    async def _ask_handler(self, question: str, caller: str, body: codec.Value, channel: Channel) -> None:
        try:
            answer = Answer(await self._handlers[question](caller, body))
            frame(answer)
        except (LocalError, ValueError, TypeError) as error:  # ours: away just now, or an answer that no frame holds
            self.counters["unanswerable"] += 1
            log.warning("the question %s of %s is not answered: %s", question, caller, error)
            await channel.send(Refusal("busy"))
            return
        await channel.send(answer)

    async def _send_buckets(self, channel: Channel, numbers: Iterable[int]) -> None:
        """Send bucket after bucket, each as it is when its turn comes: the view changes while others work."""
        count = 0
        for number in numbers:
            held = list(self._view.bucket((number,), self._clock.monotonic()))
            for batch in batches(aged(held)):
                count += len(batch.envelopes)
                await channel.send(batch)
                await asyncio.sleep(0)
        await channel.send(End(count))

    async def _send_envelope(self, channel: Channel, node_id: str) -> None:
        data, age = self._view.envelope(node_id), self._view.age(node_id, self._clock.monotonic())
        if data is None or age is None:
            await channel.send(End(0))
            return
        await channel.send(Batch(tuple(aged([(data, age)]))))
        await channel.send(End(1))

    async def _take(self, caller: str, channel: Channel) -> None:
        await channel.send(Answer({}))
        taken = await self._intake.receive(channel, carrier=caller, limit=self._limits.received)
        self.counters["pushed-to-us"] += taken.count
        await channel.send(Answer({"admitted": taken.admitted}))


def aged(held: Iterable[tuple[bytes, float]]) -> Iterator[tuple[bytes, int]]:
    """Turn ages in seconds into milliseconds, rounded up: an age may only grow on its way (THREATS 3)."""
    return ((data, math.ceil(age * 1000)) for data, age in held)


def _buckets(body: codec.Value) -> list[int]:
    numbers = body.get("buckets") if isinstance(body, dict) else None
    if not isinstance(numbers, list) or len(numbers) > DIGEST_BUCKETS:
        raise ProtocolError(f"`buckets` is a list of at most {DIGEST_BUCKETS} numbers")
    chosen: set[int] = set()
    for number in numbers:
        if type(number) is not int or not 0 <= number < DIGEST_BUCKETS:
            raise ProtocolError(f"a bucket is a number from 0 to {DIGEST_BUCKETS - 1}")
        chosen.add(number)
    return sorted(chosen)


def _node(body: codec.Value) -> str:
    node_id = body.get("node") if isinstance(body, dict) else None
    if not isinstance(node_id, str) or not is_node_id(node_id):
        raise ProtocolError("`node` is a node id")
    return node_id

"""The one door into the view: whatever way an envelope came, it is admitted, stored and told to who listens here."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from dragon.clock import Clock
from dragon.errors import ProtocolError
from dragon.registry.channel import Channel
from dragon.registry.framing import Batch, End
from dragon.registry.storage import Storage
from dragon.registry.verdict import Admitted, Source, Verdict
from dragon.registry.view import View

PAUSE_EVERY = 8
"""Envelopes verified between two turns of the event loop: 2–4 ms of it (0.25 to 0.5 ms each, signature, parsing and index)."""


@dataclass(slots=True)
class Taken:
    """What one series of batches brought. `seen` holds `hash(envelope)` of each: what the other side is known to have."""

    count: int = 0
    admitted: int = 0
    seen: set[int] = field(default_factory=set)


class Intake:
    """Feeds `view` and `store`; `on_admitted` is called with every admission that was news."""

    def __init__(self, view: View, store: Storage, clock: Clock, swarm: str) -> None:
        self._view = view
        self._store = store
        self._clock = clock
        self._swarm = swarm
        self._listeners: list[Callable[[Admitted, Source], None]] = []
        self.counters: Counter[str] = Counter()

    def on_admitted(self, callback: Callable[[Admitted, Source], None]) -> None:
        self._listeners.append(callback)

    def take(self, data: bytes, *, carrier: str, source: Source, age: float = 0.0) -> Verdict:
        """Admit one envelope that `carrier` brought; `age` in seconds is how long ago it was first heard anywhere."""
        now, wall = self._clock.monotonic(), self._clock.now_ms()
        verdict = self._view.admit(data, carrier=carrier, source=source, heard_at=now, now_ms=wall, age=age)
        if isinstance(verdict, Admitted):
            self.counters[f"admitted-{source}"] += 1
            self._store.put(self._swarm, verdict.node_id, verdict.rank, data, wall - round(age * 1000))
            for listener in self._listeners:
                listener(verdict, source)
        return verdict

    async def take_all(self, pairs: Iterable[tuple[bytes, int]], *, carrier: str, taken: Taken) -> None:
        """Admit `(envelope, age in ms)` pairs from an exchange, with pauses for the rest of the program."""
        for data, age_ms in pairs:
            verdict = self.take(data, carrier=carrier, source="exchange", age=age_ms / 1000)
            taken.count += 1
            taken.admitted += isinstance(verdict, Admitted)
            taken.seen.add(hash(data))
            if taken.count % PAUSE_EVERY == 0:
                await asyncio.sleep(0)

    async def receive(self, channel: Channel, *, carrier: str, limit: int) -> Taken:
        """Read batches up to their end and admit them as they come.

        `ProtocolError`: more than `limit` bytes, a wrong count or another message; `CutShort`: the end is missing; `Refused`.
        """
        taken, before = Taken(), channel.received
        while True:
            match await channel.reply():
                case Batch(envelopes):
                    if channel.received - before > limit:
                        raise ProtocolError(f"more than {limit} bytes in one exchange")
                    await self.take_all(envelopes, carrier=carrier, taken=taken)
                case End(count):
                    if count != taken.count:
                        raise ProtocolError(f"{taken.count} envelopes came, {count} were announced")
                    return taken
                case message:
                    raise ProtocolError(f"an envelope was due, not {type(message).__name__}")

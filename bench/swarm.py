"""What one node says, until the others have merged it, beside bare Kubo pubsub on the same daemons in the same run.

Three real daemons, then twenty. All registries share one event loop and, with their daemons, two cores: the figures are upper
bounds. "Until the last": the slowest of the others.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from bench.harness import Row
from dragon.errors import KuboRefused
from dragon.home import Home
from dragon.kubo.binary import find
from dragon.kubo.client import KuboClient
from dragon.registry.verdict import Change
from tests.integration.registry.support import Station, start, station, strangers
from tests.testbed.kubo import KuboDaemon, until

ROUNDS = 100
BETWEEN = 0.15
"""Seconds between two publications: longer than the publisher's own pause between changes, so that none waits for it."""

WRITERS, UPDATES = 8, 25
NEWCOMER = 1_000
SLOW = 5.0
"""Seconds after which a message counts as lost."""


async def run() -> list[Row]:
    """Measure and return the rows."""
    binary = find(Home.locate())
    if binary is None:
        raise SystemExit("no Kubo binary: run `make kubo` first")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with daemons(binary, folder / "3", 3) as three:
            rows = await latency(three, folder / "three", 15, 50)
            rows += await writers(three, folder / "writers")
            rows += await newcomer(three, folder / "newcomer")
        async with daemons(binary, folder / "20", 20) as twenty:
            return rows + await latency(twenty, folder / "twenty", 60, 150)


@asynccontextmanager
async def daemons(binary: Path, folder: Path, count: int) -> AsyncIterator[list[KuboDaemon]]:
    """Run `count` daemons, each connected to the one before it and to two further ones."""
    started = [KuboDaemon(binary, folder / f"kubo{number}") for number in range(count)]
    try:
        for daemon in started:
            await asyncio.to_thread(daemon.start)
        for number in range(1, count):
            for other in {number - 1, number // 2, number // 3}:
                await asyncio.to_thread(started[number].connect, started[other])
        yield started
    finally:
        for daemon in started:
            await asyncio.to_thread(daemon.stop)


# -- publish → merged -------------------------------------------------------------------------------------------------


async def latency(those: Sequence[KuboDaemon], folder: Path, p50: float, p95: float) -> list[Row]:
    """Measure bare pubsub and ours in turns of a few rounds each; targets in milliseconds."""
    swarm = f"bench-{secrets.token_hex(4)}"
    bare: list[float] = []
    ours: list[float] = []
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(Raw.opened(those, f"{swarm}-raw"))
        watch = Watch(await start(stack, those, folder, swarm))
        await asyncio.sleep(3)  # the gossip mesh forms at its own heartbeat
        for _ in range(10):
            bare += [await raw.round() for _ in range(ROUNDS // 10)]
            ours += [await watch.round(len(ours) + number) for number in range(ROUNDS // 10)]
    name = f"{len(those)} nodes, until the last:"
    low, high = percentiles(ours)
    raw_low, raw_high = percentiles(bare)
    return [
        Row(f"{name} bare pubsub, p50", raw_low, "ms"),
        Row(f"{name} bare pubsub, p95", raw_high, "ms"),
        Row(f"{name} published → merged, p50", low, "ms", f"{p50:g} ms", low / p50, "<= 1"),
        Row(f"{name} published → merged, p95", high, "ms", f"{p95:g} ms", high / p95, "<= 1"),
        Row(f"{name} published → merged, p50", low, "ms", "bare pubsub, p50", low / raw_low),
    ]


def percentiles(seconds: list[float]) -> tuple[float, float]:
    """Return p50 and p95 in milliseconds."""
    cuts = statistics.quantiles(seconds, n=20, method="inclusive")
    return cuts[9] * 1e3, cuts[18] * 1e3


class Watch:
    """Tells when all others hold what the first of `stations` says."""

    def __init__(self, stations: Sequence[Station]) -> None:
        self._speaker, self._others = stations[0], stations[1:]
        self._slug = ""
        self._missing: set[str] = set()
        self._done = asyncio.Event()
        for each in self._others:
            each.view.subscribe(partial(self._changed, each))

    def _changed(self, each: Station, change: Change) -> None:
        if change.node_id == self._speaker.id and each.id in self._missing and each.sees(self._speaker.id, self._slug):
            self._missing.discard(each.id)
            if not self._missing:
                self._done.set()

    async def round(self, number: int) -> float:
        """Let the first station announce something new; return the seconds until all others have merged it."""
        await asyncio.sleep(BETWEEN)
        self._slug = f"s{number}"
        self._missing = {each.id for each in self._others}
        self._done.clear()
        began = time.perf_counter()
        self._speaker.offer(self._slug)
        async with asyncio.timeout(SLOW * 20):
            await self._done.wait()
        return time.perf_counter() - began


class Raw:
    """Bare pubsub: one publisher, a subscription on each other daemon."""

    def __init__(self, clients: list[KuboClient], topic: str) -> None:
        self._clients = clients
        self._topic = topic
        self._heard: dict[bytes, set[int]] = {}
        self._done = asyncio.Event()

    @classmethod
    @asynccontextmanager
    async def opened(cls, those: Sequence[KuboDaemon], topic: str) -> AsyncIterator[Raw]:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(KuboClient(daemon.api)) for daemon in those]
            raw = cls(clients, topic)
            listening = [asyncio.create_task(raw._listen(number)) for number in range(1, len(clients))]
            try:
                await asyncio.sleep(3)
                yield raw
            finally:
                for task in listening:
                    task.cancel()
                await asyncio.gather(*listening, return_exceptions=True)

    async def _listen(self, number: int) -> None:
        async with self._clients[number].subscribe(self._topic) as messages:
            async for message in messages:
                self._heard.setdefault(message.data, set()).add(number)
                if len(self._heard[message.data]) == len(self._clients) - 1:
                    self._done.set()

    async def round(self) -> float:
        """Publish 500 bytes (a usual envelope); return the seconds until the last subscriber has them."""
        await asyncio.sleep(BETWEEN)
        self._done.clear()
        data = secrets.token_bytes(500)
        began = time.perf_counter()
        await self._clients[0].publish(self._topic, data)
        async with asyncio.timeout(SLOW):
            await self._done.wait()
        return time.perf_counter() - began

    async def lost(self, those: KuboDaemon) -> float:
        """Let `WRITERS` bare clients publish side by side; return the share of messages that somebody did not get."""
        sent: list[bytes] = []

        async def writer() -> None:
            async with KuboClient(those.api) as client:
                for _ in range(UPDATES):
                    data = secrets.token_bytes(500)
                    sent.append(data)
                    with suppress(KuboRefused):  # some are answered with HTTP 500: lost, as counted below
                        await client.publish(self._topic, data)

        await asyncio.gather(*(writer() for _ in range(WRITERS)))
        await asyncio.sleep(2)
        everywhere = sum(len(self._heard.get(data, ())) == len(self._clients) - 1 for data in sent)
        return 1 - everywhere / len(sent)


# -- eight writers ----------------------------------------------------------------------------------------------------


async def writers(those: Sequence[KuboDaemon], folder: Path) -> list[Row]:
    """Count what of eight concurrent writers' last states arrives, beside bare concurrent publishing."""
    swarm = f"bench-{secrets.token_hex(4)}"
    async with AsyncExitStack() as stack:
        raw = await stack.enter_async_context(Raw.opened(those, f"{swarm}-raw"))
        lost = await raw.lost(those[0])
        stations = await start(stack, those, folder, swarm)
        states = dict.fromkeys(range(WRITERS), 0)

        async def writer(number: int) -> None:
            for step in range(1, UPDATES + 1):
                states[number] = step
                stations[0].offer(*(f"w{one}-{at}" for one, at in states.items()))
                await asyncio.sleep(0.01)

        before = stations[0].registry.status()["published"]["changes"]
        await asyncio.gather(*(writer(number) for number in range(WRITERS)))
        final = [f"w{one}-{UPDATES}" for one in range(WRITERS)]
        await until(lambda: all(each.sees(stations[0].id, *final) for each in stations))
        published = stations[0].registry.status()["published"]["changes"] - before
    return [
        Row("8 bare writers: messages that arrive everywhere", 100 * (1 - lost), "%"),
        Row("8 writers of state: last states that arrive everywhere", 100.0, "%", "all", 1.0, ">= 1"),
        Row(f"8 writers, {WRITERS * UPDATES} changes: publications", published, ""),
    ]


# -- a newcomer -------------------------------------------------------------------------------------------------------


async def newcomer(those: Sequence[KuboDaemon], folder: Path) -> list[Row]:
    """Measure from the moment a daemon is connected until its node holds the whole swarm."""
    swarm = f"bench-{secrets.token_hex(4)}"
    seconds = []
    async with AsyncExitStack() as stack:
        stations = await start(stack, those, folder, swarm)
        envelopes = strangers(NEWCOMER, swarm, stations[0].clock.now_ms())
        for each in stations:
            await each.hold(envelopes)
        for number in range(3):
            alone = KuboDaemon(those[0].binary, folder / f"new{number}")
            await asyncio.to_thread(alone.start)
            try:
                async with station(alone, folder / f"newcomer{number}", swarm=swarm) as new:
                    await until(partial(new.sees, new.id))
                    await asyncio.sleep(1)
                    await new.kubo.connect(those[0].address)
                    began = time.perf_counter()
                    await new.kubo.connect(those[1].address)
                    await until(partial(complete, new), every=0.005)
                    seconds.append(time.perf_counter() - began)
            finally:
                await asyncio.to_thread(alone.stop)
    middle = statistics.median(seconds)
    return [Row(f"newcomer: view of {NEWCOMER + 3} nodes complete", middle, "s", "1 s", middle, "<= 1")]


def complete(new: Station) -> bool:
    return len(new.view.members(new.clock.monotonic())) >= NEWCOMER + 3

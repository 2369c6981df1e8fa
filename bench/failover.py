"""From the death of a sticky forward's provider to the first good answer on the same port.

Two providers on Kubo daemons of their own, a client that asks again at once whenever it is refused or cut, and a provider that
dies: `kill -9` and SIGSTOP of its Kubo and of its service; as root also a cut link, between whole nodes on hosts of their own.
The times are the client's; the targets are seconds.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from bench.harness import Row
from dragon.connect import ForwardRequest
from dragon.errors import NoProvider
from dragon.home import Home
from dragon.kubo.binary import find
from tests.integration.connect.hosts import Hosts
from tests.integration.connect.world import World
from tests.testbed.kubo import KuboDaemon
from tests.testbed.netns import unable
from tests.testbed.services import start_service
from tests.unit.connect.sockets import get, until

KILLS = 50
FREEZES = 10
"""Fewer: each takes seconds by its nature (two pings of 1.5 s, or a test of 2.5 s, must fail before anybody is given up)."""

CUTS = 10
"""Fewer for the same reason, and because two hosts must find each other again after each."""

BACK = 60.0
"""Seconds for a provider to be back before the next death; a bound, not a figure."""


async def run() -> list[Row]:
    """Measure and return the rows."""
    logging.disable(logging.WARNING)  # deaths are what this is about
    binary = find(Home.locate())
    assert binary is not None, "run `make kubo` first"
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as folder:
        daemons = [KuboDaemon(binary, Path(folder) / f"k{number}") for number in range(3)]
        world = World(Path(folder))
        try:
            for daemon in daemons:
                daemon.start()
            for daemon in daemons[1:]:
                daemons[0].connect(daemon)
            async with world.stack:
                await world.consume(daemons[0])
                for daemon, alias in zip(daemons[1:], ("alpha", "beta"), strict=True):
                    await world.provide(daemon, alias)
                rows = await _measure(world, daemons[0])
        finally:
            logging.disable(logging.NOTSET)
            for daemon in daemons:
                daemon.stop()
    if (why := unable()) is not None:
        print(f"no links are cut here: {why}")
        return rows
    return rows + _cuts(binary)  # in this thread: what it starts ends with the thread that started it


async def _measure(world: World, me: KuboDaemon) -> list[Row]:
    port = (await world.me.forwards.forward(ForwardRequest("ollama"))).port

    def restart_kubo(number: int) -> None:
        world.daemons[number].start()
        me.connect(world.daemons[number])

    def thaw(number: int) -> None:
        world.daemons[number].thaw()

    def wake(number: int) -> None:
        world.services[number].thaw()

    def restart_service(number: int) -> None:
        old = world.services[number]
        new = start_service("http", home=old.home, name=old.name, port=old.port)
        world.services[number] = world.stack.enter_context(new)

    ways: list[tuple[str, int, float, Callable[[int], None], Callable[[int], None]]] = [
        ("kill -9 of the provider's Kubo", KILLS, 1.0, lambda number: world.daemons[number].kill(), restart_kubo),
        ("kill -9 of the service", KILLS, 1.0, lambda number: world.services[number].kill(), restart_service),
        ("SIGSTOP of the provider's Kubo", FREEZES, 5.0, lambda number: world.daemons[number].freeze(), thaw),
        ("SIGSTOP of the service", FREEZES, 5.0, lambda number: world.services[number].freeze(), wake),
    ]
    rows: list[Row] = []
    for name, rounds, bound, end, begin in ways:
        times = []
        for _ in range(rounds):
            first = world.of(next(info.provider for info in world.me.forwards.list() if info.port == port))
            assert await _answer(port) == world.providers[first].alias
            started = time.perf_counter()
            end(first)
            while await _answer(port) != world.providers[1 - first].alias:
                pass
            times.append(time.perf_counter() - started)
            await asyncio.to_thread(begin, first)
            await until(lambda first=first: _serves(world, first), BACK)
        rows += _rows(name, times, bound)
    return rows


def _rows(name: str, times: list[float], bound: float) -> list[Row]:
    median, tail = statistics.median(times), statistics.quantiles(times, n=20, method="inclusive")[-1]
    return [
        Row(f"{name}: p50 of {len(times)}", median, "s"),
        Row(f"{name}: p95 of {len(times)}", tail, "s", "seconds themselves", tail, f"<= {bound:g}"),
    ]


def _cuts(binary: Path) -> list[Row]:
    """Cut the present provider's link, again and again."""
    times = []
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as folder, ExitStack() as stack:
        hosts = Hosts(Path(folder), binary, stack)
        port = hosts.me.json("forward", "ollama")["port"]
        for _ in range(CUTS):
            first = hosts.provider_of(port)
            assert hosts.ask(port) == hosts.services[first - 1].pid
            hosts.hosts[first].cut()
            times.append(hosts.host.run(partial(_next_answer, port)))
            assert hosts.provider_of(port) != first
            hosts.mend(first)
    return _rows("cut link of the provider", times, 5.0)


async def _next_answer(port: int) -> float:
    started = time.perf_counter()
    while not await _answer(port):
        pass
    return time.perf_counter() - started


async def _answer(port: int) -> str:
    try:
        return await get(port)
    except (ConnectionError, TimeoutError):
        return ""


async def _serves(world: World, number: int) -> bool:
    """Tell whether a provider can be used again: a forward to it alone opens."""
    provider = world.providers[number]
    try:
        pinned = await world.me.forwards.forward(ForwardRequest("ollama", provider.node_id))
    except NoProvider:
        return False
    await world.me.forwards.off(None, pinned.port)
    return True

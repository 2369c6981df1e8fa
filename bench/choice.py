"""Choosing among 8 providers, one of them 10 × slower: p95 and the slow one's share, beside an oracle and beside random.

In virtual time (tests/simulator): real `choose`, measures and breakers, played services, so that the figures are the same on
every machine. The three see the same clients, services, seeds and load. The oracle knows every
service's speed and its queue at this moment, which no client can.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.harness import Row
from dragon.connect.choice import AtRandom, Candidate, PowerOfTwo, Strategy, StrategyName
from tests.simulator.clients import Client, Service, World

PROVIDERS, CLIENTS, LANES = 8, 10, 8
QUICK, SLOW = 0.1, 1.0
EACH = 0.2
"""Seconds between the requests of one client: as much as leaves even the slow one able to carry an eighth of it."""

SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Oracle:
    """Takes whoever will have answered first, knowing everybody's true speed and queue."""

    services: Sequence[Service]
    name: StrategyName = "first"

    def pick(self, eligible: Sequence[Candidate], at: float) -> tuple[Candidate, str]:
        true = {each.name: each.seconds * max(1.0, (each.busy() + 1) / each.lanes) for each in self.services}
        return min(eligible, key=lambda each: true[each.node_id]), "it knows"


def run() -> list[Row]:
    """Simulate and return the rows."""
    ours, share = _simulate(lambda rng, _: PowerOfTwo(rng))
    oracle, _ = _simulate(lambda _, services: Oracle(services))
    blind, blind_share = _simulate(lambda rng, _: AtRandom(rng))
    return [
        Row("p2c, p95", ours * 1000, "ms", "an oracle", ours / oracle, "<= 1.3"),
        Row("p2c, p95", ours * 1000, "ms", "random", ours / blind, "<= 0.6"),
        Row("p2c, share of the slow one", share * 100, "%", "all requests", share, "<= 0.05"),
        Row("oracle, p95", oracle * 1000, "ms"),
        Row("random, p95", blind * 1000, "ms"),
        Row("random, share of the slow one", blind_share * 100, "%", "all requests", blind_share),
    ]


def _simulate(strategy: Callable[[random.Random, Sequence[Service]], Strategy]) -> tuple[float, float]:
    """Return p95 in seconds, the time of learning included, and the part of the requests that went to the slow one."""
    world = World()
    services = [
        Service(world, f"P{number}", SLOW if number == 3 else QUICK, LANES, random.Random(number))
        for number in range(PROVIDERS)
    ]
    clients = []
    for number in range(CLIENTS):
        rng = random.Random(f"client {number}")
        clients.append(Client(world, services, rng, strategy(random.Random(number), services)))
        clients[-1].ask_every(EACH)
    world.run(SECONDS)
    latencies = [seconds for each in clients for seconds in each.latencies]
    asked = [len(each.arrivals) for each in services]
    return statistics.quantiles(latencies, n=100)[94], asked[3] / sum(asked)

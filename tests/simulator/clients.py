"""Many clients and few providers in virtual time: requests, queues, deaths, and observers that are themselves sick.

Every simulated client is the real `choose`, `Reach` (breaker, peak-EWMA) and `Awareness`; only the network, the services, the
event loop and the clock are played.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dragon.connect.awareness import PULSE, Awareness
from dragon.connect.choice import Candidate, PowerOfTwo, Strategy, choose
from dragon.connect.reach import Reach

TIMEOUT = 5.0
"""Seconds after which an attempt that heard nothing has failed: the configured `test_timeout`."""

REFUSAL = 0.001
"""Seconds until a dead provider's machine refuses."""

HANDSHAKE = 0.02
"""Seconds on the wire, there and back."""

TIMER, WIRE = 0, 1
"""After a stall the overdue timers fire before what has arrived is read: the order that is worse for the providers."""


class World:
    """The clock and what is to happen."""

    def __init__(self) -> None:
        self.at = 0.0
        self._heap: list[tuple[float, int, int, Callable[[], None]]] = []
        self._count = 0

    def later(self, at: float, what: Callable[[], None], kind: int = WIRE) -> None:
        self._count += 1
        heapq.heappush(self._heap, (max(at, self.at), kind, self._count, what))

    def run(self, until: float) -> None:
        while self._heap and self._heap[0][0] <= until:
            self.at, _, _, what = heapq.heappop(self._heap)
            what()
        self.at = until


class Service:
    """One provider: `lanes` requests at a time, each of about `seconds` (log-normal), the others wait their turn."""

    def __init__(self, world: World, name: str, seconds: float, lanes: int, rng: random.Random, *, spread: float = 0.3) -> None:
        self.world = world
        self.name = name
        self.seconds = seconds
        self.lanes = lanes
        self.spread = spread
        self.up = True
        self.arrivals: deque[float] = deque()
        self._rng = rng
        self._free = [0.0] * lanes
        self._ends: list[float] = []

    def serve(self) -> float:
        """Take a request now; return when its answer leaves."""
        at = self.world.at
        self.arrivals.append(at)
        took = self.seconds * self._rng.lognormvariate(-(self.spread**2) / 2, self.spread)
        end = max(at, heapq.heappop(self._free)) + took
        heapq.heappush(self._free, end)
        heapq.heappush(self._ends, end)
        return end

    def busy(self) -> int:
        """Return how many requests it has now, the waiting ones included."""
        while self._ends and self._ends[0] <= self.world.at:
            heapq.heappop(self._ends)
        return len(self._ends)

    def arrived(self, since: float, until: float) -> int:
        return sum(since <= at < until for at in self.arrivals)


@dataclass(eq=False)
class Client:
    """One node that uses the services. `stalls` are times in which its event loop stands, `silences` those of its Kubo."""

    world: World
    services: Sequence[Service]
    rng: random.Random
    strategy: Strategy | None = None
    sticky: bool = False
    aware: bool = True
    stalls: Sequence[tuple[float, float]] = ()
    silences: Sequence[tuple[float, float]] = ()
    known: Callable[[Service], bool] = lambda _: True
    reaches: dict[str, Reach] = field(default_factory=dict)
    awareness: Awareness = field(default_factory=Awareness)
    latencies: list[float] = field(default_factory=list)
    choices: list[str] = field(default_factory=list)
    wrongly_down: int = 0
    """Times that a provider which was up was taken for dead."""
    dials: Counter[str] = field(default_factory=Counter)
    _running: int = 0

    def __post_init__(self) -> None:
        self.strategy = self.strategy or PowerOfTwo(self.rng)

    def ask_every(self, seconds: float, *, since: float = 0.0) -> None:
        """Begin to ask at random times, so often on average."""

        def again() -> None:
            self.ask()
            self._hear(self.world.at + self.rng.expovariate(1 / seconds), again, TIMER)

        self._hear(since + self.rng.uniform(0, seconds), again, TIMER)

    def ask(self, tried: dict[str, str] | None = None, began: float | None = None) -> None:
        """Choose and ask; the next one on failure."""
        at, tried = self.world.at, dict(tried or {})
        began = at if began is None else began
        assert self.strategy is not None
        incumbent = self.choices[-1] if self.sticky and self.choices else None
        candidates = [self._candidate(each) for each in self.services if self.known(each)]
        taken = choose(
            candidates, self.strategy, at, tried=tried, incumbent=incumbent, ailing=self.awareness.ailing(at)
        ).provider
        if taken is None:
            return
        service = next(each for each in self.services if each.name == taken.node_id)
        reach = self._reach(service)
        reach.attempt(at)
        reach.in_flight += 1
        self.dials[service.name] += 1
        self._begin()
        open_ = [True]

        def ended(why: str | None) -> None:
            if not open_[0]:
                return
            open_[0] = False
            reach.in_flight -= 1
            now = self.world.at
            if why is None:
                self.choices.append(service.name)
                self.latencies.append(now - began)
                reach.succeed(now - at if self._ours() is None else None, now)
            else:
                self._blame(service, reach, why)
                self.ask({**tried, service.name: why}, began)
            self._end()

        if service.up:
            self._hear(self._carried(service.serve() + HANDSHAKE), lambda: ended(None))
        else:
            self._hear(at + REFUSAL, lambda: ended("refused"))
        self._hear(at + TIMEOUT, lambda: ended("no answer"), TIMER)

    def switches(self) -> int:
        """Return how often the choice differed from the one before."""
        return sum(one != other for one, other in zip(self.choices, self.choices[1:], strict=False))

    # -- what finder.py and pulse.py do with the same values --------------------------------------------------------------

    def _blame(self, service: Service, reach: Reach, why: str) -> None:
        if self.aware and any(since <= self.world.at < until for since, until in self.silences):
            self.awareness = self.awareness.fell_ill(self.world.at, "our own Kubo did not answer")
        if self._ours() is not None:
            return reach.excuse(why)
        before = reach.breaker.opened_at
        reach.fail(self.world.at, why)
        self.wrongly_down += service.up and reach.breaker.opened_at not in (None, before)
        return None

    def _ours(self) -> str | None:
        return self.awareness.ailing(self.world.at) if self.aware else None

    def _begin(self) -> None:
        self._running += 1
        if self._running == 1:
            self._pulse()

    def _end(self) -> None:
        self._running -= 1
        if self._running == 0:
            self.awareness = self.awareness.rest(self.world.at)

    def _pulse(self) -> None:
        if self._running:
            self.awareness = self.awareness.pulse(self.world.at)
            self._hear(self.world.at + PULSE, self._pulse, TIMER)

    # -- the played parts -------------------------------------------------------------------------------------------------

    def _reach(self, service: Service) -> Reach:
        return self.reaches.setdefault(service.name, Reach(service.name, "ollama", "p2p"))

    def _candidate(self, service: Service) -> Candidate:
        reach = self._reach(service)
        return Candidate(
            service.name, service.name, "ollama", measured=reach.measured, in_flight=reach.in_flight, breaker=reach.breaker
        )

    def _carried(self, at: float) -> float:
        """Return when our own Kubo hands over what arrives at `at`."""
        return next((until for since, until in self.silences if since <= at < until), at)

    def _hear(self, at: float, what: Callable[[], None], kind: int = WIRE) -> None:
        """Let the client's event loop do `what` at `at`, or when it runs again."""

        def due() -> None:
            until = next((until for since, until in self.stalls if since <= self.world.at < until), None)
            if until is None:
                what()
            else:
                self.world.later(until, due, kind)

        self.world.later(at, due, kind)

"""Choosing in virtual time, with seeds: sick observers, herds and flapping, lies. THREATS 21, 22, 23; I6."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from dragon.connect import choice
from dragon.connect.breaker import THRESHOLD
from tests.simulator.clients import TIMEOUT, Client, Service, World

SEEDS = range(2)
Spans = Sequence[tuple[float, float]]


def services(world: World, seconds: Sequence[float], seed: int, *, lanes: int = 50) -> list[Service]:
    return [Service(world, f"P{n}", each, lanes, random.Random(f"{seed} {n}")) for n, each in enumerate(seconds)]


def clients(world: World, offered: Sequence[Service], count: int, seed: int, **more: object) -> list[Client]:
    return [Client(world, offered, random.Random(f"{seed} client {n}"), **more) for n in range(count)]  # type: ignore[arg-type]


def shares(offered: Sequence[Service], since: float, until: float) -> list[float]:
    counts = [each.arrived(since, until) for each in offered]
    return [count / sum(counts) for count in counts]


# -- 21: a sick observer ejects nobody ------------------------------------------------------------------------------------


def stopped(rng: random.Random) -> Spans:
    """SIGSTOP, SIGCONT: for a part of a second up to a minute, again and again."""
    spans, at = [], 5.0
    while at < 240:
        length = rng.choice([0.5, 2.0, TIMEOUT, 8.0, 20.0, 60.0]) * rng.uniform(0.9, 1.1)
        spans.append((at, at + length))
        at += length + rng.uniform(0.0, 20.0)
    return spans


def starved(rng: random.Random) -> Spans:
    """A machine with too much to do: a few milliseconds of processor, then seconds without, for minutes."""
    spans, at = [], 5.0
    while at < 240:
        length = rng.choice([0.05, 0.3, 1.0, 3.0, 6.0])
        spans.append((at, at + length))
        at += length + rng.uniform(0.002, 0.5)
    return spans


def silent(rng: random.Random) -> Spans:
    """Our own Kubo hangs for half a minute to two."""
    spans, at = [], 5.0
    while at < 240:
        length = rng.uniform(30.0, 120.0)
        spans.append((at, at + length))
        at += length + rng.uniform(10.0, 60.0)
    return spans


SICK: dict[str, tuple[str, Callable[[random.Random], Spans]]] = {
    "SIGSTOP": ("stalls", stopped),
    "CPU starvation": ("stalls", starved),
    "own Kubo hangs": ("silences", silent),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("sickness", SICK)
def test_a_sick_observer_takes_nobody_for_dead(sickness: str, seed: int) -> None:
    """THREATS 21: 0 wrong verdicts; the same without local-health awareness has some, so the simulation can tell."""
    where, spans = SICK[sickness]
    wrong = {}
    for aware in (True, False):
        world = World()
        offered = services(world, [0.5, 1.0, 1.0], seed)
        more = {where: spans(random.Random(f"{sickness} {seed}")), "aware": aware}
        [observer] = clients(world, offered, 1, seed, **more)
        observer.ask_every(0.1)
        world.run(300)
        assert len(observer.latencies) > 30
        wrong[aware] = observer.wrongly_down
    assert wrong[True] == 0
    assert wrong[False] > 0


@pytest.mark.parametrize("seed", SEEDS)
def test_correct_and_responsive_means_never_down(seed: int) -> None:
    """I6: also under load, and with one answer in a thousand lost (KUBO.md)."""

    class Lossy(Service):
        def serve(self) -> float:
            return super().serve() + (1e6 if rng.random() < 1e-3 else 0.0)

    rng, world = random.Random(seed), World()
    offered = [Lossy(world, f"P{n}", 0.1, 4, random.Random(f"{seed} {n}")) for n in range(3)]
    everyone = clients(world, offered, 10, seed)
    for each in everyone:
        each.ask_every(0.5)
    world.run(200)
    assert sum(len(each.latencies) for each in everyone) > 3_000
    assert sum(sum(reach.failures for reach in each.reaches.values()) for each in everyone) > 0
    assert [each.wrongly_down for each in everyone] == [0] * 10


def test_an_observer_that_is_well_again_sees_who_is_dead() -> None:
    world = World()
    offered = services(world, [0.1, 0.1], 1)
    [observer] = clients(world, offered, 1, 1, stalls=[(10.0, 20.0)])
    observer.ask_every(0.2)
    world.run(30)
    offered[0].up = False
    world.run(90)
    assert observer.reaches["P0"].breaker.opened_at is not None
    assert observer.wrongly_down == 0


# -- 22: herds and flapping -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_the_slow_one_of_three_gets_less_than_a_tenth_of_a_hundred_clients(seed: int) -> None:
    world = World()
    offered = services(world, [0.1, 0.1, 1.0], seed)
    for each in clients(world, offered, 100, seed):
        each.ask_every(1.0)
    world.run(60)
    assert shares(offered, 0, 60)[2] < 0.10
    assert min(shares(offered, 0, 60)[:2]) > 0.35, "the two quick ones share the rest"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_standing_choice_does_not_flap(seed: int) -> None:
    """Three equal providers whose answers vary: in five minutes a sticky client moves a few times at most."""
    moves = {}
    for sticky in (True, False):
        world = World()
        offered = services(world, [0.1, 0.1, 0.1], seed)
        everyone = clients(world, offered, 60, seed, sticky=sticky)
        for each in everyone:
            each.ask_every(2.0)
        world.run(300)
        moves[sticky] = sorted(each.switches() for each in everyone)
        assert max(shares(offered, 0, 300)) < 0.5, "sticky choices are spread too"
    assert moves[True][30] <= 3
    assert moves[True][-1] <= 12
    assert moves[False][30] > 50, "without hysteresis the choice wanders"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_standing_choice_is_left_when_it_turns_slow(seed: int) -> None:
    world = World()
    offered = services(world, [0.1, 0.1, 0.1], seed)
    for each in clients(world, offered, 50, seed, sticky=True):
        each.ask_every(1.0)
    world.run(60)
    offered[0].seconds *= 10
    world.run(120)
    assert shares(offered, 90, 120)[0] < 0.10


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("new", [True, False], ids=["a newcomer", "back from the dead"])
def test_no_herd_runs_to_who_is_new_or_back(seed: int, new: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other two are loaded, so the third looks better to everybody: its share grows, and is never more than its part."""
    peaks = []
    for first in (choice.FIRST_SHARE, 1.0):  # 1.0: without slow start
        monkeypatch.setattr(choice, "FIRST_SHARE", first)
        world = World()
        offered = services(world, [0.1, 0.1, 0.1], seed, lanes=3)
        third = offered[2]
        known = (lambda each, world=world: each.name != "P2" or world.at >= 60) if new else (lambda each: True)
        everyone = clients(world, offered, 50, seed, known=known)
        for each in everyone:
            each.ask_every(1.0)
        if not new:
            world.run(20)
            third.up = False
        world.run(60)
        third.up = True
        world.run(120)
        peaks.append(max(third.arrived(at, at + 3) / (50 * 3) for at in range(60, 70)))
        assert 0.2 < shares(offered, 100, 120)[2] < 0.5, "in the end it has its part"
    assert peaks[0] < 0.4
    if new:  # who was out is looked at by each client at another time, so that even without slow start the herd is small
        assert peaks[1] > 0.4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_provider_that_comes_and_goes_moves_its_clients_ever_more_seldom(seed: int) -> None:
    world = World()
    offered = services(world, [0.1, 0.1, 0.1], seed)
    flapper = offered[0]

    def flap() -> None:
        flapper.up = not flapper.up
        world.later(world.at + 3.0, flap)

    world.later(10.0, flap)
    everyone = clients(world, offered, 5, seed)
    for each in everyone:
        each.ask_every(0.25)
    world.run(310)
    failures = [each.reaches["P0"].failures for each in everyone]
    assert max(failures) < 30, "50 deaths, three dials each, would be 150"
    assert all(len(each.latencies) > 1000 for each in everyone), "nobody went unserved"


# -- 23: claims -----------------------------------------------------------------------------------------------------------


def test_a_false_claim_of_health_costs_three_dials() -> None:
    """And then one per cooldown, which doubles: for each client, whatever the provider says."""
    world = World()
    offered = services(world, [0.1, 0.1, 0.1], 1)
    offered[0].up = False
    everyone = clients(world, offered, 10, 1)
    for each in everyone:
        each.ask_every(0.5)
    at, opened = 0.0, dict[int, int]()
    while at < 300:
        at += 0.1
        world.run(at)
        for number, each in enumerate(everyone):
            if "P0" in each.reaches and each.reaches["P0"].breaker.opened_at is not None:
                opened.setdefault(number, each.dials["P0"])
    assert set(opened.values()) == {THRESHOLD}
    assert max(each.dials["P0"] for each in everyone) <= THRESHOLD + 6 + 300 / 60

"""Who is declared dead, and who is not: a sick observer ejects nobody (THREATS 21)."""

from __future__ import annotations

import asyncio

import pytest

from dragon.connect.vigil import PING_TIMEOUT, Vigil
from dragon.errors import KuboRefused, KuboUnreachable
from dragon.kubo.fake import FakeKubo, FakeNetwork


class Clock:
    """Stands still unless a ping takes its time."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at

    def now_ms(self) -> int:
        return 0

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(0)


class Engine(FakeKubo):
    """Answers pings by a script: seconds it takes, or an error. `answers` tells whether it answers anything else."""

    def __init__(self, clock: Clock, script: list[float | Exception], *, answers: bool = True) -> None:
        super().__init__(FakeNetwork())
        self.clock = clock
        self.script = script
        self.answers = answers
        self.pings = 0

    async def ping(self, node_id: str, timeout: float) -> float:
        self.pings += 1
        await asyncio.sleep(0)
        step = self.script.pop(0)
        if isinstance(step, Exception):
            raise step
        self.clock.at += step
        if step > timeout:
            raise KuboUnreachable("no answer in time")
        return step

    async def peers(self) -> list:  # type: ignore[type-arg]
        if not self.answers:
            raise KuboUnreachable("the engine itself is silent")
        return []


LATE = PING_TIMEOUT + 0.01
SICK = PING_TIMEOUT + 5.0


@pytest.mark.parametrize(
    ("script", "answers", "dead", "pings"),
    [
        ([0.01], True, False, 1),
        ([LATE, 0.01], True, False, 2),
        ([LATE, LATE], True, True, 2),
        ([KuboRefused("no route"), KuboRefused("no route")], True, True, 2),
        ([LATE, LATE], False, False, 1),
        ([SICK, LATE], True, False, 1),
        ([LATE, SICK], True, False, 2),
    ],
    ids=["alive", "one lost ping", "dead", "gone", "our engine is silent", "we were late", "we were late the second time"],
)
async def test_verdicts(script: list[float | Exception], answers: bool, dead: bool, pings: int) -> None:
    clock, deaths = Clock(), list[str]()
    engine = Engine(clock, script, answers=answers)
    vigil = Vigil(engine, clock, lambda node_id, why: deaths.append(node_id))
    vigil.look({"A"})
    vigil.look({"A"})  # asked already: not twice at once
    for _ in range(50):
        await asyncio.sleep(0)
    assert (deaths, engine.pings) == (["A"] if dead else [], pings)
    await vigil.close()


async def test_closing_ends_the_asking() -> None:
    class Hanging(FakeKubo):
        async def ping(self, node_id: str, timeout: float) -> float:
            await asyncio.sleep(3600)
            return 0.0

    vigil = Vigil(Hanging(FakeNetwork()), Clock(), lambda node_id, why: None)
    vigil.look({"A", "B"})
    await asyncio.sleep(0)
    await vigil.close()
    assert len(asyncio.all_tasks()) == 1

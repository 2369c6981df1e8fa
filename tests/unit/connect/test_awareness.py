"""Is it us? Evidence against ourselves, as a table; and that a sick observer holds nothing against anybody. THREATS 21."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.clock import SystemClock
from dragon.connect.awareness import CONVALESCENCE, PULSE, TOLERANCE, Awareness
from dragon.connect.pulse import Pulse
from dragon.errors import KuboUnreachable
from dragon.kubo.fake import FakeKubo, FakeNetwork
from dragon.kubo.types import Peer

LATE = "our own event loop was 3.0 s late"
SICK_PULSE = PULSE + 3.0


def play(*events: tuple[str, float]) -> Awareness:
    awareness = Awareness()
    for event, at in events:
        match event:
            case "pulse":
                awareness = awareness.pulse(at)
            case "rest":
                awareness = awareness.rest(at)
            case "kubo":
                awareness = awareness.fell_ill(at, "our own Kubo did not answer")
    return awareness


@pytest.mark.parametrize(
    ("awareness", "at", "ours"),
    [
        (play(), 1e6, None),
        (play(("pulse", 0.0)), PULSE, None),
        (play(("pulse", 0.0)), PULSE + TOLERANCE, None),
        (play(("pulse", 0.0)), SICK_PULSE, LATE),  # overdue: the pulse itself has not even come yet
        (play(("pulse", 0.0), ("pulse", SICK_PULSE)), SICK_PULSE, LATE),
        (play(("pulse", 0.0), ("pulse", SICK_PULSE), ("rest", SICK_PULSE)), SICK_PULSE + CONVALESCENCE - 0.1, LATE),
        (play(("pulse", 0.0), ("pulse", SICK_PULSE), ("rest", SICK_PULSE)), SICK_PULSE + CONVALESCENCE, None),
        (play(("pulse", 0.0), ("rest", SICK_PULSE)), SICK_PULSE, LATE),
        (play(("pulse", 0.0), ("rest", 0.1)), 1e6, None),  # nothing is tried, so no pulse is due
        (play(("pulse", 0.0), ("rest", 0.1), ("pulse", 1e6)), 1e6, None),
        (play(("kubo", 5.0)), 6.0, "our own Kubo did not answer"),
        (play(("kubo", 5.0)), 5.0 + CONVALESCENCE, None),
    ],
)
def test_evidence(awareness: Awareness, at: float, ours: str | None) -> None:
    assert awareness.ailing(at) == ours


@given(st.lists(st.floats(0.0, PULSE + TOLERANCE - 0.01), max_size=50))
@settings(max_examples=50)
def test_who_is_in_time_is_never_ailing(pauses: list[float]) -> None:
    awareness, at = Awareness(), 0.0
    for pause in pauses:
        awareness, at = awareness.pulse(at), at + pause
        assert awareness.ailing(at) is None


class Engine(FakeKubo):
    answers = False

    async def peers(self) -> list[Peer]:
        if not self.answers:
            raise KuboUnreachable("silent")
        return []


async def test_our_own_kubo_is_asked_before_anybody_is_blamed() -> None:
    engine = Engine(FakeNetwork())
    pulse = Pulse(SystemClock(), engine)
    engine.answers = True
    await pulse.ask_engine()
    assert pulse.ailing() is None
    engine.answers = False
    await pulse.ask_engine()
    assert pulse.ailing() == "our own Kubo did not answer"


async def test_the_pulse_beats_only_beside_attempts_and_feels_a_blocked_loop() -> None:
    class Clock(SystemClock):
        at = 0.0

        def monotonic(self) -> float:
            return self.at

        async def sleep(self, seconds: float) -> None:
            await asyncio.Event().wait()

    clock = Clock()
    pulse = Pulse(clock, FakeKubo(FakeNetwork()))
    with pulse.beside(), pulse.beside():
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2
        clock.at = SICK_PULSE  # the time-out of an attempt comes before the pulse that is due
        assert pulse.ailing() == LATE
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    assert pulse.ailing() == LATE
    clock.at += CONVALESCENCE
    assert pulse.ailing() is None

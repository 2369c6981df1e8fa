"""When a subscription counts as dead, on a clock turned by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dragon.errors import KuboUnreachable
from dragon.kubo.pulse import INTERVAL, LIMIT, Pulse
from tests.unit.kubo.clocks import HandClock


class Daemon:
    def __init__(self) -> None:
        self.topics, self.answering, self.asked = {"a", "b"}, True, 0

    async def ask(self) -> frozenset[str]:
        self.asked += 1
        if not self.answering:
            raise KuboUnreachable("Kubo does not answer: no answer in time")
        return frozenset(self.topics)


def stop(daemon: Daemon) -> None:
    daemon.answering = False


def forget(daemon: Daemon) -> None:
    daemon.topics = {"b"}


@pytest.mark.parametrize(("happening", "dead"), [(stop, {"a", "b"}), (forget, {"a"}), (lambda daemon: None, set())])
async def test_what_kills_which_subscription(happening: Callable[[Daemon], None], dead: set[str]) -> None:
    daemon, clock, failed = Daemon(), HandClock(), dict[str, KuboUnreachable]()
    pulse = Pulse(daemon.ask, clock)
    with pulse.watching("a", lambda error: failed.update(a=error)), pulse.watching("b", lambda error: failed.update(b=error)):
        for _ in range(3):
            await clock.turn(INTERVAL)
        assert failed == {}
        happening(daemon)
        await clock.turn(INTERVAL)
        assert set(failed) == dead
        first = dict(failed)
        await clock.turn(INTERVAL)
        assert failed == first  # told once
    await pulse.close()


async def test_it_asks_only_while_something_is_watched() -> None:
    daemon, clock = Daemon(), HandClock()
    pulse = Pulse(daemon.ask, clock)
    await clock.turn(10)
    assert daemon.asked == 0
    with pulse.watching("a", lambda error: None):
        await clock.turn(INTERVAL)
    asked = daemon.asked
    assert asked > 0
    await clock.turn(10)
    assert daemon.asked == asked


async def test_the_end_of_the_connection_tells_everybody_at_once() -> None:
    failed: list[KuboUnreachable] = []
    pulse = Pulse(Daemon().ask, HandClock())
    with pulse.watching("a", failed.append), pulse.watching("b", failed.append):
        pulse.lost()
        pulse.lost()
        assert len(failed) == 2
    await pulse.close()


async def test_closing_tells_the_watched() -> None:
    failed: list[KuboUnreachable] = []
    pulse = Pulse(Daemon().ask, HandClock())
    with pulse.watching("a", failed.append):
        await pulse.close()
    assert len(failed) == 1


def test_a_death_is_noticed_within_a_second() -> None:
    assert INTERVAL + LIMIT < 1

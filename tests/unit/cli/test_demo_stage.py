"""The stage of the demo: an interruption never comes between a process and those who would end it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from dragon.cli.demo_stage import Stage

NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", NUMBERS)
def test_an_interruption_waits_for_the_end_of_an_undisturbed_block(number: signal.Signals) -> None:
    done: list[str] = []

    def story() -> None:
        with Stage() as stage:
            with stage.undisturbed():
                signal.raise_signal(number)
                stage.callback(done.append, "ended")
                done.append("started")
            done.append("went on")

    with pytest.raises(KeyboardInterrupt):
        story()
    assert done == ["started", "ended"]


@pytest.mark.parametrize("number", NUMBERS)
def test_outside_of_one_it_comes_at_once(number: signal.Signals) -> None:
    done: list[str] = []

    def story() -> None:
        with Stage() as stage:
            with stage.undisturbed():
                done.append("started")
            signal.raise_signal(number)
            done.append("went on")

    with pytest.raises(KeyboardInterrupt):
        story()
    assert done == ["started"]


def test_the_folder_goes_and_the_handlers_return_and_a_second_interruption_does_not_stop_the_clearing() -> None:
    before = [signal.getsignal(number) for number in NUMBERS]
    done: list[Path] = []

    def story() -> None:
        with Stage() as stage:
            (stage.root / "file").write_text("there until the end")
            stage.callback(done.append, stage.root)
            stage.callback(signal.raise_signal, signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        story()
    assert [root.exists() for root in done] == [False]
    assert [signal.getsignal(number) for number in NUMBERS] == before

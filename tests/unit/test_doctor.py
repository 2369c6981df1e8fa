"""What the doctor says of the swarm, out of values: no node, no clock."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dragon.doctor import swarm_findings
from dragon.home import Home
from dragon.kubo.checks import Finding
from dragon.registry.entry import NodeView

HOME = Home(Path("/srv/dragon"))


def nodes(**states: str) -> list[NodeView]:
    """Nodes by alias; a skewed one says `skewed:why`."""
    made = []
    for alias, text in states.items():
        state, _, reason = text.partition(":")
        made.append(SimpleNamespace(alias=alias, state=state, reason=reason))
    return cast(list[NodeView], made)


def status(*, clock: bool = False, mute: bool = False, ahead: float = 0.0, problem: str = "") -> dict[str, Any]:
    return {"join_problems": {}, "clock": clock, "mute": mute, "published": {"ahead": ahead, "problem": problem}}


def named(found: list[Finding], name: str) -> list[str]:
    """The text of the findings called `name` that are not well, with what to do."""
    return [f"{finding.detail} → {finding.fix}" for finding in found if finding.name == name and not finding.ok]


BEHIND = "skewed:its clock is 60 min behind ours"
AHEAD = "skewed:its clock is 60 min ahead of ours"


@pytest.mark.parametrize(
    ("others", "told", "name", "expected"),
    [
        ({}, {}, "swarm", ["0 live of 0 nodes known", "join ="]),
        ({"a": "silent"}, {}, "swarm", ["0 live of 1", "join ="]),
        ({"a": BEHIND}, {}, "swarm", ["a: its clock is 60 min behind ours", "date -u"]),
        ({"a": BEHIND, "b": BEHIND}, {"clock": True}, "clock", ["this machine's clock is wrong", "2 nodes", "timedatectl"]),
        ({"a": "live"}, {"ahead": 3300.0}, "publisher", ["55 min", "/srv/dragon/registry.sqlite"]),
        ({"a": "live"}, {"mute": True}, "publisher", ["not heard", "restart Kubo"]),
        ({"a": "live"}, {"problem": "the disk is full"}, "publisher", ["not published: the disk is full"]),
    ],
)
def test_what_is_wrong_is_said_with_what_mends_it(
    others: dict[str, str], told: dict[str, Any], name: str, expected: list[str]
) -> None:
    (text,) = named(swarm_findings(nodes(**others), status(**told), HOME), name)
    for part in expected:
        assert part in text


def test_a_clock_that_stepped_back_is_not_one_that_was_ahead() -> None:
    """Its own last word lies ahead of it then too, but so do those of all others; a mute publisher is told as one."""
    found = swarm_findings(nodes(a=AHEAD, b=AHEAD), status(clock=True, mute=True, ahead=3300.0), HOME)
    assert len(named(found, "clock")) == 1
    assert "restart Kubo" in named(found, "publisher")[0]


def test_a_healthy_swarm_has_one_finding() -> None:
    assert swarm_findings(nodes(a="live", b="live"), status(), HOME) == [
        Finding("swarm", True, "2 live of 2 nodes known", essential=False)
    ]


def test_a_clock_that_was_ahead_is_not_taken_for_a_deaf_kubo() -> None:
    """Nobody holds what was refused, so the node looks mute too; restarting Kubo would not help."""
    (text,) = named(swarm_findings(nodes(a="live"), status(mute=True, ahead=60.0), HOME), "publisher")
    assert "Kubo" not in text

"""What is left of a view after a restart, and that nothing goes back."""

from __future__ import annotations

from typing import Any

import pytest

from dragon.registry.view import Admitted, Duplicate, Rejected
from registry_schema import Rank, parse
from tests.simulator.signers import NOW_MS, Signer
from tests.unit.registry.world import World

A, RELAY = Signer("a"), Signer("relay")


def restarted(data: bytes, away: float) -> World:
    """A world whose store held `data`, heard `away` seconds ago."""
    world = World(marks={parse(data).manifest.node: parse(data).rank})
    world.now_ms = NOW_MS + round(away * 1000)
    assert world.view.restore(data, age=away, at=world.at)
    return world


def test_what_was_stored_is_silent_until_somebody_confirms_it() -> None:
    """THREATS 2: nothing restored is used; a hint whom to ask."""
    data = A.envelope(NOW_MS, ["ollama"])
    world = restarted(data, 10)
    shown = world.view.node(A.node_id, world.at)
    assert shown is not None
    assert (shown.state, shown.source, shown.last_seen) == ("silent", "store", 10)
    assert world.view.providers("ollama", at=world.at) == []
    assert list(world.view.bucket(range(16), world.at)) == []
    verdict = world.hear(data, "exchange", RELAY.node_id, age=12)
    assert isinstance(verdict, Admitted)
    assert verdict.change == "back"
    assert len(world.view.providers("ollama", at=world.at)) == 1
    world.wait(90 - 12)
    assert world.state(A) == "silent"


def test_a_confirmation_does_not_make_it_younger_than_we_know_it_to_be() -> None:
    """THREATS 3: the stored time of hearing counts, whatever a relay or a replayed pubsub message says."""
    data = A.envelope(NOW_MS, ["ollama"])
    for source in ("exchange", "pubsub"):
        world = restarted(data, 100)
        carrier = A.node_id if source == "pubsub" else RELAY.node_id
        assert isinstance(world.hear(data, source, carrier), Duplicate)
        assert world.state(A) == "silent"


def test_a_restored_mark_refuses_everything_below_it() -> None:
    """THREATS 1, 2."""
    old, held = A.envelope(NOW_MS - 1), A.envelope(NOW_MS)
    world = restarted(held, 1)
    verdict = world.hear(old)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "stale"
    assert isinstance(world.hear(A.envelope(NOW_MS + 1)), Admitted)


def test_a_mark_without_its_envelope_still_lets_that_envelope_in() -> None:
    """The envelope may have been too old to restore, or lost; its mark alone must not lock its own node out."""
    data = A.envelope(NOW_MS)
    world = World(marks={A.node_id: parse(data).rank})
    assert isinstance(world.hear(A.envelope(NOW_MS - 1)), Rejected)
    assert isinstance(world.hear(data), Admitted)
    assert world.state(A) == "live"


@pytest.mark.parametrize(
    "case", ["forged", "foreign swarm", "kept too long", "below its mark", "our own", "not on the list", "torn"]
)
def test_what_no_longer_holds_is_not_restored(case: str) -> None:
    """I4: a store is a file; what it says is checked like anything else."""
    data, age = A.envelope(NOW_MS), 1.0
    marks: dict[str, Rank] = {}
    policy: dict[str, Any] = {}
    if case == "forged":
        data = data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]
    elif case == "foreign swarm":
        data = A.envelope(NOW_MS, swarm="other")
    elif case == "kept too long":
        age = 49 * 3600.0
    elif case == "below its mark":
        marks = {A.node_id: (NOW_MS + 1, b"")}
    elif case == "our own":
        data = Signer("me").envelope(NOW_MS)
    elif case == "not on the list":
        policy = {"admit": frozenset({RELAY.node_id})}
    else:
        data = data[:50]
    world = World(marks=marks, **policy)
    assert not world.view.restore(data, age=age, at=world.at)
    assert world.view.nodes(world.at) == []


def test_our_own_old_word_comes_back_from_others_and_tells_where_to_continue() -> None:
    """DESIGN §5: a node that lost its home asks peers for its own last envelope."""
    world = World()
    mine = world.me.envelope(NOW_MS + 1000, ["ollama"])
    assert isinstance(world.hear(mine, "exchange", RELAY.node_id, age=3), Admitted)
    mark = world.view.mark(world.me.node_id)
    assert mark is not None
    assert mark[0] == NOW_MS + 1000
    own = world.hear(world.me.envelope(NOW_MS + 1001), "self")
    assert isinstance(own, Admitted)
    world.wait(10_000)
    assert world.state(world.me) == "live"  # we are there as long as we run
    assert world.view.node(world.me.node_id, world.at).is_self  # type: ignore[union-attr]

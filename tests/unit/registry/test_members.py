"""The known are never pushed out, the unknown share one bounded crowd."""

from __future__ import annotations

import random

from dragon.registry.members import Crowd, Members
from dragon.registry.view import Admitted
from tests.simulator.signers import Signer
from tests.unit.registry.world import World

NODES = [Signer(f"m{number}") for number in range(12)]


def members(known: int, unknown: int, known_bytes: int = 10**6, unknown_bytes: int = 10**6) -> Members:
    return Members(Crowd(known, known_bytes), Crowd(unknown, unknown_bytes), random.Random(3))


def test_a_crowd_picks_any_of_its_members() -> None:
    crowd = Crowd(100, 10**6)
    for number in range(20):
        crowd.put(f"n{number}", number)
    for number in range(0, 20, 2):
        assert crowd.remove(f"n{number}") == number
    assert crowd.remove("n0") == 0
    assert crowd.size == sum(range(1, 20, 2))
    rng = random.Random(1)
    assert {crowd.pick(rng) for _ in range(400)} == {f"n{number}" for number in range(1, 20, 2)}
    crowd.put("n1", 50)
    assert crowd.size == sum(range(1, 20, 2)) + 49


def test_newcomers_push_out_random_strangers_and_never_the_known() -> None:
    """THREATS 7."""
    held = members(known=5, unknown=10)
    for number in range(5):
        held.vouch(f"friend {number}")
        assert held.put(f"friend {number}", 100) == []
    present: set[str] = set()
    for number in range(5000):
        name = f"sybil {number}"
        evicted = held.put(name, 100)
        present = (present | {name}) - set(evicted)
        assert len(present) <= 10
        assert not any(one.startswith("friend") for one in evicted)
        assert name not in evicted
    assert len(held) == 15
    assert all(held.is_known(f"friend {number}") for number in range(5))


def test_the_crowd_is_bounded_in_bytes_too() -> None:
    """I5: few envelopes of the largest size must not cost more than many small ones."""
    held = members(known=5, unknown=1000, unknown_bytes=10_000)
    evicted = [held.put(f"large {number}", 3000) for number in range(100)]
    assert len(held) == 3
    assert sum(map(len, evicted)) == 97


def test_who_grows_beyond_what_the_known_may_take_counts_as_unknown_again() -> None:
    held = members(known=5, unknown=5, known_bytes=1000)
    for name in ("a", "b"):
        held.vouch(name)
        held.put(name, 400)
    assert held.put("b", 700) == []
    assert (held.is_known("a"), held.is_known("b")) == (True, False)
    assert not held.vouch("b")
    held.put("b", 500)
    assert held.vouch("b")


def test_a_vouched_node_without_room_enters_the_crowd() -> None:
    held = members(known=1, unknown=5)
    for name in ("a", "b"):
        assert held.vouch(name)
        held.put(name, 1)
    assert len(held) == 2
    held.forget("a")
    assert held.vouch("b")
    assert not held.is_known("a")


def test_three_beats_a_connection_or_an_answer_make_a_node_known() -> None:
    """DESIGN §5; beats in one moment count once: to become known costs time."""
    world = World()
    by_beats, connected, answered, hasty = NODES[:4]
    world.view.note_connected(connected.node_id)
    world.beat(connected)
    assert world.view.is_known(connected.node_id)
    world.beat(answered)
    world.view.note_answered(answered.node_id)
    assert world.view.is_known(answered.node_id)
    for count in range(3):
        world.beat(by_beats)
        assert world.view.is_known(by_beats.node_id) == (count == 2)
        for _ in range(4):
            world.beat(hasty)
            world.wait(1)
        world.wait(10)
    shown = {node.node_id: node.known for node in world.view.nodes(world.at)}
    assert shown[connected.node_id]
    crowded = World()
    for _ in range(9):
        crowded.beat(hasty)
        crowded.wait(0.5)
    assert not crowded.view.is_known(hasty.node_id)


def test_a_relayed_beat_does_not_make_a_node_known() -> None:
    """THREATS 7: otherwise one relay could make any number of identities known."""
    world = World()
    for _ in range(5):
        world.hear(NODES[0].envelope(world.now_ms), "exchange", NODES[1].node_id)
        world.wait(30)
    assert not world.view.is_known(NODES[0].node_id)


def test_where_the_known_are_full_a_silent_one_makes_room_for_a_connected_one() -> None:
    """Nobody who once beat three times keeps out who is here now; the live stay."""
    world = World(known_capacity=2, unknown_capacity=4)
    for signer in NODES[:2]:
        world.view.note_connected(signer.node_id)
        world.beat(signer)
    world.beat(NODES[2])
    world.view.note_connected(NODES[2].node_id)
    assert not world.view.is_known(NODES[2].node_id)
    world.wait(100)
    world.beat(NODES[2])
    world.view.note_connected(NODES[2].node_id)
    assert world.view.is_known(NODES[2].node_id)
    assert len(world.view.nodes(world.at)) == 2


def test_a_view_stays_within_its_capacity_and_forgets_evicted_nodes_wholly() -> None:
    """I5: marks, index, digest and deadlines go with the node."""
    world = World(unknown_capacity=5)
    for signer in NODES:
        assert isinstance(world.beat(signer, offers=["ollama"]), Admitted)
        assert len(world.view) <= 5
    assert world.view.slugs(world.at) == {"ollama": 5}
    held = {node.node_id for node in world.view.nodes(world.at)}
    assert held == {one.node_id for one in world.view.providers("ollama", at=world.at)}
    assert {signer.node_id for signer in NODES if world.view.mark(signer.node_id)} == held
    assert world.kinds().count("gone") == 7
    world.wait(90)
    assert world.view.slugs(world.at) == {}

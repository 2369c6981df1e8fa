"""The view merges like a join-semilattice: order, repetition and ways do not matter. Property tests."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.registry.view import Admitted, Rejected
from registry_schema import Rank, parse
from tests.simulator.signers import NOW_MS, Signer
from tests.unit.registry.world import World

SIGNERS = [Signer(name) for name in "abc"]
RELAY = Signer("relay")
ENVELOPES = [
    signer.envelope(NOW_MS + sequence, offers, alias=alias)
    for signer in SIGNERS
    for sequence in (0, 1, 2)
    for offers, alias in (([], "one"), (["ollama"], "two"))  # two bodies of each sequence
]

hearings = st.lists(st.tuples(st.sampled_from(ENVELOPES), st.sampled_from(["pubsub", "exchange"])), max_size=25)


def held(world: World) -> dict[str, tuple[bytes, str]]:
    return {
        node.node_id: (world.view.envelope(node.node_id) or b"", node.state)
        for node in world.view.nodes(world.at)
        if not node.is_self
    }


def told(heard: list[tuple[bytes, str]]) -> World:
    world = World()
    for data, source in heard:
        world.hear(data, source, None if source == "pubsub" else RELAY.node_id)  # type: ignore[arg-type]
    return world


@settings(max_examples=60, deadline=None)
@given(hearings, st.randoms(use_true_random=False))
def test_any_order_and_repetition_leads_to_the_same_view(heard: list[tuple[bytes, str]], rng: object) -> None:
    """THREATS 6, 18; I1."""
    shuffled = [*heard, *heard]
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = told(heard), told(shuffled)
    assert held(one) == held(other)
    assert one.view.digest(one.at) == other.view.digest(other.at)
    best: dict[str, tuple[Rank, bytes]] = {}
    for data, _ in heard:
        parsed = parse(data)
        best[parsed.manifest.node] = max(best.get(parsed.manifest.node, (parsed.rank, b"")), (parsed.rank, data))
    assert {node_id: data for node_id, (data, _) in held(one).items()} == {node_id: data for node_id, (_, data) in best.items()}


@settings(max_examples=30, deadline=None)
@given(hearings, hearings)
def test_two_halves_that_exchange_hold_the_same(heard: list[tuple[bytes, str]], also: list[tuple[bytes, str]]) -> None:
    """THREATS 6: a partition heals to equal views."""
    one, other = told(heard), told(also)
    for _ in range(2):
        for source, target in ((one, other), (other, one)):
            numbers = target.view.differing(source.view.digest(source.at), target.at)
            for data, age in list(source.view.bucket(numbers, source.at)):
                target.hear(data, "exchange", RELAY.node_id, age)
    contents = [{node_id: parse(data).content_hash for node_id, (data, _) in held(world).items()} for world in (one, other)]
    assert contents[0] == contents[1]  # sequences alone may differ: the next beat levels them
    assert one.view.differing(other.view.digest(other.at), one.at) == ()


def test_two_bodies_of_one_sequence_are_kept_as_proof_and_the_higher_hash_wins() -> None:
    """THREATS 6: in both orders; the node is marked, and that is told."""
    signer = SIGNERS[0]
    low, high = sorted((signer.envelope(NOW_MS, alias="x"), signer.envelope(NOW_MS, alias="y")), key=lambda e: parse(e).rank)
    for order in ((low, high), (high, low)):
        world = World()
        verdicts = [world.hear(data) for data in order]
        assert isinstance(verdicts[0], Admitted)
        if order[1] is low:
            assert isinstance(verdicts[1], Rejected)
            assert verdicts[1].reason == "equivocation"
        assert world.view.envelope(signer.node_id) == high
        assert sorted(world.view.proof(signer.node_id) or ()) == sorted((low, high))
        shown = world.view.node(signer.node_id, world.at)
        assert shown is not None
        assert shown.equivocated
        assert world.kinds().count("equivocated") == 1
        assert world.view.counters["equivocating-nodes"] == 1


def test_a_forged_second_body_marks_nobody() -> None:
    """THREATS 6: only two good signatures are a proof."""
    signer = SIGNERS[0]
    low, high = sorted((signer.envelope(NOW_MS, alias="x"), signer.envelope(NOW_MS, alias="y")), key=lambda e: parse(e).rank)
    world = World()
    world.hear(high)
    verdict = world.hear(low[:-4] + bytes([low[-4] ^ 1]) + low[-3:])
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "bad-signature"
    assert world.view.proof(signer.node_id) is None

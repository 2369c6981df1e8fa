"""What a whole swarm does: converges, heals, forgets the dead, and does not storm. Virtual time around the real pure code."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import pytest

from dragon.registry.view import Admitted
from tests.simulator.signers import NOW_MS
from tests.simulator.swarm import Node, Swarm

pytestmark = pytest.mark.timeout(600)  # pure computing: seconds on a machine of its own, minutes on a busy one

BEAT = 30.0
LEASE = 90.0
SLUGS = ("comfyui", "ollama", "orpheus", "ssh", "strfry")


def settled(size: int, seed: int, **options: object) -> Swarm:
    """A swarm in which everybody has spoken and been heard."""
    swarm = Swarm(size, seed, **options)  # type: ignore[arg-type]
    swarm.run(1.2 * BEAT)  # all begin within one
    assert swarm.agree()
    swarm.mismatches()
    swarm.counters.clear()
    return swarm


def changes(swarm: Swarm, count: int) -> None:
    """So many random nodes offer something else now."""
    for node in swarm.rng.sample([one for one in swarm.nodes if one.alive], count):
        node.change(*swarm.rng.sample(SLUGS, swarm.rng.randint(0, 3)))


# -- no storm ------------------------------------------------------------------------------------------------------------


class Naive(Node):
    """A node whose digest covers sequences as well: the design that was not taken."""

    def sequences(self) -> tuple[bytes, ...]:
        buckets = [hashlib.sha256() for _ in range(16)]
        for shown in self.view.nodes(self.at()):
            buckets[hashlib.sha256(shown.node_id.encode()).digest()[0] >> 4].update(shown.sequence.to_bytes(8, "big"))
        return tuple(bucket.digest()[:8] for bucket in buckets)

    def speak(self) -> None:
        self.said = self.sequences()
        super().speak()

    def hear(self, sender: str, data: bytes) -> None:
        super().hear(sender, data)
        speaker = self.swarm.by_id[sender]
        if isinstance(speaker, Naive) and not speaker.speaks_only and self.rng.random() < 0.03:  # a sample is enough
            self.swarm.counters["compared"] += 1
            self.swarm.counters["sequences differ"] += speaker.said != self.sequences()


@pytest.mark.parametrize(("size", "observers", "beats", "naive"), [(100, 100, 2, 0.2), (1000, 8, 2, 0.8)])
def test_beats_alone_start_no_exchange_where_a_digest_over_sequences_would_start_a_storm(
    size: int, observers: int, beats: int, naive: float
) -> None:
    """DESIGN §5: beats that are on their way make no difference to a digest of contents."""
    swarm = settled(size, seed=1, observers=observers, kind=Naive)
    swarm.run(beats * BEAT)
    assert swarm.agree()
    assert swarm.mismatches() == 0
    assert swarm.counters["exchanges"] == 0
    assert swarm.counters["sequences differ"] / swarm.counters["compared"] > naive


def test_changes_alone_start_no_exchange_and_lost_ones_not_more_than_were_lost() -> None:
    """THREATS 18: two nodes of three change every beat; then a tenth of all messages is lost, and most beats heard differ."""
    size, count = 60, 40
    swarm = settled(size, seed=2)
    for _ in range(3):
        changes(swarm, count)
        swarm.run(BEAT)
    assert swarm.mismatches() > 0
    assert swarm.counters["exchanges"] == 0
    swarm.loss = 0.1
    for _ in range(3):
        changes(swarm, count)
        swarm.run(BEAT)
    heard = sum(node.heard_beats for node in swarm.nodes)
    assert swarm.counters["exchanges"] < swarm.loss * 3 * count * size
    assert swarm.counters["exchanges"] < 0.05 * heard * swarm.mismatches()
    swarm.loss = 0.0
    swarm.run(2 * BEAT)
    assert swarm.agree()
    swarm.counters.clear()
    swarm.run(BEAT)
    assert swarm.counters["exchanges"] == 0


# -- convergence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_views_converge_within_three_beats_after_half_of_all_messages_were_lost(seed: int) -> None:
    """THREATS 18; I1: with duplicates and reordering, and content changing all the time until the loss stops."""
    swarm = settled(40, seed)
    swarm.loss, swarm.duplicates = 0.5, 0.3
    for _ in range(5):
        changes(swarm, 15)
        swarm.run(BEAT)
    swarm.loss = 0.0
    swarm.run(3 * BEAT)
    assert swarm.agree()


def test_a_thousand_nodes_converge_after_heavy_loss() -> None:
    """THREATS 18 at the size of the design: 1,000 nodes speak, eight of them are watched."""
    swarm = settled(1000, seed=4, observers=8)
    swarm.loss = 0.5
    changes(swarm, 300)
    swarm.run(BEAT)
    swarm.loss = 0.0
    swarm.run(2 * BEAT)
    assert swarm.agree()


def test_a_newcomer_knows_everybody_after_one_exchange() -> None:
    """Issue 3: complete within a second of its first peer, not after a beat of everybody."""
    swarm = settled(60, seed=5)
    newcomer = Node(swarm, 1000)
    newcomer.start()
    newcomer.reconcile(swarm.nodes[0])
    assert len(newcomer.view.members(newcomer.at())) == 60


def test_a_partition_heals_to_equal_views_even_where_a_node_said_two_things() -> None:
    """THREATS 6: two halves, heal, equal views; the equivocator is marked wherever both bodies came."""
    swarm = settled(30, seed=6)
    swarm.sides = lambda node: swarm.nodes.index(node) % 2
    changes(swarm, 20)
    liar = swarm.nodes[0]
    liar.crash()
    sequence = liar.now_ms() + 1
    bodies = [liar.signer.envelope(sequence, ["ollama"], alias=alias) for alias in ("one", "two")]
    for node in swarm.nodes[1:]:
        node.admit(bodies[swarm.sides(node)], liar.node_id, "pubsub")
    swarm.run(BEAT)
    assert not swarm.agree()
    swarm.sides = lambda node: 0
    swarm.run(BEAT * 1.5)
    views = [view[liar.node_id] for view in swarm.views() if liar.node_id in view]
    assert len(set(views)) == 1
    assert any(node.view.proof(liar.node_id) for node in swarm.nodes[1:])
    swarm.run(LEASE)
    assert swarm.agree()


def test_a_long_partition_ends_and_everybody_is_back() -> None:
    """The other half is silent meanwhile, never lost: its nodes are live again after their next beat."""
    swarm = settled(20, seed=7)
    swarm.sides = lambda node: swarm.nodes.index(node) % 2
    swarm.run(600)
    states = {shown.state for shown in swarm.nodes[0].view.nodes(swarm.nodes[0].at())}
    assert states == {"live", "silent"}
    swarm.sides = lambda node: 0
    swarm.run(BEAT + 2)
    assert swarm.agree()


# -- the dead ------------------------------------------------------------------------------------------------------------


class Liar(Node):
    """Every third node keeps all it ever heard and hands everything out as if it were fresh."""

    def hand_out(self, numbers: Iterable[int]) -> Iterable[tuple[bytes, float]]:
        honest = list(super().hand_out(numbers))
        if self.swarm.nodes.index(self) % 3:
            return honest
        return [(data, 0.0) for _, data, _ in self.durable.values()]


def test_the_dead_vanish_everywhere_within_a_lease_and_a_beat_whatever_is_relayed() -> None:
    """THREATS 3; I3: a third of the nodes relays the dead as fresh, to everybody, all the time; also to newcomers."""
    swarm = settled(30, seed=8, kind=Liar)
    dead = swarm.nodes[1:4]
    for node in dead:
        node.speak()
        node.crash()
    died = swarm.at
    ids = {node.node_id for node in dead}
    while swarm.at < died + LEASE + BEAT:
        swarm.run(5)
        for node in swarm.nodes:
            if node.alive:
                node.reconcile(swarm.nodes[0])
                for data, age in swarm.nodes[0].hand_out(range(16)):
                    node.admit(data, swarm.nodes[0].node_id, "exchange", age)
        if swarm.at < died + LEASE - 5:
            assert all(ids <= set(view) for view in swarm.views())
    assert not any(ids & set(view) for view in swarm.views())
    late = Node(swarm, 2000)
    late.start()
    for data, age in swarm.nodes[0].hand_out(range(16)):
        late.admit(data, swarm.nodes[0].node_id, "exchange", age)
    assert not ids & late.view.members(late.at())
    assert len(late.view.members(late.at())) == 27
    late.crash()
    swarm.run(3 * BEAT)
    assert swarm.agree()


# -- clocks and mutes ----------------------------------------------------------------------------------------------------


def test_clocks_two_minutes_off_are_live_everywhere_and_one_hour_off_skewed_everywhere() -> None:
    """THREATS 16: shown with the reason, never silently lost, never chosen."""
    swarm = Swarm(20, seed=9)
    near, far = swarm.nodes[:4], swarm.nodes[4:6]
    for node, skew in zip([*near, *far], [120, -120, 110, -110, 3600, -3600], strict=True):
        node.skew = skew
    for _ in range(8):
        swarm.run(BEAT)
        if swarm.at < 3 * BEAT:
            continue
        for node in swarm.nodes[6:]:
            shown = {one.node_id: one for one in node.view.nodes(node.at())}
            assert {shown[one.node_id].state for one in near} == {"live"}
            assert {shown[one.node_id].state for one in far} == {"skewed"}
            assert "60 min ahead" in shown[far[0].node_id].reason
            assert "60 min behind" in shown[far[1].node_id].reason
            assert not node.view.own_clock_suspect
            assert len(node.view.providers("ollama", at=node.at())) == 18
    assert all(node.view.own_clock_suspect for node in far)


def alarmed(swarm: Swarm) -> list[Node]:
    return [node for node in swarm.nodes if node.watch.mute]


def test_a_mute_publisher_notices_and_its_news_gets_out_by_exchange() -> None:
    """THREATS 17: nobody echoes its sequence."""
    swarm = settled(20, seed=10)
    mute = swarm.nodes[3]
    assert alarmed(swarm) == []
    mute.muted = True
    mute.change("strfry")
    swarm.run(8 * BEAT)
    assert alarmed(swarm) == [mute]
    heard_by = [node for node in swarm.nodes if node is not mute and node.view.providers("strfry", at=node.at())]
    assert heard_by
    mute.muted = False
    swarm.run(12 * BEAT)
    assert alarmed(swarm) == []
    assert swarm.agree()


def test_a_node_whose_clock_steps_back_goes_on_above_its_last_sequence() -> None:
    """I2; THREATS 17."""
    swarm = settled(10, seed=11)
    node = swarm.nodes[0]
    before = node.last_sequence or 0
    node.skew = -3600
    swarm.run(2 * BEAT)
    assert (node.last_sequence or 0) > before
    others = swarm.nodes[1:]
    assert all(one.view.is_member(node.node_id, one.at()) for one in others)
    assert node.view.own_clock_suspect
    swarm.run(600)  # its sequence lags by more than five minutes now
    assert {one.view.node(node.node_id, one.at()).state for one in others} == {"skewed"}  # type: ignore[union-attr]


# -- restarts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [12, 13])
def test_nothing_goes_back_while_nodes_crash_and_return_under_loss(seed: int) -> None:
    """I2; THREATS 1, 2, 18: sequences that anybody shows for anybody only rise, across restarts of both sides."""
    swarm = Swarm(15, seed)
    swarm.loss, swarm.duplicates = 0.3, 0.3
    highest: dict[tuple[str, str], int] = {}
    for _ in range(40):
        swarm.run(BEAT / 3)
        node = swarm.rng.choice(swarm.nodes)
        if node.alive:
            node.crash()
        else:
            node.start()
        for observer in swarm.nodes:
            if observer.alive:
                for shown in observer.view.nodes(observer.at()):
                    key = (observer.node_id, shown.node_id)
                    assert shown.sequence >= highest.get(key, 0) or shown.is_self
                    highest[key] = max(highest.get(key, 0), shown.sequence)
    for node in swarm.nodes:
        if not node.alive:
            node.start()
    swarm.loss = 0.0
    swarm.run(3 * BEAT)
    assert swarm.agree()


def test_a_simulation_is_reproducible() -> None:
    """Seeds decide everything: a failure can be looked at again."""

    def trace(seed: int) -> tuple[object, ...]:
        swarm = Swarm(12, seed)
        swarm.loss = 0.3
        changes(swarm, 5)
        swarm.run(5 * BEAT)
        return (dict(swarm.counters), swarm.views(), [node.last_sequence for node in swarm.nodes])

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


def test_the_simulator_really_loses_and_really_verifies() -> None:
    """The instruments are not stuck: with all lost nobody is heard, and a forged envelope is refused."""
    swarm = Swarm(5, seed=14)
    swarm.loss = 1.0
    swarm.run(2 * BEAT)
    assert [len(view) for view in swarm.views()] == [1] * 5
    data = swarm.nodes[1].signer.envelope(NOW_MS + 1)
    verdict = swarm.nodes[0].admit(data[:-4] + bytes([data[-4] ^ 1]) + data[-3:], swarm.nodes[1].node_id, "pubsub")
    assert not isinstance(verdict, Admitted)
    assert swarm.counters["forged"] == 1

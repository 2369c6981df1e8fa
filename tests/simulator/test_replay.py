"""Replay, restarts and lies in any interleaving, as a state machine around one view and its store. THREATS 1, 2, 3; I2, I3."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dragon.registry.policy import Policy
from dragon.registry.view import Admitted, View
from dragon.store import next_sequence
from registry_schema import Parsed, Rank, parse
from tests.simulator.signers import NOW_MS, SWARM, Signer

pytestmark = pytest.mark.timeout(600)  # pure computing: seconds on a machine of its own, minutes on a busy one

LEASE, BEAT = 90.0, 30.0
PEERS = [Signer(f"peer {number}") for number in range(3)]
ME, RELAY = Signer("me"), Signer("relay")

_parsed: dict[bytes, Parsed] = {}


def read(data: bytes) -> Parsed:
    if data not in _parsed:
        _parsed[data] = parse(data)
    return _parsed[data]


class Replay(RuleBasedStateMachine):
    """Peers speak when they like; whatever they ever said may come again, by any way, with any claimed age, at any time.

    The store is two dictionaries: what was put, and what was committed. A crash loses the first.
    """

    @initialize()
    def begin(self) -> None:
        self.true_time = 0.0
        self.said: list[tuple[int, bytes, float]] = []
        self.last: dict[int, int] = {}
        self.put: dict[str, tuple[Rank, bytes, float]] = {}
        self.committed: dict[str, tuple[Rank, bytes, float]] = {}
        self.own_committed: int | None = None
        self.own_used: list[int] = []
        self.highest: dict[str, Rank] = {}
        self.boot()

    def boot(self) -> None:
        marks = {node_id: rank for node_id, (rank, _, _) in self.committed.items()}
        self.view = View(ME.node_id, SWARM, Policy(), marks, random.Random(1), read=read)
        for _, data, heard in self.committed.values():
            self.view.restore(data, age=self.true_time - heard, at=self.true_time)
        self.put = dict(self.committed)
        self.highest = dict(marks)

    def now_ms(self) -> int:
        return NOW_MS + round(self.true_time * 1000)

    # -- what may happen --------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.001, 1.0, 20.0, 89.0, 100.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.true_time += seconds
        self.view.tick(self.true_time)

    @rule(peer=st.integers(0, 2), heard=st.booleans(), alias=st.sampled_from(["x", "y"]))
    def a_peer_speaks(self, peer: int, heard: bool, alias: str) -> None:
        sequence = self.last[peer] = next_sequence(self.now_ms(), self.last.get(peer))
        data = PEERS[peer].envelope(sequence, ["ollama"], alias=alias)
        self.said.append((peer, data, self.true_time))
        if heard:
            self.take(data, PEERS[peer].node_id, "pubsub", 0.0)

    @rule(peer=st.integers(0, 2))
    def a_peer_contradicts_itself(self, peer: int) -> None:
        if peer in self.last:
            self.said.append((peer, PEERS[peer].envelope(self.last[peer], [], alias="z"), self.true_time))

    @rule(pick=st.integers(0, 10**6), age=st.sampled_from([0.0, 0.5, 30.0, 10**6]), by_ipns=st.booleans())
    def anything_is_relayed(self, pick: int, age: float, by_ipns: bool) -> None:
        if self.said:
            peer, data, _ = self.said[pick % len(self.said)]
            self.take(data, PEERS[peer].node_id if by_ipns else RELAY.node_id, "ipns" if by_ipns else "exchange", age)

    @rule(peer=st.integers(0, 2), other=st.integers(0, 2), pick=st.integers(0, 10**6))
    def a_relay_publishes_what_others_said(self, peer: int, other: int, pick: int) -> None:
        if self.said and peer != self.said[pick % len(self.said)][0]:
            verdict = self.take(self.said[pick % len(self.said)][1], PEERS[peer].node_id, "pubsub", 0.0)
            assert not isinstance(verdict, Admitted)

    @rule()
    def a_batch_is_committed(self) -> None:
        self.committed = dict(self.put)

    @rule()
    def the_node_is_killed_and_starts_again(self) -> None:
        self.boot()

    @rule(step=st.sampled_from([0, -5000, 5000]), killed_before_use=st.booleans())
    def we_speak_with_a_clock_that_may_be_wrong(self, step: int, killed_before_use: bool) -> None:
        sequence = next_sequence(self.now_ms() + step, self.own_committed)
        self.own_committed = sequence  # stored before it is used: `Store.reserve_sequence`
        if killed_before_use:
            self.boot()
        else:
            self.own_used.append(sequence)

    def take(self, data: bytes, carrier: str, source: str, age: float) -> object:
        verdict = self.view.admit(
            data,
            carrier=carrier,
            source=source,  # type: ignore[arg-type]
            heard_at=self.true_time,
            now_ms=self.now_ms(),
            age=age,
        )
        if isinstance(verdict, Admitted):
            assert verdict.rank >= self.highest.get(verdict.node_id, (0, b"")), "a rank went back"
            self.highest[verdict.node_id] = verdict.rank
            shown = self.view.node(verdict.node_id, self.true_time)
            assert shown is not None
            self.put[verdict.node_id] = (verdict.rank, data, self.true_time - shown.last_seen)
        return verdict

    # -- what must hold after every step ----------------------------------------------------------------------------------

    @invariant()
    def nothing_goes_back(self) -> None:
        """THREATS 1: never below what was admitted in this life, nor below what was committed in any."""
        for shown in self.view.nodes(self.true_time):
            mark = self.view.mark(shown.node_id)
            assert mark is not None
            assert mark >= self.highest[shown.node_id]
            assert mark >= self.committed.get(shown.node_id, ((0, b""), b"", 0.0))[0]
            assert read(self.view.envelope(shown.node_id) or b"").rank == mark

    @invariant()
    def the_dead_are_not_chosen(self) -> None:
        """THREATS 3; I3: who last spoke more than a lease and a beat ago offers nothing, whatever was claimed."""
        spoke = {PEERS[peer].node_id: when for peer, _, when in self.said if when >= 0}
        for provider in self.view.providers("ollama", at=self.true_time):
            assert self.true_time - spoke[provider.node_id] <= LEASE + BEAT

    @invariant()
    def our_own_sequences_rise(self) -> None:
        """I2."""
        assert all(one < two for one, two in zip(self.own_used, self.own_used[1:], strict=False))


Replay.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestReplay = Replay.TestCase

"""What enters the view, what does not, and what it costs to find out."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from dragon.registry.admission import Bucket, Rates, Seen, fingerprint
from dragon.registry.policy import Policy, Rate
from dragon.registry.view import Admitted, Duplicate, Rejected, View
from registry_schema import BadSignature, Parsed, Rank, parse
from registry_schema.limits import MAX_ENVELOPE
from tests.simulator.signers import NOW_MS, SWARM, Signer
from tests.unit.registry.world import World

A, B, C = Signer("a"), Signer("b"), Signer("c")
SKEW_MS = 300_000


def rank_of(data: bytes) -> Rank:
    return parse(data).rank


def forged(data: bytes) -> bytes:
    return data[:-4] + bytes([data[-4] ^ 1]) + data[-3:]  # the last byte of `sig`, which stands before `v`


@pytest.mark.parametrize(
    ("reason", "make", "carrier"),
    [
        ("too-large", lambda: bytes(MAX_ENVELOPE + 1), A.node_id),
        ("malformed", lambda: b"\xc1", A.node_id),
        ("malformed", lambda: A.envelope() + b"\x00", A.node_id),
        ("malformed", lambda: b"", A.node_id),
        ("wrong-swarm", lambda: A.envelope(swarm="other"), A.node_id),
        ("bad-signature", lambda: forged(A.envelope()), A.node_id),
        ("carrier", lambda: A.envelope(), B.node_id),
        ("from-the-future", lambda: A.envelope(NOW_MS + SKEW_MS + 1), A.node_id),
        ("from-the-future", lambda: A.envelope(2**63 - 1), A.node_id),
    ],
)
def test_what_is_refused_is_counted_by_reason_and_enters_nothing(reason: str, make: Callable[[], bytes], carrier: str) -> None:
    """THREATS 4, 5, 8, 9: and nothing is raised for what a peer sent."""
    world = World()
    data = make()
    verdict = world.view.admit(data, carrier=carrier, source="pubsub", heard_at=world.at, now_ms=world.now_ms)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == reason
    assert sum(world.view.counters.values()) == 1
    assert world.view.mark(A.node_id) is None
    assert not world.view.providers("ollama", at=world.at)


@pytest.mark.parametrize(("ahead", "admitted"), [(SKEW_MS - 1, True), (SKEW_MS, True), (SKEW_MS + 1, False)])
def test_a_sequence_may_lie_five_minutes_ahead_and_not_a_millisecond_more(ahead: int, admitted: bool) -> None:
    """THREATS 4: fast-forward is bound to time."""
    world = World()
    assert isinstance(world.hear(A.envelope(NOW_MS + ahead)), Admitted) == admitted


def test_only_what_is_above_the_mark_is_news() -> None:
    """THREATS 1: replay of an old valid manifest."""
    world = World()
    first, second = A.envelope(NOW_MS, ["ollama"]), A.envelope(NOW_MS + 1)
    assert world.hear(first) == Admitted(A.node_id, "new", rank_of(first))
    assert world.hear(first) == Duplicate(A.node_id)
    assert isinstance(world.hear(second), Admitted)
    for source in ("pubsub", "exchange", "ipns"):
        assert isinstance(world.hear(first, source), Duplicate)  # seen: not even decoded
    unseen = World(marks={A.node_id: rank_of(second)})
    verdict = unseen.hear(first)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "stale"
    assert world.view.providers("ollama", at=world.at) == []


def test_a_forged_copy_does_not_shadow_the_true_envelope() -> None:
    """THREATS 8: forged messages that name a victim, or carry its bytes under another name, cost the victim nothing."""
    world = World()
    data = A.envelope()
    for verdict in (world.hear(data, carrier=B.node_id), world.hear(forged(data), carrier=A.node_id)):
        assert isinstance(verdict, Rejected)
    assert isinstance(world.hear(data), Admitted)


def test_one_flooding_carrier_costs_others_nothing_and_is_not_verified() -> None:
    """THREATS 8: the rate is per verified carrier and comes before decoding; forged envelopes name others as signers."""
    checked = []

    def counting(parsed: Parsed) -> None:
        checked.append(parsed)
        raise BadSignature("forged")

    policy = Policy(carrier_rate=Rate(per_second=20, burst=100))
    view = View("self", SWARM, policy, {}, random.Random(1), verify=counting)
    flood = [A.envelope(NOW_MS + number) for number in range(1000)]
    for number, data in enumerate(flood):
        view.admit(data, carrier=A.node_id, source="pubsub", heard_at=number / 5000, now_ms=NOW_MS)
    assert len(checked) <= 100 + 20 * 0.2 + 1
    assert view.counters["rate"] >= 890
    before = len(checked)
    view.admit(B.envelope(), carrier=B.node_id, source="pubsub", heard_at=0.2, now_ms=NOW_MS)
    assert len(checked) == before + 1


def test_strangers_share_one_allowance_that_known_carriers_do_not_need() -> None:
    """THREATS 7, 8: many invented senders together cannot take the time of those who are known."""
    world = World(strangers_rate=Rate(per_second=1, burst=10))
    world.view.note_connected(A.node_id)
    strangers = [Signer(f"stranger {number}") for number in range(30)]
    verdicts = [world.beat(stranger) for stranger in strangers]
    assert sum(isinstance(verdict, Admitted) for verdict in verdicts) == 10
    assert isinstance(world.beat(A), Admitted)


def test_an_allow_list_admits_only_who_is_on_it() -> None:
    """DESIGN §6: a closed swarm; refused before the signature is looked at."""
    world = World(admit=frozenset({A.node_id}))
    assert isinstance(world.beat(A), Admitted)
    verdict = world.beat(B)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "not-admitted"
    assert isinstance(world.hear(world.me.envelope(), "self"), Admitted)


def test_what_can_never_be_admitted_is_decoded_once() -> None:
    """THREATS 8: the same garbage again costs as little as a duplicate."""
    world = World()
    bad = forged(A.envelope())
    assert isinstance(world.hear(bad, carrier=A.node_id), Rejected)
    assert isinstance(world.view.admit(bad, carrier=B.node_id, source="pubsub", heard_at=world.at, now_ms=NOW_MS), Duplicate)


def test_seen_is_bounded_and_remembers_the_last_half() -> None:
    """I5."""
    seen = Seen(100)
    keys = [fingerprint(str(number).encode()) for number in range(1000)]
    for key in keys:
        seen.add(key, "node")
        assert len(seen) <= 100
    assert all(seen.get(key) == "node" for key in keys[-50:])
    assert seen.get(keys[0]) is None


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    bucket = Bucket(Rate(per_second=2, burst=3))
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5) for _ in range(2)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert not bucket.take(50.0)  # a clock that went back gives nothing


def test_the_number_of_remembered_carriers_is_bounded() -> None:
    """I5."""
    rates = Rates(Policy(carriers=8))
    for number in range(100):
        rates.take(f"carrier {number}", number % 2 == 0, True, 0.0)
        assert len(rates) <= 16

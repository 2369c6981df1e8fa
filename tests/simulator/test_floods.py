"""Too many: identities, messages, bytes. Bounded memory and unchanged service for the others. THREATS 7, 8; I5."""

from __future__ import annotations

import random
import resource

import pytest

from dragon.registry.policy import Policy, Rate
from dragon.registry.view import Admitted, Duplicate, Rejected, View
from registry_schema import BadSignature, Parsed, ed25519_node_id
from tests.simulator.signers import NOW_MS, SWARM, Signer

pytestmark = pytest.mark.timeout(600)  # pure computing: seconds on a machine of its own, minutes on a busy one

FRIENDS = [Signer(f"friend {number}") for number in range(50)]


def believing(parsed: Parsed) -> None:
    """Signatures are not the point here: a flooder signs its own identities well."""


def identities(count: int, rng: random.Random) -> list[tuple[str, bytes]]:
    """So many `(node id, envelope)`, made by replacing the id in one envelope: what a flooder makes quicker than we do."""
    pattern = Signer("pattern")
    data = pattern.envelope(NOW_MS, digest=())
    made = [ed25519_node_id(rng.randbytes(32)) for _ in range(count)]
    return [(node_id, data.replace(pattern.node_id.encode(), node_id.encode())) for node_id in made]


def test_a_hundred_thousand_identities_leave_memory_bounded_and_known_nodes_intact() -> None:
    """THREATS 7; I5: through an exchange partner and as senders, some of them beating long enough to become known."""
    policy = Policy(
        unknown_capacity=500, known_capacity=200, partner_rate=Rate(1e9, 1e9), strangers_rate=Rate(1e9, 1e9), seen_capacity=4096
    )
    view = View(Signer("me").node_id, SWARM, policy, {}, random.Random(1), verify=believing)
    for friend in FRIENDS:
        view.note_connected(friend.node_id)
        view.admit(friend.envelope(offers=["ollama"]), carrier=friend.node_id, source="pubsub", heard_at=0, now_ms=NOW_MS)
    gone: list[str] = []
    view.subscribe(lambda change: gone.append(change.node_id) if change.kind == "gone" else None)
    rng = random.Random(2)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(100):
        for place, (node_id, data) in enumerate(identities(1000, rng)):
            source, carrier = ("pubsub", node_id) if place % 2 else ("exchange", "partner")
            verdict = view.admit(data, carrier=carrier, source=source, heard_at=number / 10, now_ms=NOW_MS)  # type: ignore[arg-type]
            assert isinstance(verdict, Admitted)
        assert len(view) <= 500 + 50
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    friends = {friend.node_id for friend in FRIENDS}
    assert friends <= view.members(10.0)
    assert {one.node_id for one in view.providers("ollama", at=10.0)} == friends
    assert not friends & set(gone)
    assert len(gone) == 100_000 - 500
    seen, rates = view._admitting.remembered
    assert len(view._roster.marks) <= 550
    assert seen <= 4096
    assert rates <= 2 * policy.carriers
    assert len(view._roster._deadlines) <= 2 * 550 + 64
    assert grown < 64, f"{grown:.0f} MB for 100,000 identities that are not held"
    for friend in FRIENDS:
        data = friend.envelope(NOW_MS + 30_000, ["ollama"])
        verdict = view.admit(data, carrier=friend.node_id, source="pubsub", heard_at=30, now_ms=NOW_MS + 30_000)
        assert isinstance(verdict, Admitted)
        assert verdict.change == "beat"


def test_sybils_that_beat_patiently_fill_only_their_part() -> None:
    """I5: becoming known is bounded too, and who is connected finds room among the silent."""
    policy = Policy(unknown_capacity=100, known_capacity=80)
    view = View(Signer("me").node_id, SWARM, policy, {}, random.Random(1), verify=believing)
    sybils = [Signer(f"patient {number}") for number in range(300)]
    for beat in range(4):
        for sybil in sybils:
            now_ms = NOW_MS + beat * 30_000
            view.admit(sybil.envelope(now_ms), carrier=sybil.node_id, source="pubsub", heard_at=beat * 30, now_ms=now_ms)
            assert len(view) <= 180
    friend = FRIENDS[0]
    at, now_ms = 4 * 30 + 100.0, NOW_MS + 300_000
    view.tick(at)
    view.admit(friend.envelope(now_ms), carrier=friend.node_id, source="pubsub", heard_at=at, now_ms=now_ms)
    view.note_connected(friend.node_id)
    assert view.is_known(friend.node_id)


COSTS = {Duplicate: 5e-6, Admitted: 300e-6}
"""Seconds that a step takes one core, as `bench/ingest.py` measures them; a rejection is priced by how far it came."""


def price(verdict: object) -> float:
    if isinstance(verdict, Rejected):
        return {"rate": 5e-6, "bad-signature": 300e-6}.get(verdict.reason, 100e-6)
    return COSTS[type(verdict)]


@pytest.mark.parametrize("kind", ["the same", "valid", "forged", "of others"])
def test_five_thousand_messages_a_second_from_one_sender_do_not_delay_the_others(kind: str) -> None:
    """THREATS 8: one core, one queue; what others wait for differs by less than a millisecond from a day without flood."""
    waits = {flooding: served(kind, flooding) for flooding in (False, True)}
    assert waits[True][0] == waits[False][0] == len(FRIENDS) * 10, "somebody was not heard"
    assert waits[True][1] < waits[False][1] + 1e-3


def served(kind: str, flooding: bool) -> tuple[int, float]:
    """Serve 10 s of beats, one a second of each friend; return how many were admitted, and the p99 of their waits."""
    rng = random.Random(3)
    flooder, pool = Signer("flooder"), 2_000

    def verify(parsed: Parsed) -> None:
        if kind == "forged" and parsed.manifest.node == flooder.node_id:
            raise BadSignature("forged")

    view = View(Signer("me").node_id, SWARM, Policy(), {}, random.Random(1), verify=verify)
    view.note_connected(flooder.node_id)
    arrivals: list[tuple[float, str, bytes]] = []
    for friend in FRIENDS:
        view.note_connected(friend.node_id)
        offset = rng.random()
        for second in range(10):
            at = offset + second
            arrivals.append((at, friend.node_id, friend.envelope(NOW_MS + round(at * 1000))))
    if flooding:
        victim = FRIENDS[0] if kind == "of others" else flooder
        flood = [victim.envelope(NOW_MS + 60_000 + number) for number in range(1 if kind == "the same" else pool)]
        arrivals += [(number / 5000, flooder.node_id, flood[number % len(flood)]) for number in range(50_000)]
    arrivals.sort()
    free, admitted, waits = 0.0, 0, []
    for at, carrier, data in arrivals:
        verdict = view.admit(data, carrier=carrier, source="pubsub", heard_at=at, now_ms=NOW_MS + round(at * 1000))
        free = max(free, at) + price(verdict)
        if carrier != flooder.node_id:
            admitted += isinstance(verdict, Admitted)
            waits.append(free - at)
    return admitted, sorted(waits)[len(waits) * 99 // 100]

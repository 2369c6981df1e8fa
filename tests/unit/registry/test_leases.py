"""How long a node is believed, what relays may claim, and whose clock is off."""

from __future__ import annotations

import pytest

from dragon.registry.lease import clock_reason, relayed_age, spell_seconds
from dragon.registry.policy import Policy, stretch
from dragon.registry.view import Admitted, Duplicate, Rejected
from registry_schema import parse
from tests.simulator.signers import NOW_MS, Signer
from tests.unit.registry.world import World

A, B, C, D, RELAY = (Signer(name) for name in ("a", "b", "c", "d", "relay"))
LEASE, BEAT, KEEP = 90.0, 30.0, 48 * 3600.0


def test_a_node_lives_three_beats_is_silent_for_two_days_and_then_forgotten() -> None:
    """DESIGN §5: lease and keep, both on our clock."""
    world = World()
    world.beat(A, offers=["ollama"])
    world.wait(LEASE - 0.1)
    assert world.state(A) == "live"
    assert len(world.view.providers("ollama", at=world.at)) == 1
    world.wait(0.1)
    assert world.state(A) == "silent"
    assert world.view.providers("ollama", at=world.at) == []
    assert not world.view.is_member(A.node_id, world.at)
    world.wait(KEEP - LEASE - 0.2)
    assert world.state(A) == "silent"
    world.wait(0.3)
    assert world.state(A) is None
    assert world.view.mark(A.node_id) is None
    assert world.kinds() == ["joined", "silent", "gone"]


def test_a_lookup_never_waits_for_a_tick_to_see_that_a_lease_is_over() -> None:
    """I3: no provider in `auto` whose lease ended on our clock."""
    world = World()
    world.beat(A, offers=["ollama"])
    at = world.at + LEASE
    assert world.view.providers("ollama", at=at) == []
    assert world.view.slugs(at) == {}
    assert world.view.members(at) == frozenset()
    assert world.kinds() == ["joined"]  # subscribers hear of it from the next tick
    assert [change.kind for change in world.view.tick(at)] == ["silent"]


@pytest.mark.parametrize(("ttl", "lives"), [(5, 5.0), (60, 60.0), (90, 90.0), (3600, 90.0)])
def test_a_node_may_ask_for_less_than_our_cap_but_not_for_more(ttl: int, lives: float) -> None:
    world = World()
    world.beat(A, ttl=ttl)
    world.wait(lives - 0.01)
    assert world.state(A) == "live"
    world.wait(0.01)
    assert world.state(A) == "silent"


@pytest.mark.parametrize(("live", "factor"), [(1, 1.0), (1000, 1.0), (4000, 2.0), (10_000, 10**0.5)])
def test_leases_stretch_as_beats_do(live: int, factor: float) -> None:
    assert stretch(live) == pytest.approx(factor)
    assert Policy().lease(3600, live) == pytest.approx(90 * factor)
    assert Policy().lease(60, live) == 60


def test_a_beat_renews_and_a_return_is_told() -> None:
    world = World()
    world.beat(A)
    world.wait(60)
    assert world.beat(A) == Admitted(A.node_id, "beat", world.view.mark(A.node_id) or (0, b""))
    world.wait(60)
    assert world.state(A) == "live"
    world.wait(60)
    verdict = world.beat(A)
    assert isinstance(verdict, Admitted)
    assert verdict.change == "back"
    assert world.kinds() == ["joined", "beat", "silent", "joined"]


def test_a_changed_content_is_told_apart_from_a_beat() -> None:
    world = World()
    world.beat(A)
    world.wait(1)
    assert getattr(world.beat(A, load=500), "change", None) == "beat"
    world.wait(1)
    assert getattr(world.beat(A, offers=["ollama"]), "change", None) == "content"
    assert world.kinds() == ["joined", "beat", "changed"]


def test_leaving_is_believed_at_once_and_until_the_node_speaks_again() -> None:
    world = World()
    world.beat(A, offers=["ollama"])
    world.wait(1)
    assert getattr(world.beat(A, leaving=True), "change", None) == "left"
    assert world.state(A) == "left"
    assert world.view.providers("ollama", at=world.at) == []
    world.wait(200)
    assert world.state(A) == "left"
    assert getattr(world.beat(A, offers=["ollama"]), "change", None) == "back"
    assert world.kinds() == ["joined", "left", "joined"]


def test_a_leave_that_somebody_missed_reaches_it_by_exchange() -> None:
    """Who left within a lease is handed on, so that the other side need not wait for the lease to end."""
    one, other = World(), World(seed=2)
    for world in (one, other):
        world.beat(A)
        world.wait(5)
    one.beat(A, leaving=True)
    for data, age in one.view.bucket(range(16), one.at):
        other.hear(data, "exchange", RELAY.node_id, age)
    assert other.state(A) == "left"
    one.wait(LEASE)
    assert list(one.view.bucket(range(16), one.at)) == []


# -- what relays may claim -----------------------------------------------------------------------------------------------


def test_the_age_travels_with_a_relayed_envelope() -> None:
    """THREATS 3: counted from when it was first heard anywhere."""
    world = World()
    data = A.envelope(world.now_ms)
    world.wait(50)
    world.hear(data, "exchange", RELAY.node_id, age=50)
    assert world.state(A) == "live"
    world.wait(LEASE - 50)
    assert world.state(A) == "silent"


@pytest.mark.parametrize("claimed", [0.0, 10.0])
@pytest.mark.parametrize("dead_for", [LEASE + BEAT, 600.0, 86_400.0])
def test_a_relay_that_lies_about_the_age_cannot_revive_the_dead(claimed: float, dead_for: float) -> None:
    """THREATS 3: a sequence is a time, so it bounds the age from below, one beat of tolerance allowed."""
    world = World()
    last_word = A.envelope(world.now_ms, ["ollama"])
    world.wait(dead_for)
    for _ in range(3):
        world.hear(last_word, "exchange", RELAY.node_id, claimed)
        assert world.state(A) == "silent"
        world.wait(20)
    assert world.view.providers("ollama", at=world.at) == []


@pytest.mark.parametrize("source", ["pubsub", "exchange", "ipns"])
def test_hearing_the_same_envelope_again_never_extends_its_lease(source: str) -> None:
    """THREATS 3: also when it comes over pubsub, where old messages can be sent again."""
    world = World()
    data = A.envelope(world.now_ms)
    world.hear(data)
    for _ in range(10):
        world.wait(10)
        carrier = A.node_id if source == "pubsub" else RELAY.node_id
        assert world.hear(data, source, carrier) == Duplicate(A.node_id)  # type: ignore[arg-type]
    assert world.state(A) == "silent"


def test_the_earliest_of_several_relayed_hearings_counts() -> None:
    """Merging is commutative in time too: the honest relay wins over one that claims youth, in either order."""
    data = A.envelope(NOW_MS)
    for ages in ((0.0, 25.0), (25.0, 0.0)):
        world = World()
        world.wait(25)
        for age in ages:
            world.hear(data, "exchange", RELAY.node_id, age)
        world.wait(LEASE - 25 - 0.1)
        assert world.state(A) == "live"
        world.wait(0.2)
        assert world.state(A) == "silent"


def test_a_relay_cannot_age_what_the_node_itself_told_us() -> None:
    """I6: a liar with great ages must not push live nodes out of the view."""
    world = World()
    first, second = A.envelope(NOW_MS), A.envelope(NOW_MS + 10_000)
    world.hear(first)
    world.hear(first, "exchange", RELAY.node_id, age=10_000)
    assert world.state(A) == "live"
    world.wait(10)
    world.hear(second, "exchange", RELAY.node_id, age=10_000)  # newer than what we heard ourselves: cannot be older
    assert world.state(A) == "live"
    world.wait(LEASE - 10)
    assert world.state(A) == "silent"


def test_what_is_older_than_the_keep_is_not_even_remembered() -> None:
    world = World()
    old = A.envelope(NOW_MS)
    world.wait(KEEP + BEAT)
    verdict = world.hear(old, "ipns", A.node_id)
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "expired"


def test_an_ipns_copy_is_a_hint_unless_it_is_fresh() -> None:
    """DESIGN §5: enters as silent unless fresh, although its own node published it."""
    world = World()
    fresh, old = A.envelope(NOW_MS + 3_590_000), B.envelope(NOW_MS)
    world.wait(3600)
    world.hear(fresh, "ipns", A.node_id)
    world.hear(old, "ipns", B.node_id)
    assert (world.state(A), world.state(B)) == ("live", "silent")


def test_relayed_age_is_what_is_claimed_within_what_the_sequence_allows() -> None:
    for claimed, behind, allowance, expected in [
        (0.0, 10.0, 30.0, 0.0),
        (5.0, 10.0, 30.0, 5.0),
        (0.0, 100.0, 30.0, 70.0),
        (80.0, 100.0, 30.0, 80.0),
        (-5.0, -100.0, 30.0, 0.0),
        (310.0, 10.0, 30.0, 310.0),
        (311.0, 10.0, 30.0, 310.0),
        (1e9, -400.0, 30.0, 0.0),
    ]:
        assert relayed_age(claimed, behind=behind, allowance=allowance, max_skew=300.0) == expected


def test_a_relay_that_lies_about_the_age_cannot_make_us_forget_who_lives() -> None:
    """THREATS 1 and 3: with the node its mark would go, and what lies below it would be news again."""
    world = World()
    bodies = sorted((A.envelope(NOW_MS, ["ollama"], alias=alias) for alias in ("x", "y")), key=lambda data: parse(data).rank)
    for age in (0.0, 1e9):
        world.hear(bodies[1], "exchange", RELAY.node_id, age=age)
    world.wait(1.0)
    assert world.state(A) == "silent"
    assert world.view.mark(A.node_id) == parse(bodies[1]).rank
    assert isinstance(world.hear(bodies[0], "exchange", RELAY.node_id), Rejected)


# -- clocks --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [-60, -6, -2, 0, 2, 6, 60])
def test_a_peer_two_minutes_off_is_live_and_one_hour_off_is_shown_as_skewed(minutes: int) -> None:
    """THREATS 16: never silently lost."""
    world = World()
    for _ in range(5):
        world.hear(A.envelope(world.now_ms + minutes * 60_000, ["ollama"]))
        shown = world.view.node(A.node_id, world.at)
        assert shown is not None
        expected = "live" if abs(minutes) <= 5 else "skewed"
        assert shown.state == expected
        assert len(world.view.providers("ollama", at=world.at)) == (expected == "live")
        if expected == "skewed":
            assert ("behind" if minutes < 0 else "ahead") in shown.reason
            assert ("60 min" if abs(minutes) == 60 else "6 min") in shown.reason
        world.wait(BEAT)
    world.wait(LEASE)
    assert world.state(A) == "silent"


def test_a_word_from_the_future_does_not_raise_the_mark() -> None:
    """THREATS 4, 16: once its clock is right again the node is heard at once, whatever it said before."""
    world = World()
    world.beat(A, offers=["ollama"])
    mark = world.view.mark(A.node_id)
    world.wait(BEAT)
    ahead = world.hear(A.envelope(world.now_ms + 3_600_000))
    assert isinstance(ahead, Rejected)
    assert world.state(A) == "skewed"
    assert world.view.mark(A.node_id) == mark
    assert world.view.envelope(A.node_id) == A.envelope(NOW_MS, ["ollama"])
    world.wait(BEAT)
    assert getattr(world.beat(A, offers=["ollama"]), "change", None) == "back"
    assert world.kinds() == ["joined", "skewed", "joined"]


def test_what_was_only_shown_does_not_pass_for_what_is_held() -> None:
    """A content first seen in a word from the future is news when it is admitted: the digest must say so."""
    world, fresh = World(), World()
    world.beat(A, offers=["ollama"])
    world.hear(A.envelope(world.now_ms + 3_600_000, ["comfyui"]))
    world.wait(BEAT)
    last = A.envelope(world.now_ms, ["comfyui"])
    world.hear(last)
    fresh.wait(BEAT)
    fresh.hear(last)
    assert world.view.digest(world.at) == fresh.view.digest(fresh.at)
    assert world.view.slugs(world.at) == {"comfyui": 1}


def test_a_relay_cannot_make_a_live_node_skewed() -> None:
    """I6: what it said while its clock was wrong may be replayed by anybody."""
    world = World()
    world.beat(A)
    world.hear(A.envelope(world.now_ms + 3_600_000), "exchange", RELAY.node_id)
    assert world.state(A) == "live"
    world.hear(B.envelope(world.now_ms + 3_600_000), "exchange", RELAY.node_id)
    assert world.state(B) == "skewed"  # of this one nothing better is known


def test_a_forged_word_from_the_future_shows_nobody() -> None:
    world = World()
    data = A.envelope(world.now_ms + 3_600_000)
    verdict = world.hear(data[:-4] + bytes([data[-4] ^ 1]) + data[-3:])
    assert isinstance(verdict, Rejected)
    assert verdict.reason == "bad-signature"
    assert world.state(A) is None


def suspects_itself(world: World) -> bool:
    return world.view.own_clock_suspect


def test_several_skewed_signers_make_our_own_clock_the_suspect() -> None:
    """DESIGN §5: say so, instead of blaming everybody."""
    for minutes in (-60, 60):
        world = World()
        for count, signer in enumerate((A, B, C), 1):
            world.hear(signer.envelope(world.now_ms + minutes * 60_000))
            assert suspects_itself(world) == (count >= 2)
        world.beat(D)
        assert suspects_itself(world)
        for name in ("e", "f"):
            world.beat(Signer(name))
        assert not suspects_itself(world)  # no longer most of those heard
        world.wait(LEASE)
        assert not suspects_itself(world)


def test_a_relay_gets_no_allowance_from_a_clock_that_we_have_measured() -> None:
    """THREATS 3, 16: a node two minutes behind is not taken for dead when relayed, and not revived for two minutes either."""
    world = World()
    lag = 120_000
    world.hear(A.envelope(world.now_ms - lag))
    world.wait(BEAT)
    newest = A.envelope(world.now_ms - lag)
    world.wait(5)
    world.hear(newest, "exchange", RELAY.node_id, age=5)
    assert world.state(A) == "live"
    world.wait(LEASE - 5)
    assert world.state(A) == "silent"


def test_our_own_clock_error_does_not_make_relayed_nodes_look_dead() -> None:
    """Three signers who speak for themselves show how wrong our clock is; relayed ages are judged by that."""
    world = World()
    world.now_ms += 200_000  # ours is ahead
    for signer in (B, C, D):
        world.hear(signer.envelope(world.now_ms - 200_000))
    world.hear(A.envelope(world.now_ms - 200_000), "exchange", RELAY.node_id, age=1)
    assert world.state(A) == "live"


@pytest.mark.parametrize("lag", [250_000, 7_200_000])
def test_one_signer_cannot_make_our_clock_look_wrong_to_revive_the_dead(lag: int) -> None:
    """THREATS 3: it beats with a clock far behind, and often, and a relay brings what a dead node said in that time."""
    world = World()
    for _ in range(10):
        world.wait(1)
        world.hear(D.envelope(world.now_ms - lag))
    world.hear(B.envelope(world.now_ms))
    world.hear(A.envelope(world.now_ms - lag), "exchange", RELAY.node_id)
    assert world.state(A) in (None, "silent")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (70, "70 s"), (299, "299 s"), (300, "5 min"), (7200, "120 min"), (86400, "24 h"), (1e7, "116 d")],
)
def test_durations_are_spelled_for_people(seconds: float, text: str) -> None:
    assert spell_seconds(seconds) == text
    assert clock_reason(seconds, 1e9) == ""

"""What nobody signed: bounded, believed for hours, and without any influence on what was signed. THREATS 19, invariant I4."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.connect.breaker import CLOSED
from dragon.connect.choice import Candidate, Strategy, choose, strategy_named
from dragon.connect.measure import PeakEwma
from dragon.registry import unsigned
from dragon.registry.unsigned import AHEAD, CAPACITY, LEASE
from dragon.registry.verdict import Admitted, Rejected
from tests.simulator.signers import NOW_MS, Signer
from tests.unit.registry.world import World

BASH, OTHER, SIGNED = Signer("bash"), Signer("other bash"), Signer("signed")
HOUR = 3600_000


def learn(world: World, signer: Signer, spoken: int = NOW_MS, *offers: str, usable: bool = True, **fields: Any) -> str:
    """Let the view learn of `signer`; return the change or the reason of the refusal."""
    manifest = signer.manifest(spoken, offers or ("ollama",), **fields)
    verdict = world.view.learn(manifest, at=world.at, now_ms=world.now_ms, usable=usable)
    assert isinstance(verdict, (Admitted, Rejected))
    return verdict.change if isinstance(verdict, Admitted) else verdict.reason


def providers(world: World, slug: str = "ollama", **options: Any) -> list[tuple[str, str]]:
    return [(each.node_id, each.trust) for each in world.view.providers(slug, at=world.at, **options)]


def test_it_is_shown_and_used_like_any_other_and_marked() -> None:
    world = World()
    assert learn(world, BASH, NOW_MS, "ollama", "strfry", station={"uplanet": "g1abc"}) == "new"
    world.beat(SIGNED, offers=["ollama"])
    assert providers(world) == sorted([(BASH.node_id, "ipns"), (SIGNED.node_id, "signed")])
    assert providers(world, signed_only=True) == [(SIGNED.node_id, "signed")]
    assert providers(world, where={"model": "x"}) == []
    assert world.view.slugs(world.at) == {"ollama": 2, "strfry": 1}
    assert {BASH.node_id, SIGNED.node_id} <= world.view.members(world.at)
    assert world.view.is_member(BASH.node_id, world.at)
    assert world.view.live_count(world.at) == 1
    shown = world.view.node(BASH.node_id, world.at)
    assert shown is not None
    assert (shown.state, shown.trust, shown.source, shown.sequence) == ("live", "ipns", "ipns", 0)
    assert shown.manifest.station == {"uplanet": "g1abc"}
    assert [node.node_id for node in world.view.nodes(world.at)] == sorted([BASH.node_id, SIGNED.node_id])


def test_where_the_operator_does_not_admit_it_it_is_only_shown() -> None:
    world = World()
    assert learn(world, BASH, usable=False) == "new"
    assert providers(world) == []
    assert world.view.slugs(world.at) == {}
    assert not world.view.is_member(BASH.node_id, world.at)
    shown = world.view.node(BASH.node_id, world.at)
    assert shown is not None
    assert (shown.state, shown.usable) == ("live", False)
    assert learn(world, BASH, usable=True) == "content"
    assert providers(world) == [(BASH.node_id, "ipns")]


def test_nothing_of_it_is_compared_relayed_stored_or_marked() -> None:
    world, twin = World(), World()
    learn(world, BASH)
    assert world.view.digest(world.at) == twin.view.digest(twin.at)
    assert list(world.view.bucket(range(16), world.at)) == []
    assert world.view.envelope(BASH.node_id) is None
    assert world.view.mark(BASH.node_id) is None
    assert not world.view.is_known(BASH.node_id)


@pytest.mark.parametrize(
    ("spoken", "outcome"),
    [
        (NOW_MS - 1000, "new"),
        (NOW_MS - 12 * HOUR + 1, "new"),
        (NOW_MS - 12 * HOUR, "unsigned-stale"),
        (NOW_MS - 24 * 365 * HOUR, "unsigned-stale"),
        (NOW_MS + round(AHEAD * 1000), "new"),
        (NOW_MS + round(AHEAD * 1000) + 1, "unsigned-future"),
        (2**62, "unsigned-future"),
    ],
)
def test_its_time_must_be_near(spoken: int, outcome: str) -> None:
    world = World()
    assert learn(world, BASH, spoken) == outcome
    assert world.view.counters == ({} if outcome == "new" else {outcome: 1})


def test_reading_the_same_again_revives_nobody() -> None:
    """A replayed directory is believed for as long as it was when it was new."""
    world = World()
    ahead = NOW_MS + HOUR
    learn(world, BASH, ahead)
    for _ in range(11):
        world.wait(3600)
        assert learn(world, BASH, ahead) == "beat"
    world.wait(3600)
    assert world.state(BASH) == "silent"
    assert learn(world, BASH, ahead) == "unsigned-stale"
    assert learn(world, BASH, ahead - 1) == "unsigned-superseded"
    assert providers(world) == []
    assert learn(world, BASH, world.now_ms) == "back"
    assert world.state(BASH) == "live"


def test_it_falls_silent_and_is_forgotten_and_both_are_told() -> None:
    world = World()
    learn(world, BASH)
    world.wait(LEASE - 1)
    assert world.state(BASH) == "live"
    world.wait(1)
    assert world.state(BASH) == "silent"
    assert (providers(world), world.view.is_member(BASH.node_id, world.at)) == ([], False)
    world.wait(48 * 3600 - LEASE)
    assert world.state(BASH) is None
    assert world.kinds() == ["joined", "silent", "gone"]


def test_what_changed_is_told_and_replaces_what_was_said() -> None:
    world = World()
    learn(world, BASH, NOW_MS, "ollama")
    assert learn(world, BASH, NOW_MS + 1, "ollama") == "beat"
    assert learn(world, BASH, NOW_MS + 1, "strfry") == "content"
    assert (providers(world, "ollama"), providers(world, "strfry")) == ([], [(BASH.node_id, "ipns")])
    assert world.kinds() == ["joined", "beat", "changed"]
    world.view.unlearn(BASH.node_id)
    assert world.state(BASH) is None
    assert (world.kinds(), providers(world, "strfry")) == (["gone"], [])


def test_who_signs_wins_and_removes_it() -> None:
    world = World()
    learn(world, BASH, NOW_MS, "ollama", "strfry")
    world.beat(BASH, offers=["ollama"])
    assert providers(world) == [(BASH.node_id, "signed")]
    assert providers(world, "strfry") == []
    assert learn(world, BASH, world.now_ms + 1000) == "unsigned-signed"
    assert world.view.slugs(world.at) == {"ollama": 1}


def test_after_a_goodbye_only_newer_files_count() -> None:
    """A station that goes back to the scripts is seen again; files from before its last signed word are not."""
    world = World()
    learn(world, BASH, NOW_MS - 1000)
    world.beat(BASH, leaving=True)
    assert world.state(BASH) == "left"
    assert learn(world, BASH, NOW_MS) == "unsigned-signed"
    world.wait(60)
    assert learn(world, BASH, world.now_ms) == "new"
    assert (world.state(BASH), providers(world)) == ("live", [(BASH.node_id, "ipns")])
    assert world.view.envelope(BASH.node_id) is not None
    assert world.view.age(BASH.node_id, world.at) == 60  # what is relayed is as old as it was
    world.kinds()
    world.view.unlearn(BASH.node_id)
    assert (world.state(BASH), world.kinds()) == ("left", ["silent"])  # "gone" would make the store forget its mark
    assert world.view.mark(BASH.node_id) is not None


def test_what_the_store_remembers_of_a_node_outlives_its_unsigned_word() -> None:
    """THREATS 1: a mark must not go because of bytes that nobody signed."""
    mark = (NOW_MS, b"x")
    world = World(marks={BASH.node_id: mark})
    learn(world, BASH)
    world.wait(72 * 3600)
    assert "gone" not in world.kinds()
    assert world.view.mark(BASH.node_id) == mark


def test_a_closed_swarm_is_closed_to_it_too() -> None:
    world = World(admit=frozenset({OTHER.node_id}))
    assert learn(world, BASH) == "unsigned-not-admitted"
    assert learn(world, OTHER) == "new"
    assert learn(World(), World().me) == "unsigned-not-admitted"


def test_the_set_is_bounded_and_the_silent_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """I5."""
    monkeypatch.setattr(unsigned, "CAPACITY", 8)
    world = World()
    learn(world, BASH, NOW_MS - 11 * HOUR)
    learn(world, OTHER)
    world.wait(2 * 3600)
    for number in range(7):
        learn(world, Signer(f"u{number}"), world.now_ms)
    assert (world.state(BASH), world.state(OTHER)) == (None, "live")
    for number in range(50):
        learn(world, Signer(f"v{number}"), world.now_ms)
        assert len(world.view.nodes(world.at)) == 8
    assert CAPACITY == 512


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("uvwxyz"), st.integers(-14, 2), st.sampled_from(["ollama", "strfry"]), st.booleans()),
        max_size=12,
    )
)
def test_no_unsigned_word_changes_anything_that_is_signed(words: list[tuple[str, int, str, bool]]) -> None:
    """I4, in the view: what is looked up among the signed, compared and relayed is the same with and without them."""
    world, twin = World(), World()
    for number, each in enumerate("abx"):
        envelope = Signer(each).envelope(NOW_MS, ["ollama"])
        for one in (world, twin):
            one.hear(envelope)
        for name, hours, slug, usable in words[number::3]:
            learn(world, Signer(name), NOW_MS + hours * HOUR, slug, usable=usable)
    for slug in ("ollama", "strfry"):
        assert providers(world, slug, signed_only=True) == providers(twin, slug)
        assert [each for each in providers(world, slug) if each[1] == "signed"] == providers(twin, slug)
    assert world.view.digest(world.at) == twin.view.digest(twin.at)
    assert list(world.view.bucket(range(16), world.at)) == list(twin.view.bucket(range(16), twin.at))
    assert world.view.live_count(world.at) == twin.view.live_count(twin.at)


_breakers = st.sampled_from([CLOSED, CLOSED, CLOSED.trip(0.0, "no answer"), CLOSED.trip(8.0, "no answer")])


def _candidates(prefix: str, trust: str) -> st.SearchStrategy[list[Candidate]]:
    one = st.builds(
        Candidate,
        node_id=st.sampled_from([f"{prefix}{number:02}" for number in range(30)]),
        alias=st.just(prefix),
        slug=st.just("ollama"),
        health=st.sampled_from(["passing", "warning", "critical"]),
        load=st.floats(0, 1),
        trust=st.just(trust),
        relayed=st.booleans(),
        measured=st.none() | st.builds(PeakEwma, st.floats(0.001, 5), st.just(5.0)),
        in_flight=st.integers(0, 5),
        breaker=_breakers,
    )
    return st.lists(one, max_size=8, unique_by=lambda each: each.node_id)


@settings(max_examples=200, deadline=None)
@given(
    # Their ids come before and after those that sign.
    _candidates("m", "signed"),
    _candidates("a", "ipns"),
    _candidates("z", "ipns"),
    st.sampled_from(["p2c", "rotate", "random", "first"]),
    st.integers(0, 1000),
)
def test_no_unsigned_word_changes_a_choice_while_somebody_who_signs_can_serve(
    signed: list[Candidate], low: list[Candidate], high: list[Candidate], name: str, seed: int
) -> None:
    """I4, in the choice: the same one is taken, by the same draw, with the same words."""
    strategy = strategy_named(name, random.Random(seed))
    _alike(signed, [*low, *signed, *high], strategy)


def _alike(signed: list[Candidate], everybody: list[Candidate], strategy: Strategy) -> None:
    alone, among = copy.deepcopy(strategy), copy.deepcopy(strategy)
    at = 9.0
    for _ in range(3):
        one, other = choose(signed, alone, at), choose(everybody, among, at)
        can_serve = [each for each in signed if each.breaker.permits(at) and not each.relayed and each.health != "critical"]
        if can_serve:
            assert (one.provider, one.because) == (other.provider, other.because)
        elif other.provider is not None and other.provider.unsigned and not other.provider.breaker.permits(at):
            assert one.provider is None  # who signs is tried before any unsigned one that failed lately

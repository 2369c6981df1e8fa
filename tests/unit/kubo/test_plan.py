"""The decision behind the tunnels: tables for each rule, and the laws for everything else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.kubo.plan import Action, Close, Listener, Open, Plan, Reopen, WantedLeg, make_plan, normal
from dragon.kubo.types import P2PEntry, loopback_target

SELF = "/p2p/12D3KooWself"


def listening(protocol: str, port: int) -> P2PEntry:
    return P2PEntry(protocol, SELF, loopback_target(port))


def forwarding(protocol: str, port: int, node: str = "12D3KooWother") -> P2PEntry:
    return P2PEntry(protocol, loopback_target(port), f"/p2p/{node}")


def plan(
    listeners: list[Listener] | None = None,
    legs: list[WantedLeg] | None = None,
    actual: list[P2PEntry] | None = None,
    ours: Mapping[P2PEntry, bool] | None = None,
    forbidden: set[int] | None = None,
) -> Plan:
    wanted = {each.protocol: each for each in listeners or []}
    return make_plan(wanted, legs or [], actual or [], ours or {}, frozenset(forbidden or ()))


SSH, GATE = Listener("/x/ssh", 22), Listener("/x/ssh", 4000, report_peer_id=True)
BESIDE = replace(GATE, adopts=22)
LEG = WantedLeg("/x/ollama", "12D3KooWother", 5000)


@pytest.mark.parametrize(
    ("actual", "ours", "actions", "up"),
    [
        pytest.param([], {}, (Open(SSH),), set(), id="absent"),
        pytest.param([listening("/x/ssh", 22)], {SSH.entry(): False}, (), {"/x/ssh"}, id="ours stands"),
        pytest.param([listening("/x/ssh", 22)], {}, (), {"/x/ssh"}, id="another's with the same target is adopted"),
        pytest.param([listening("/x/ssh", 2222)], {}, (), set(), id="another's with another target is left alone"),
        pytest.param(
            [listening("/x/ssh", 2222)],
            {Listener("/x/ssh", 2222).entry(): False},
            (Close(listening("/x/ssh", 2222), end_streams=False), Open(SSH)),
            set(),
            id="ours is re-targeted",
        ),
        pytest.param(
            [listening("/x/ssh", 22)],
            {SSH.entry(): True},
            (Close(listening("/x/ssh", 22), end_streams=False), Open(SSH)),
            set(),
            id="ours named its callers and is not to any more",
        ),
        pytest.param([], {SSH.entry(): False}, (Open(SSH),), set(), id="the daemon forgot it"),
        pytest.param([forwarding("/x/ssh", 5001)], {}, (Open(SSH),), set(), id="a forward of that name is no listener"),
    ],
)
def test_one_listener(actual: list[P2PEntry], ours: dict[P2PEntry, bool], actions: tuple[object, ...], up: set[str]) -> None:
    decided = plan([SSH], actual=actual, ours=ours)
    assert decided.actions == actions
    assert decided.up == up


def test_a_gate_never_stands_behind_anothers_listener() -> None:
    """Whether that one names its callers cannot be seen, and a gate that misses the line would refuse everybody."""
    decided = plan([GATE], actual=[listening("/x/ssh", 4000)])
    assert decided.up == set()
    assert "ipfs p2p close --protocol=/x/ssh" in decided.problems["/x/ssh"]


@pytest.mark.parametrize(("ours", "closes"), [({SSH.entry(): False}, True), ({}, False)])
def test_a_forbidden_port_is_closed_if_ours_and_never_opened(ours: dict[P2PEntry, bool], closes: bool) -> None:
    decided = plan([SSH], actual=[listening("/x/ssh", 22)], ours=ours, forbidden={22})
    assert decided.actions == ((Close(listening("/x/ssh", 22), end_streams=True),) if closes else ())
    assert decided.up == set()
    assert "never offered" in decided.problems["/x/ssh"]


def test_the_end_of_a_tunnel_is_never_offered() -> None:
    decided = plan([Listener("/x/ollama", 5001)], actual=[forwarding("/x/any", 5001)])
    assert decided.actions == ()
    assert "tunnel" in decided.problems["/x/ollama"]
    assert decided.tunnel_ports == {5001}


def test_what_is_ours_and_not_wanted_is_closed_with_its_streams() -> None:
    actual = [listening("/x/ssh", 22), forwarding("/x/a", 5001), listening("/x/b", 80), forwarding("/x/c", 5002)]
    decided = plan(actual=actual, ours={SSH.entry(): False, forwarding("/x/a", 5001): False})
    assert set(decided.actions) == {Close(actual[0], True), Close(actual[1], True)}


@pytest.mark.parametrize(
    ("actual", "actions"),
    [
        ([], (Reopen(LEG),)),
        ([LEG.entry()], ()),
        ([forwarding("/x/ollama", 5000, "12D3KooWthird")], (Reopen(LEG),)),
        ([forwarding("/x/ollama", 5003)], (Reopen(LEG),)),
    ],
)
def test_one_leg(actual: list[P2PEntry], actions: tuple[object, ...]) -> None:
    decided = plan(legs=[LEG], actual=actual)
    assert decided.actions == actions
    assert decided.legs_up == (set() if actions else {LEG})


ports = st.integers(1, 6)
names = st.sampled_from(["/x/a", "/x/b", "/x/c"])
some_listeners = st.lists(st.builds(Listener, names, ports, st.booleans()), max_size=4, unique_by=lambda each: each.protocol)
some_legs = st.lists(
    st.builds(WantedLeg, names, st.sampled_from(["12D3KooWone", "12D3KooWtwo"]), st.integers(11, 14)),
    max_size=3,
    unique_by=lambda leg: leg.port,
)
standing_listeners = st.lists(st.builds(listening, names, ports), max_size=3, unique_by=lambda each: each.protocol)
standing_forwards = st.lists(
    st.builds(forwarding, names, st.one_of(st.integers(11, 14), ports), st.sampled_from(["12D3KooWone", "12D3KooWtwo"])),
    max_size=3,
    unique_by=lambda each: each.listen,
)


class Daemon:
    """What `p2p ls` would say, with Kubo's rules: one listener per name, one forward per port."""

    def __init__(self, entries: list[P2PEntry], ours: dict[P2PEntry, bool], legs: list[WantedLeg]) -> None:
        self.entries, self.ours, self.legs = list(entries), dict(ours), list(legs)

    def act(self, action: Action, barred: frozenset[int]) -> None:
        match action:
            case Close(entry, _):
                assert normal(entry) in self.ours, "only what is ours is closed"
                self.entries.remove(entry)
                self.ours.pop(normal(entry))
            case Open(listener):
                assert listener.port not in barred
                assert all(not (each.is_listener and each.protocol == listener.protocol) for each in self.entries)
                self.entries.append(listening(listener.protocol, listener.port))
                self.ours[listener.entry()] = listener.report_peer_id
            case Reopen(leg):
                taken = {each.leg_port for each in self.entries}
                moved = replace(leg, port=next(port for port in (leg.port, *range(100, 200)) if port not in taken))
                self.legs[self.legs.index(leg)] = moved
                self.entries.append(moved.entry())
                self.ours[moved.entry()] = False


@settings(max_examples=150)
@given(
    some_listeners,
    some_legs,
    standing_listeners,
    standing_forwards,
    st.sets(ports, max_size=2),
    st.lists(st.sampled_from(["foreign", "ours", "ours, naming callers"]), min_size=6, max_size=6),
)
def test_acting_settles_everything_and_touches_only_ours(
    listeners: list[Listener],
    legs: list[WantedLeg],
    others: list[P2PEntry],
    forwards: list[P2PEntry],
    forbidden: set[int],
    owners: list[str],
) -> None:
    actual = [*others, *forwards]
    ours = {normal(entry): "naming" in owner for entry, owner in zip(actual, owners, strict=False) if owner != "foreign"}
    foreign = [entry for entry in actual if normal(entry) not in ours]
    wanted = {each.protocol: each for each in listeners}
    daemon = Daemon(actual, ours, legs)

    for _ in range(3):  # two rounds at most: a closed forward frees a port that the first round had to refuse
        decided = make_plan(wanted, daemon.legs, daemon.entries, daemon.ours, frozenset(forbidden))
        assert decided.ours == daemon.ours
        for action in decided.actions:
            daemon.act(action, decided.tunnel_ports | forbidden)

    assert decided.actions == ()
    assert decided.up | set(decided.problems) == set(wanted)
    assert not decided.up & set(decided.problems)
    assert decided.legs_up == set(daemon.legs)
    assert all(entry in daemon.entries for entry in foreign)
    kept = {normal(entry) for entry in daemon.entries} & set(daemon.ours)
    assert kept <= {listener.entry() for listener in listeners} | {leg.entry() for leg in daemon.legs}


@pytest.mark.parametrize(
    ("wanted", "actual", "ours", "up", "adopted", "actions"),
    [
        pytest.param(BESIDE, [listening("/x/ssh", 22)], {}, True, True, (), id="a script's, straight to the service"),
        pytest.param(BESIDE, [listening("/x/ssh", 2222)], {}, False, False, (), id="a script's, to another port: not fought"),
        pytest.param(GATE, [listening("/x/ssh", 22)], {}, False, False, (), id="nothing is adopted where nobody said so"),
        pytest.param(BESIDE, [], {}, False, False, (Open(BESIDE),), id="closed by STOP: ours, with its gate"),
        pytest.param(BESIDE, [listening("/x/ssh", 4000)], {BESIDE.entry(): True}, True, False, (), id="ours stands"),
        pytest.param(
            GATE, [P2PEntry("/x/ssh", SELF, "/unix/run/sshd")], {}, False, False, (), id="no port at either side is no match"
        ),
    ],
)
def test_what_a_station_s_scripts_opened_is_adopted_as_it_is(
    wanted: Listener,
    actual: list[P2PEntry],
    ours: Mapping[P2PEntry, bool],
    up: bool,
    adopted: bool,
    actions: tuple[Action, ...],
) -> None:
    made = plan([wanted], actual=actual, ours=ours)
    assert made.up == ({"/x/ssh"} if up else set())
    assert made.adopted == ({"/x/ssh"} if adopted else set())
    assert made.actions == actions

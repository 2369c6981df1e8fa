"""Desired tunnels × actual tunnels → what to do. Pure: the whole decision of `tunnels`, without a daemon.

Rules: only what is ours is ever closed; a listener that somebody else opened towards the same port is adopted (it counts as
up and is left alone), unless callers must be named, which cannot be seen from outside; where the listener says so, one that
leads straight to its service counts all the same (a station's own scripts open those, without a gate); nothing is opened
towards a forbidden port or towards the local end of a forward (no tunnel of a tunnel, DESIGN §7.3).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from dragon.kubo.types import P2PEntry, loopback_target


@dataclass(frozen=True, slots=True)
class Listener:
    """What remote nodes dial: `protocol` leads to `port` on 127.0.0.1.

    `report_peer_id` puts the caller's node id on a first line of every connection. `adopts`: a port to which somebody else's
    listener may lead instead.
    """

    protocol: str
    port: int
    report_peer_id: bool = False
    adopts: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.port <= 65535:
            raise ValueError(f"not a port: {self.port}")

    def entry(self) -> P2PEntry:
        return P2PEntry(self.protocol, "", loopback_target(self.port))


@dataclass(frozen=True, slots=True)
class WantedLeg:
    """A forward that is to stand: `port` on 127.0.0.1 leads to `protocol` of a node."""

    protocol: str
    node_id: str
    port: int

    def entry(self) -> P2PEntry:
        return P2PEntry(self.protocol, loopback_target(self.port), f"/p2p/{self.node_id}")


@dataclass(frozen=True, slots=True)
class Open:
    listener: Listener


@dataclass(frozen=True, slots=True)
class Reopen:
    leg: WantedLeg


@dataclass(frozen=True, slots=True)
class Close:
    """`end_streams`: running connections end too (withdrawn); without, they go on (moved to another port)."""

    entry: P2PEntry
    end_streams: bool


Action = Open | Reopen | Close

Ours = Mapping[P2PEntry, bool]
"""What we opened, in the form of `normal`, and whether it names its callers (which `p2p ls` does not show)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`actions` in order; `up` are the protocols of listeners that stand, `adopted` those of them that somebody else opened,
    `problems` says why others do not and acting does not help; `ours` is what of ours is still there; `tunnel_ports` are the
    local ends of all forwards."""

    actions: tuple[Action, ...]
    up: frozenset[str]
    adopted: frozenset[str]
    legs_up: frozenset[WantedLeg]
    problems: Mapping[str, str]
    ours: Ours
    tunnel_ports: frozenset[int]


def normal(entry: P2PEntry) -> P2PEntry:
    """Return the entry as the journal keeps it: a listener without our own node id, which may not be known yet."""
    return replace(entry, listen="") if entry.is_listener else entry


def make_plan(
    listeners: Mapping[str, Listener],
    legs: Collection[WantedLeg],
    actual: Sequence[P2PEntry],
    ours: Ours,
    forbidden: frozenset[int],
) -> Plan:
    """Return what leads from `actual` to the desired listeners (by protocol) and legs; see the rules above."""
    standing = {normal(entry): entry for entry in actual}
    still_ours = {entry: names for entry, names in ours.items() if entry in standing}
    tunnel_ports = frozenset(port for entry in actual if (port := entry.leg_port) is not None)
    by_protocol = {entry.protocol: entry for entry in actual if entry.is_listener}
    up: set[str] = set()
    adopted: set[str] = set()
    problems: dict[str, str] = {}
    closing: list[Action] = []
    opening: list[Action] = []

    for protocol, wanted in listeners.items():
        found = by_protocol.get(protocol)
        mine = found is not None and normal(found) in still_ours
        if reason := _forbidden(wanted.port, forbidden, tunnel_ports):
            problems[protocol] = reason
            if found is not None and mine:
                closing.append(Close(found, end_streams=True))
        elif found is None:
            opening.append(Open(wanted))
        elif mine:
            if found.listener_port == wanted.port and still_ours[normal(found)] == wanted.report_peer_id:
                up.add(protocol)
            else:
                closing.append(Close(found, end_streams=False))
                opening.append(Open(wanted))
        elif found.listener_port and found.listener_port == (wanted.adopts if wanted.report_peer_id else wanted.port):
            up.add(protocol)
            adopted.add(protocol)
        else:
            problems[protocol] = (
                f"another program listens under {protocol} towards {found.target}: end it with "
                f"`ipfs p2p close --protocol={protocol}`"
            )

    legs_up = frozenset(leg for leg in legs if leg.entry() in standing)
    opening.extend(Reopen(leg) for leg in legs if leg not in legs_up)

    wanted_entries = {leg.entry() for leg in legs}
    for entry in still_ours:
        real = standing[entry]
        if not (real.protocol in listeners if real.is_listener else entry in wanted_entries):
            closing.append(Close(real, end_streams=True))
    return Plan((*closing, *opening), frozenset(up), frozenset(adopted), legs_up, problems, still_ours, tunnel_ports)


def _forbidden(port: int, forbidden: frozenset[int], tunnel_ports: frozenset[int]) -> str | None:
    if port in tunnel_ports:
        return f"port {port} is itself the end of a tunnel: what comes through a tunnel is never offered again"
    if port in forbidden:
        return f"port {port} belongs to Kubo or to Dragon itself and is never offered"
    return None

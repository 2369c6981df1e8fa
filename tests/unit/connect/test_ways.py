"""The order of a search, as a table: presets, what a catalogue entry allows, hosts that rest."""

from __future__ import annotations

import socket
import subprocess
import sys

import pytest

from dragon.connect.routes import CASCADES, Destination, Route, RouteName
from dragon.connect.ways import Way, ranked, ways
from dragon.errors import UsageError
from dragon.probe import CatalogueEntry, load_catalogue
from dragon.registry.entry import Provider, Trust
from registry_schema import make_offer
from tests.simulator.signers import Signer


class Path:
    """A route that leads to `hosts` of its own, or to nodes."""

    half_close = True

    def __init__(self, name: RouteName, hosts: tuple[str, ...] | None) -> None:
        self.name: RouteName = name
        self._hosts = hosts

    def destinations(self, slug: str) -> tuple[Destination, ...] | None:
        return None if self._hosts is None else tuple(Destination(f"{self.name}:{each}", each) for each in self._hosts)

    async def open(self, node_id: str, slug: str) -> int:
        raise NotImplementedError

    async def dial(self, node_id: str, slug: str) -> socket.socket:
        raise NotImplementedError

    def hung_up(self, node_id: str, slug: str, connection: socket.socket) -> None:
        raise NotImplementedError

    async def drop(self, node_id: str) -> None:
        raise NotImplementedError

    async def close_idle(self, before: float) -> int:
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError


def routes(*, hosts: tuple[str, ...] | None = ("me@host",), ssh: bool = True) -> dict[RouteName, Route]:
    found: dict[RouteName, Route] = {"local": Path("local", None), "p2p": Path("p2p", None)}
    if ssh:
        found |= {"ssh6": Path("ssh6", hosts), "ssh4": Path("ssh4", hosts)}
    return found


def order(
    preset: str = "dual",
    entry: CatalogueEntry | None = None,
    *,
    given: dict[RouteName, Route] | None = None,
    via: str | None = None,
    any_node: bool = True,
    resting: frozenset[str] = frozenset(),
) -> list[str]:
    found: list[Way] = ways(
        [(entry or load_catalogue().get("ollama"), ())],
        routes() if given is None else given,
        preset,
        service="ollama",
        via=via,
        any_node=any_node,
        permits=lambda place, slug, route: place not in resting,
    )
    return [way.route.name for way in found]


@pytest.mark.parametrize(
    ("preset", "cascade", "with_host", "without"),
    [
        ("dual", ("local", "ssh6", "ssh4", "p2p"), ["ssh6", "ssh4", "p2p"], ["p2p"]),
        ("p2p-first", ("local", "p2p", "ssh6", "ssh4"), ["p2p", "ssh6", "ssh4"], ["p2p"]),
        ("production", ("p2p",), ["p2p"], ["p2p"]),
    ],
)
def test_the_presets(preset: str, cascade: tuple[str, ...], with_host: list[str], without: list[str]) -> None:
    assert CASCADES[preset] == cascade
    assert order(preset) == with_host
    assert order(preset, given=routes(ssh=False)) == without
    assert order(preset, given=routes(hosts=())) == without  # a host is named, but not for this service


@pytest.mark.parametrize("slug", ["orpheus", "strfry", "dify", "mirofish"])
def test_never_over_ssh(slug: str) -> None:
    entry = load_catalogue().get(slug)
    assert order(entry=entry) == ["p2p"]
    with pytest.raises(UsageError, match="does not allow route ssh6"):
        order(entry=entry, via="ssh6")


@pytest.mark.parametrize(
    ("resting", "expected"),
    [
        (set(), ["ssh6", "ssh4", "p2p"]),
        ({"ssh6:me@host"}, ["ssh4", "p2p", "ssh6"]),
        ({"ssh6:me@host", "ssh4:me@host"}, ["p2p", "ssh6", "ssh4"]),
    ],
)
def test_a_host_that_failed_lately_comes_last(resting: set[str], expected: list[str]) -> None:
    assert order(resting=frozenset(resting)) == expected


def test_via_forces_one() -> None:
    assert order(via=" SSH4 ") == ["ssh4"]
    assert order("production", via="ssh6") == ["ssh6"]
    assert order(via="p2p") == ["p2p"]


def test_a_wish_that_names_a_node_does_not_mean_a_host() -> None:
    assert order(any_node=False) == ["p2p"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"via": "pigeon"}, "no route is called"),
        ({"via": "ssh6", "given": routes(ssh=False)}, "not set up"),
        ({"via": "ssh6", "given": routes(hosts=())}, "leads to no host for ollama"),
        ({"via": "ssh6", "any_node": False}, "not to a node"),
    ],
)
def test_what_cannot_be_meant(words: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        order(**words)  # type: ignore[arg-type]
    assert caught.value.hint


def test_a_node_without_an_ssh_host_never_loads_the_library() -> None:
    code = "import sys, dragon.node; sys.exit(any(name.startswith('asyncssh') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_who_signs_nothing_comes_behind_whoever_may_work() -> None:
    """I4: also behind those that serve it under another slug, and behind the operator's own hosts."""
    vane, perplexica = load_catalogue().get("vane"), load_catalogue().get("perplexica")
    by_name = {"S": _provider("S", "signed"), "U": _provider("U", "ipns"), "V": _provider("V", "ipns")}

    def order_of(first: str, second: str = "", resting: str = "") -> list[tuple[str, str, str]]:
        offered = [(vane, [by_name[each] for each in first]), (perplexica, [by_name[each] for each in second])]

        def permits(place: str, slug: str, route: str) -> bool:
            return place not in resting

        found = ways(offered, routes(), "p2p-first", service="vane", via=None, any_node=True, permits=permits)
        ordered = ranked([way for way in found if way.route.name != "ssh4"], permits)
        who = ["".join(each.node_id for each in way.providers) if way.own is None else "me@host" for way in ordered]
        return [(way.entry.slug, way.route.name, name) for way, name in zip(ordered, who, strict=True)]

    hosts = [("vane", "ssh6", "me@host"), ("perplexica", "ssh6", "me@host")]
    assert order_of("UV", "S") == [hosts[0], ("perplexica", "p2p", "S"), hosts[1], ("vane", "p2p", "UV")]
    assert order_of("SU") == [("vane", "p2p", "S"), *hosts, ("vane", "p2p", "U")]
    assert order_of("SU", resting="S") == [*hosts, ("vane", "p2p", "U"), ("vane", "p2p", "S")]
    assert order_of("SU", resting="SU") == [*hosts, ("vane", "p2p", "S"), ("vane", "p2p", "U")]
    assert order_of("S", "S") == [("vane", "p2p", "S"), hosts[0], ("perplexica", "p2p", "S"), hosts[1]]  # as without any


def _provider(node_id: str, trust: Trust) -> Provider:
    offer = make_offer("vane", Signer(node_id).node_id, 3002)
    return Provider(node_id, node_id, offer, "live", trust, False, 0.0)

"""Facts in, survey out: the rules of `dragon.probe.decision` and `ownership` as tables."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import replace

import pytest

from dragon.probe import CatalogueEntry, Evidence, TestResult, load_catalogue
from dragon.probe.decision import TOLERATED, Contender, Outcome, Record, Weighed, screen, settle, weigh
from dragon.probe.evidence import Sighting
from dragon.probe.ownership import Holder, Ownership, forwarded_ports, is_tunneler, refusal
from dragon.sockdiag import Socket

CATALOGUE = load_catalogue(private=["qdrant"])
OLLAMA, STRFRY, VANE = (CATALOGUE.get(slug) for slug in ("ollama", "strfry", "vane"))
NAMED = Weighed(True, True, False, "process x")
OPEN = Weighed(True, False, False, "its port is open")
PASS = TestResult(True, "passing", "GET / → 200", {"model": "llama3.2:latest"})
FAIL = TestResult(False, "critical", "GET / → 500")
CLOSED = TestResult(False, "critical", "no connection", connected=False)


def listener(port: int, ip: str = "127.0.0.1") -> Socket:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return Socket(family, ip, port, "", 0, 1000, 77, "listen")


@pytest.mark.parametrize(
    ("slug", "ips", "excluded", "why"),
    [
        ("ollama", ["127.0.0.1"], set(), None),
        ("ollama", ["0.0.0.0"], set(), None),
        ("ollama", ["::"], set(), None),
        ("ollama", ["::ffff:127.0.0.1"], set(), None),
        ("ollama", ["10.0.0.2", "127.0.0.1"], set(), None),
        ("ollama", None, set(), None),  # the table cannot be read: ask on
        ("ollama", [], set(), "nothing listens on port 11434"),
        ("ollama", ["10.0.0.2"], set(), "port 11434 listens on 10.0.0.2 only, not on 127.0.0.1"),
        ("ollama", ["127.0.0.53"], set(), "port 11434 listens on 127.0.0.53 only, not on 127.0.0.1"),
        ("ollama", ["::1"], set(), "port 11434 listens on ::1 only, not on 127.0.0.1"),
        ("ollama", ["127.0.0.1"], {11434}, "port 11434 is a tunnel, or belongs to Dragon or its Kubo"),
        ("qdrant", ["127.0.0.1"], set(), "private: not offered by this node's configuration"),
    ],
)
def test_screen(slug: str, ips: list[str] | None, excluded: set[int], why: str | None) -> None:
    entry = CATALOGUE.get(slug)
    sockets = None if ips is None else [listener(entry.port, ip) for ip in ips]
    assert screen(entry, sockets, frozenset(excluded)) == why


@pytest.mark.parametrize(
    ("sightings", "holds", "detail"),
    [
        ([Sighting(True, "container vane (img)", frozenset({3002})), Sighting(False, "no b")], True, "container vane (img)"),
        ([Sighting(False, "no a"), Sighting(True, "container b (img)")], True, "container b (img)"),
        ([Sighting(False, "no a"), Sighting(False, "no b")], False, "no a; no b"),
        ([Sighting(True, "container vane (img)", frozenset({3009})), Sighting(False, "no b")], False,
         "container vane (img) serves port 3009, not 3002; no b"),
        ([Sighting(None, "cannot tell"), Sighting(False, "no b")], None, "cannot tell; no b"),
        ([Sighting(None, "cannot tell"), Sighting(True, "b")], True, "b"),
    ],
)  # fmt: skip
def test_weigh(sightings: list[Sighting], holds: bool | None, detail: str) -> None:
    weighed = weigh(VANE, dict(zip(VANE.evidence, sightings, strict=True)), None)
    assert (weighed.holds, weighed.detail) == (holds, detail)


def test_a_source_that_falls_silent_withdraws_nothing() -> None:
    had = Record(VANE.port, True, 0, {}, NAMED, "")
    silent = dict.fromkeys(VANE.evidence, Sighting(None, "cannot tell: docker hangs"))
    assert weigh(VANE, silent, had) == NAMED
    assert weigh(VANE, silent, replace(had, port=1)).holds is None, "another port is another service"
    gone = dict.fromkeys(VANE.evidence, Sighting(False, "no container"))
    assert weigh(VANE, gone, had).holds is False


def run(entry: CatalogueEntry, weighed: Weighed, *results: TestResult | None) -> list[str]:
    """Return what one service looks like after each of these results in a row: its health, or `refused`."""
    seen: list[str] = []
    records: Mapping[str, Record] = {}
    for result in results:
        outcome = settle([Contender(entry, weighed, result)], records)
        records = outcome.records
        seen.append(outcome.found[0].health if outcome.found else "refused")
        assert (entry.slug in outcome.refused) is not bool(outcome.found)
    return seen


@pytest.mark.parametrize(
    ("weighed", "results", "healths"),
    [
        (NAMED, [PASS, PASS], ["passing", "passing"]),
        (NAMED, [PASS, FAIL, PASS], ["passing", "warning", "passing"]),  # one failed test never ejects
        (NAMED, [PASS, FAIL, FAIL, FAIL, PASS], ["passing", "warning", "warning", "critical", "passing"]),
        (NAMED, [FAIL, FAIL, FAIL, PASS], ["unknown", "unknown", "critical", "passing"]),
        (NAMED, [PASS, CLOSED, PASS], ["passing", "refused", "passing"]),  # a closed port is withdrawn at once
        (NAMED, [PASS, CLOSED, FAIL], ["passing", "refused", "unknown"]),  # and forgotten
        (NAMED, [None, PASS, None, FAIL], ["refused", "passing", "passing", "warning"]),  # no answer yet says nothing
        (OPEN, [FAIL, FAIL, PASS], ["refused", "refused", "passing"]),  # an open port alone could be anybody's
        (OPEN, [PASS, FAIL, FAIL, FAIL], ["passing", "warning", "warning", "refused"]),
        (OPEN, [PASS, FAIL, PASS, FAIL], ["passing", "warning", "passing", "warning"]),
    ],
)
def test_health_over_time(weighed: Weighed, results: list[TestResult | None], healths: list[str]) -> None:
    assert run(STRFRY, weighed, *results) == healths
    assert TOLERATED == 3


def test_labels_outlive_a_failed_test_and_the_operators_win() -> None:
    entry = replace(OLLAMA, labels={"gpu": "mine", "model.2": "mine"})
    first = settle([Contender(entry, NAMED, replace(PASS, labels={"model": "a", "model.2": "b", "gpu": "c"}))], {})
    assert first.found[0].labels == {"gpu": "mine", "model.2": "mine", "model": "a"}
    again = settle([Contender(entry, NAMED, FAIL)], first.records)
    assert again.found[0].labels == first.found[0].labels
    many = {f"model.{number}": "x" for number in range(40)}
    assert len(settle([Contender(entry, NAMED, replace(PASS, labels=many))], {}).found[0].labels) == 32


def test_a_changed_port_is_a_new_service() -> None:
    before = settle([Contender(OLLAMA, NAMED, PASS)], {}).records
    moved = replace(OLLAMA, port=11435)
    assert settle([Contender(moved, NAMED, FAIL)], before).found[0].health == "unknown"


def contest(*claims: tuple[str, Weighed, TestResult]) -> Outcome:
    entries = [CatalogueEntry(slug, 3001, evidence=(Evidence("port"),)) for slug, _, _ in claims]
    return settle([Contender(entry, weighed, result) for entry, (_, weighed, result) in zip(entries, claims, strict=True)], {})


PUBLISHED = replace(NAMED, names_port=True)


@pytest.mark.parametrize(
    ("claims", "winner"),
    [
        ([("a", NAMED, PASS), ("b", NAMED, PASS)], "a"),  # equal right: the earlier in the catalogue
        ([("a", NAMED, FAIL), ("b", NAMED, PASS)], "b"),  # who passes
        ([("a", OPEN, PASS), ("b", NAMED, PASS)], "b"),  # whose evidence names the service
        ([("a", NAMED, PASS), ("b", PUBLISHED, PASS)], "b"),  # whose evidence names the port too
        ([("a", OPEN, PASS), ("b", NAMED, FAIL)], "a"),  # passing outranks everything
        ([("a", NAMED, FAIL), ("b", PUBLISHED, FAIL)], "b"),
    ],
)
def test_one_port_is_one_offer(claims: list[tuple[str, Weighed, TestResult]], winner: str) -> None:
    outcome = contest(*claims)
    assert [each.slug for each in outcome.found] == [winner]
    (loser,) = {slug for slug, _, _ in claims} - {winner}
    assert outcome.refused == {loser: f"port 3001 is offered as {winner}"}


def test_one_failed_test_does_not_hand_the_port_to_another() -> None:
    first = CatalogueEntry("a", 3001)
    second = CatalogueEntry("b", 3001)
    both = settle([Contender(first, NAMED, PASS), Contender(second, OPEN, PASS)], {})
    again = settle([Contender(first, NAMED, FAIL), Contender(second, OPEN, PASS)], both.records)
    assert [(each.slug, each.health) for each in again.found] == [("a", "warning")]


def test_found_is_in_catalogue_order() -> None:
    entries = [CatalogueEntry(slug, port) for slug, port in (("c", 1), ("a", 9), ("b", 5), ("d", 9))]
    outcome = settle([Contender(entry, NAMED, PASS) for entry in entries], {})
    assert [each.slug for each in outcome.found] == ["c", "a", "b"]


@pytest.mark.parametrize(
    ("name", "arguments", "makes_tunnels"),
    [
        ("ipfs", ("ipfs", "daemon"), True),
        ("ssh", ("ssh", "-N", "-L", "1:h:2"), True),
        ("dragon", ("/usr/bin/python3", "/opt/bin/dragon", "serve"), True),
        ("python3", ("python3", "-m", "dragon.cli", "serve"), True),
        ("python3", ("python3", "-m", "dragonfly"), False),
        ("python3", ("python3", "serve.py", "dragon"), False),
        ("sshd", ("/usr/sbin/sshd", "-D"), False),
        ("sshd", ("sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups",), False),
        ("sshd", ("sshd: root@notty",), True),  # the session that holds an `ssh -R` port
        ("sshd-session", ("sshd-session: root@notty",), True),
        ("sshd", ("sshd: alice [priv]",), False),  # root's half of alice's session: it must not make root's port 22 a suspect
        ("sshd-session", ("sshd-session: alice [priv]",), False),
        ("sshd", ("sshd: unknown [net]",), False),
        ("ollama", ("ollama", "serve"), False),
        ("docker-proxy", ("docker-proxy", "-host-port", "5005"), False),
        ("kthread", ("",), False),
    ],
)
def test_who_makes_tunnels(name: str, arguments: tuple[str, ...], makes_tunnels: bool) -> None:
    assert is_tunneler(Holder(9, name, 0, arguments)) is makes_tunnels


SSH = Holder(9, "ssh", 1000, ("ssh", "-L", "127.0.0.1:5005:127.0.0.1:5005", "me@host"))
IPFS = Holder(8, "ipfs", 1000, ("ipfs", "daemon"))
WEB = Holder(7, "httpd", 1000, ("httpd",))


@pytest.mark.parametrize(
    ("holders", "suspects", "specific", "words"),
    [
        ((WEB,), (), True, None),
        ((), (), True, None),
        ((SSH,), (), True, "held by ssh, pid 9"),
        ((WEB, IPFS), (), True, "held by ipfs, pid 8"),
        ((Holder(4242, "python3", 0, ("pytest",)),), (), True, "is our own"),
        (None, (), False, None),
        (None, (SSH,), True, "named by ssh"),
        (None, (IPFS,), True, None),  # the evidence names the service itself
        (None, (IPFS,), False, "may be a tunnel of ipfs"),
        (None, (replace(SSH, arguments=("ssh", "-L", "15005:127.0.0.1:50051")),), True, None),
    ],
)
def test_tunnels_are_never_offered(
    holders: tuple[Holder, ...] | None, suspects: tuple[Holder, ...], specific: bool, words: str | None
) -> None:
    why = refusal(Ownership(listener(5005), holders, suspects), {4242}, is_specific=specific)
    assert (why is None) if words is None else (why is not None and words in why)


@pytest.mark.parametrize(
    ("command", "ports"),
    [
        ("ssh -L 8080:web:80 host", {8080}),
        ("ssh -N -L 127.0.0.1:8080:127.0.0.1:9090 -p 22 host", {8080}),
        ("ssh -L8080:[::1]:80 host", {8080}),
        ("ssh -L [::1]:8080:[::1]:80 host", {8080}),
        ("ssh -fNL *:8080:web:80 -L 8081:/run/x.sock host", {8080, 8081}),
        ("ssh -D 1080 -D 127.0.0.1:1081 host", {1080, 1081}),
        ("ssh -R 8080:web:80 host", set()),  # it listens there, not here
        ("ssh -p 22 host 8080:web:80", set()),
        ("ssh host", set()),
        ("", set()),
    ],
)
def test_ports_that_an_ssh_listens_on(command: str, ports: set[int]) -> None:
    assert forwarded_ports(command.split()) == ports

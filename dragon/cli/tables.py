"""The node's documents as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dragon.cli.output import LONGEST_SENTENCE, Cell, Table

Document = Mapping[str, Any]

_STATES = {"live": "green", "silent": "yellow", "left": "dim", "skewed": "red"}
_VERDICTS = {"chosen": "bold green", "possible": "", "refused": "dim"}
_HEALTH = {"passing": "green", "warning": "yellow", "critical": "red", "unknown": "dim"}

ID_TAIL = 8
"""Characters shown of a node id: all begin alike, the end tells nodes apart, and `forward SLUG ID-PART` takes it."""


def peers(documents: list[Document]) -> Table:
    rows = [
        [
            Cell(_text(peer, "alias") + (" (self)" if peer.get("self") else ""), "bold"),
            Cell(short_id(peer.get("id"))),
            Cell(_text(peer, "state") + _reason(peer), _STATES.get(_text(peer, "state"), "")),
            Cell(_text(peer, "trust")),
            Cell("" if peer.get("self") else seconds(peer.get("last_seen"))),
            Cell(milliseconds(peer.get("rtt_ms"))),
            Cell(" ".join(str(offer.get("slug", "")) for offer in peer.get("offers", []))),
        ]
        for peer in documents
    ]
    return Table(("alias", "id", "state", "trust", "seen", "rtt", "offers"), rows, "no node is known yet, not even this one")


def services(documents: list[Document]) -> Table:
    rows = [
        [
            Cell(_text(service, "slug"), "bold"),
            Cell(_text(provider, "n")),
            Cell(_text(provider, "alias") + _note(provider)),
            Cell(short_id(provider.get("id"))),
            Cell(_text(provider, "health"), _HEALTH.get(_text(provider, "health"), "")),
            Cell(share(provider.get("load"))),
            Cell(milliseconds(provider.get("rtt_ms"))),
            Cell(labels(provider.get("labels"))),
        ]
        for service in documents
        for provider in service.get("providers", [])
    ]
    asked = [_text(service, "slug") for service in documents]
    nobody = f"nobody offers {', '.join(asked)}" if asked else "nobody offers anything yet"
    return Table(("service", "n", "provider", "id", "health", "load", "rtt", "labels"), rows, nobody)


def _note(provider: Document) -> str:
    """Return what must be known of a provider beside its name: that it is this node, or that it signs nothing."""
    return " (self)" if provider.get("self") else " (ipns)" if provider.get("trust") == "ipns" else ""


def forwards(documents: list[Document]) -> Table:
    rows = [
        [
            Cell(_text(forward, "slug"), "bold"),
            Cell(_text(forward, "url")),
            Cell(f"{_text(forward, 'alias')} {short_id(forward.get('provider'))}".strip()),
            Cell(_text(forward, "route")),
            Cell(_text(forward, "connections")),
            Cell(_pool(forward.get("pool"))),
            Cell(milliseconds(forward.get("latency_ms"))),
            Cell(milliseconds(forward.get("p95_ms"))),
            Cell(speed(forward.get("bytes_per_second"))),
            Cell(_text(forward, "problem") or "ok", "red" if forward.get("problem") else "green"),
        ]
        for forward in documents
    ]
    columns = ("service", "url", "provider", "route", "connections", "pool", "latency", "p95", "speed", "state")
    return Table(columns, rows, "no forward is open: dragon forward SLUG")


def _pool(pool: object) -> str:
    """Return who is in it, and how many are wanted: `2/2 alpha beta`."""
    if not isinstance(pool, Mapping):
        return ""
    members = [member for member in pool.get("members", []) if isinstance(member, Mapping)]
    notes = [note for note, is_so in (("auto", pool.get("auto")), ("resting", pool.get("resting"))) if is_so]
    return " ".join([f"{len(members)}/{pool.get('wanted')}", *notes, *(_text(member, "alias") for member in members)])


def providers(documents: list[Document]) -> Table:
    rows = [
        [
            Cell(_text(line, "n")),
            Cell(_text(line, "alias") + _note(line), "bold"),
            Cell(short_id(line.get("id"))),
            Cell(_text(line, "state"), _STATES.get(_text(line, "state"), "")),
            Cell(_text(line, "route") or "never tried", "" if line.get("route") else "dim"),
            Cell(_text(line, "attempts")),
            Cell(_text(line, "failures"), "red" if line.get("failures") else ""),
            Cell(milliseconds(line.get("latency_ms"))),
            Cell(milliseconds(line.get("p50_ms"))),
            Cell(milliseconds(line.get("p95_ms"))),
            Cell(speed(line.get("bytes_per_second"))),
            Cell(size(line.get("received"))),
            Cell(size(line.get("sent"))),
            Cell(_text(line, "breaker"), "" if line.get("breaker") == "closed" else "yellow"),
            Cell(_text(line, "last_failure"), longest=LONGEST_SENTENCE),
        ]
        for line in documents
    ]
    who, measured = ("n", "provider", "id", "state", "route"), ("tried", "failed", "latency", "p50", "p95", "speed")
    columns = (*who, *measured, "received", "sent", "breaker", "last failure")
    return Table(columns, rows, "nobody offers it, and nobody was ever used for it")


def findings(documents: list[Document]) -> Table:
    rows = [
        [_mark(finding), Cell(_text(finding, "name")), Cell(_text(finding, "detail"), longest=LONGEST_SENTENCE)]
        for finding in documents
    ]
    return Table(("", "check", "finding"), rows, "nothing was checked")


def _mark(finding: Document) -> Cell:
    if finding.get("ok"):
        return Cell("ok", "green")
    return Cell("PROBLEM", "bold red") if finding.get("essential", True) else Cell("note", "yellow")


def candidates(document: Document) -> Table:
    rows = [_candidate(candidate) for candidate in document.get("candidates", [])]
    columns = ("verdict", "provider", "id", "by", "heard", "health", "load", "measured", "reason")
    return Table(columns, rows, "nobody offers it")


def _candidate(candidate: Document) -> list[Cell]:
    said, measured = candidate.get("said") or {}, candidate.get("measured") or {}
    verdict, health = _text(candidate, "verdict"), _text(said, "health")
    heard = seconds(said.get("heard"))
    return [
        Cell(verdict, _VERDICTS.get(verdict, "")),
        Cell(_text(candidate, "alias"), "bold"),
        Cell(short_id(candidate.get("id"))),
        Cell(_text(candidate, "route")),
        Cell(f"{heard} by {said['source']}" if heard and said.get("source") else heard),
        Cell(health, _HEALTH.get(health, "")),
        Cell(share(said.get("load"))),
        Cell(milliseconds(measured.get("latency_ms"))),
        Cell(_text(candidate, "reason"), longest=LONGEST_SENTENCE),
    ]


def status(document: Document) -> Table:
    kubo = document.get("kubo") or {}
    addresses = [str(address) for address in document.get("addresses", [])]
    offers = document.get("offers", [])
    rows = [
        ("node", f"{_text(document, 'alias')} {_text(document, 'id')}"),
        ("swarm", _text(document, "swarm")),
        ("peers", _text(document, "peers") if not isinstance(document.get("peers"), list) else str(len(document["peers"]))),
        ("offers", _offers(offers) if document.get("offering", True) else "withdrawn; dragon astroport start makes them again"),
        ("kubo", _kubo(kubo)),
        *(("address" if number == 0 else "", address) for number, address in enumerate(addresses)),
    ]
    return Table(("", ""), [[Cell(name, "bold"), Cell(value, longest=LONGEST_SENTENCE)] for name, value in rows], "")


def _reason(peer: Document) -> str:
    """Why a node is skewed: nothing else in the table tells whose clock is off."""
    return f" ({peer['reason']})" if peer.get("reason") else ""


def _kubo(kubo: Document) -> str:
    managed = " (managed)" if kubo.get("managed") else ""
    return f"{_text(kubo, 'problem') or _text(kubo, 'version') + ' at ' + _text(kubo, 'api')}{managed}"


def short_id(node_id: object) -> str:
    """Return the end of a node id; an SSH host (`ssh4:user@host`) in full."""
    text = str(node_id or "")
    return text if len(text) <= ID_TAIL or ":" in text else f"…{text[-ID_TAIL:]}"


def seconds(value: object) -> str:
    """Return a span for people: 4s, 3m, 2h, 5d."""
    if not isinstance(value, (int, float)):
        return ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if value >= size:
            return f"{value / size:.0f}{unit}"
    return f"{max(value, 0):.0f}s"


def milliseconds(value: object) -> str:
    if not isinstance(value, (int, float)):
        return ""
    return f"{value:.1f}ms" if value < 10 else f"{value:.0f}ms"


def size(value: object) -> str:
    """Return an amount of bytes for people: 12B, 3.4kB, 120MB."""
    if not isinstance(value, (int, float)):
        return ""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f}{unit}" if unit != "B" and amount < 10 else f"{amount:.0f}{unit}"


def speed(value: object) -> str:
    text = size(value)
    return f"{text}/s" if text else ""


def share(value: object) -> str:
    return f"{value:.0%}" if isinstance(value, (int, float)) else ""


def labels(value: object) -> str:
    return " ".join(f"{key}={word}" for key, word in value.items()) if isinstance(value, Mapping) else ""


def _offers(offers: object) -> str:
    if not isinstance(offers, Iterable) or isinstance(offers, str):
        return str(offers)
    return " ".join(str(offer.get("slug", "")) if isinstance(offer, Mapping) else str(offer) for offer in offers) or "none"


def _text(document: Document, key: str) -> str:
    value = document.get(key)
    return "" if value is None else str(value)

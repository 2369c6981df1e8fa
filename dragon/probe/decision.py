"""The rules by which facts become a survey. Pure: facts in, values out.

1. A private entry, an excluded port, a port nobody listens on here: refused before anything is asked (`screen`).
2. Any evidence of the entry must hold; evidence that is known to serve other ports does not (`weigh`).
3. A port held by a tunnel is refused (`ownership.refusal`).
4. What remains is tested (`settle`). A port that takes no connection is withdrawn at once. A failed test never ejects by
   itself: a service that passed before is `warning`, and `critical` after `TOLERATED` failures in a row; one that never passed
   is `unknown` first, then `critical`. Where the evidence is only an open port, the test is what says which service it is:
   such a service is offered from its first pass on, and withdrawn after `TOLERATED` failures.
5. One port is one offer. Of several that claim it, wins: who passes the test; then whose evidence names it; then whose evidence
   names the port; then the earlier in the catalogue. The others are refused, naming the winner.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from dragon.probe.apitest import TestResult
from dragon.probe.entry import CatalogueEntry, Evidence, Health
from dragon.probe.evidence import Sighting
from dragon.probe.survey import Finding
from dragon.sockdiag import Socket
from registry_schema.limits import MAX_LABELS

TOLERATED: Final = 3
"""Failed tests in a row that turn a service critical. Busy services and tunnels lose one request in thousands; three in a
row, spread over a second and more (`prober.LADDER`), are no accident."""


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the evidence of one entry amounts to."""

    holds: bool | None
    is_specific: bool
    names_port: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Contender:
    """An entry whose evidence holds and whose port may be offered, with what its test showed."""

    entry: CatalogueEntry
    weighed: Weighed
    result: TestResult | None
    """None: there was no time to wait for an answer. That says nothing, for or against."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a service between two looks."""

    port: int
    passed: bool
    failures: int
    """Failed tests in a row."""
    labels: Mapping[str, str]
    weighed: Weighed
    detail: str
    """What the last test showed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    found: tuple[Finding, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    records: Mapping[str, Record] = field(default_factory=dict)
    unsettled: bool = False
    """True when a second look soon may show more: something is starting, failing, or has not answered yet."""


def screen(entry: CatalogueEntry, sockets: Sequence[Socket] | None, excluded: frozenset[int]) -> str | None:
    """Return why `entry` is out before anything is asked, or None. `sockets`: the listeners on its port; None: unknown."""
    if entry.private:
        return "private: not offered by this node's configuration"
    if entry.port in excluded:
        return f"port {entry.port} is a tunnel, or belongs to Dragon or its Kubo"
    if sockets is None or any(each.on_loopback for each in sockets):
        return None
    if not sockets:
        return f"nothing listens on port {entry.port}"
    return f"port {entry.port} listens on {', '.join(sorted({each.local_ip for each in sockets}))} only, not on 127.0.0.1"


def weigh(entry: CatalogueEntry, sightings: Mapping[Evidence, Sighting], record: Record | None) -> Weighed:
    """Return what the evidence shows: the first that holds, else what was looked for.

    When a source cannot be asked, a service that is offered on the same port keeps the evidence it had.
    """
    details: list[str] = []
    silent = False
    for evidence in entry.evidence:
        sighting = sightings[evidence]
        if sighting.holds and (sighting.ports is None or entry.port in sighting.ports):
            return Weighed(True, evidence.is_specific, sighting.ports is not None, sighting.detail)
        if sighting.holds and sighting.ports is not None:
            serves = ", ".join(map(str, sorted(sighting.ports)))
            details.append(f"{sighting.detail} serves port {serves}, not {entry.port}")
        else:
            details.append(sighting.detail)
            silent = silent or sighting.holds is None
    if silent and record is not None and record.port == entry.port:
        return record.weighed
    return Weighed(None if silent else False, False, False, "; ".join(dict.fromkeys(details)))


def settle(contenders: Iterable[Contender], records: Mapping[str, Record]) -> Outcome:
    """Return what is found and refused among `contenders` (in catalogue order), given what is remembered."""
    refused: dict[str, str] = {}
    kept: dict[str, Record] = {}
    unsettled = False
    claims: dict[int, list[tuple[tuple[bool, bool, bool, int], CatalogueEntry]]] = {}
    for order, contender in enumerate(contenders):
        entry, result = contender.entry, contender.result
        record = records.get(entry.slug)
        if record is not None and record.port != entry.port:
            record = None
        if (why := _unfit(contender, record)) is not None:
            refused[entry.slug], unsettled = why, True
            continue
        after = _remember(contender, record)
        unsettled = unsettled or result is None or not result.ok
        kept[entry.slug] = after
        trusted = after.passed and after.failures < TOLERATED
        rank = (not trusted, not after.weighed.is_specific, not after.weighed.names_port, order)
        claims.setdefault(entry.port, []).append((rank, entry))

    found: list[tuple[int, Finding]] = []
    for port, claimants in claims.items():
        claimants.sort(key=lambda claim: claim[0])
        (*_, order), winner = claimants[0]
        found.append((order, _finding(winner, kept[winner.slug])))
        for _, loser in claimants[1:]:
            refused[loser.slug] = f"port {port} is offered as {winner.slug}"
    return Outcome(tuple(finding for _, finding in sorted(found, key=lambda each: each[0])), refused, kept, unsettled)


def _unfit(contender: Contender, record: Record | None) -> str | None:
    entry, result = contender.entry, contender.result
    if result is None:
        return None if record is not None else f"port {entry.port} is open, but has not answered yet"
    if not result.connected:
        return f"port {entry.port}: {result.detail}"
    if result.ok or contender.weighed.is_specific:
        return None
    if record is None or not record.passed or record.failures + 1 >= TOLERATED:
        return f"port {entry.port} does not answer as {entry.slug} should: {result.detail}"
    return None


def _remember(contender: Contender, record: Record | None) -> Record:
    """Return the memory after this look. Called only where there is a result or a record."""
    entry, weighed, result = contender.entry, contender.weighed, contender.result
    if result is None:
        assert record is not None
        return Record(entry.port, record.passed, record.failures, record.labels, weighed, record.detail)
    if result.ok:
        return Record(entry.port, True, 0, result.labels, weighed, result.detail)
    passed, failures, labels = (record.passed, record.failures, record.labels) if record else (False, 0, {})
    return Record(entry.port, passed, failures + 1, labels, weighed, result.detail)


def health_of(record: Record) -> Health:
    """Return the health that a memory amounts to (rule 4)."""
    if record.failures == 0:
        return "passing"
    if record.failures >= TOLERATED:
        return "critical"
    return "warning" if record.passed else "unknown"


def _finding(entry: CatalogueEntry, record: Record) -> Finding:
    told = ((key, value) for key, value in record.labels.items() if key not in entry.labels)
    labels = dict([*entry.labels.items(), *told][:MAX_LABELS])  # the operator's own come first, and win
    return Finding(entry.slug, entry.port, health_of(record), labels, 0, f"{record.weighed.detail}; {record.detail}")

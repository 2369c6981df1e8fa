"""Why this provider and not that one: the decision, told (DESIGN §6: `dragon explain`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from dragon.connect.choice import Candidate, Decision
from dragon.connect.lookup import standing_of
from dragon.connect.reach import Reach

if TYPE_CHECKING:
    from dragon.registry.entry import NodeView

Verdict = Literal["chosen", "possible", "refused"]


@dataclass(frozen=True, slots=True)
class Line:
    """One candidate: what it says, when we heard it, what we measured, and what came of it."""

    id: str
    alias: str
    slug: str
    verdict: Verdict
    reason: str
    route: str
    said: Mapping[str, Any]
    """`trust`, `source`, `health`, `load` (0 to 1), `labels`, and `heard`, seconds ago."""
    measured: Mapping[str, Any]
    """`latency_ms`, `samples`, `in_flight`, `breaker`, `attempts`, `failures`, `last_failure`; empty: never tried."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`chosen` is a node id, None when nobody can serve; `because` the rule that decided."""

    slug: str
    chosen: str | None
    because: str
    strategy: str
    cascade: tuple[str, ...]
    candidates: tuple[Line, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return asdict(self)


def tell(decision: Decision, route: str, reaches: Mapping[str, Reach], sources: Mapping[str, str], at: float) -> list[Line]:
    """Return a line for each candidate of `decision`, the taken one first; `reaches` and `sources` by node id."""
    lines = []
    if decision.provider is not None:
        lines.append(_line(decision.provider, "possible", decision.because, route, reaches, sources, at))
    for each in decision.others:
        verdict: Verdict = "possible" if each.fit else "refused"
        lines.append(_line(each.candidate, verdict, each.because, route, reaches, sources, at))
    return lines


def tell_absent(nodes: Iterable[NodeView], slugs: Sequence[str]) -> list[Line]:
    """Return a line for each node that offered one of `slugs` and is not live now, or is only shown."""
    lines = []
    for node in nodes:
        offer = next((offer for offer in node.manifest.offers if offer.slug in slugs), None)
        if (node.state != "live" or not node.usable) and offer is not None:
            said = {
                "trust": node.trust,
                "source": node.source,
                "health": offer.health,
                "load": offer.load / 1000,
                "labels": dict(offer.labels),
                "heard": round(node.last_seen, 1),
            }
            lines.append(Line(node.node_id, node.alias, offer.slug, "refused", standing_of(node), "p2p", said, {}))
    return lines


def mark(lines: Iterable[Line], chosen: str | None) -> tuple[Line, ...]:
    """Return the lines with the chosen node's marked and first."""
    taken = [replace(line, verdict="chosen") for line in lines if line.id == chosen][:1]
    return (*taken, *(line for line in lines if line.id != chosen))


def _line(
    candidate: Candidate,
    verdict: Verdict,
    reason: str,
    route: str,
    reaches: Mapping[str, Reach],
    sources: Mapping[str, str],
    at: float,
) -> Line:
    said = {
        "trust": candidate.trust,
        "source": sources.get(candidate.node_id, ""),
        "health": candidate.health,
        "load": candidate.load,
        "labels": dict(candidate.labels),
        "heard": round(candidate.last_seen, 1),
    }
    measured: dict[str, Any] = {}
    reach = reaches.get(candidate.node_id)
    if reach is not None:
        measured = {
            "latency_ms": round(reach.measured.cost * 1000, 2) if reach.measured else None,
            "samples": reach.measured.samples if reach.measured else 0,
            "in_flight": reach.in_flight,
            "breaker": reach.breaker.state(at),
            "attempts": reach.attempts,
            "failures": reach.failures,
            "last_failure": reach.last_failure,
        }
    return Line(candidate.node_id, candidate.alias, candidate.slug, verdict, reason, route, said, measured)

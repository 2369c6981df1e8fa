"""How providers perform, as values to be shown: per provider and route, what we tried and what we measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon.connect.lookup import numbered
from dragon.connect.reach import Reach

if TYPE_CHECKING:
    from dragon.registry.entry import NodeView, Provider


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured over one route. Times in ms, None where nothing was; bytes and counts are kept over restarts."""

    attempts: int = 0
    failures: int = 0
    latency_ms: float | None = None
    """Peak-EWMA: what the choice reckons with."""
    p50_ms: float | None = None
    p95_ms: float | None = None
    samples: int = 0
    """Answers that the two quantiles are of."""
    bytes_per_second: float | None = None
    """Per connection, over the time in which bytes moved."""
    sent: int = 0
    received: int = 0
    in_flight: int = 0
    breaker: str = "closed"
    last_failure: str = ""
    used: float | None = None
    """Seconds since anything was measured."""


NOTHING_MEASURED = Figures()


@dataclass(frozen=True, slots=True)
class Performance:
    """One provider of `slug` over `route` ("" while it was never tried).

    `n` is the number that `forward` takes, None when it does not offer the service now; `state` is its node's, `configured` for
    a host of a route's own, `forgotten` for a node that the view knows no more.
    """

    slug: str
    n: int | None
    id: str
    alias: str
    state: str
    route: str
    figures: Figures
    trust: str = ""
    """`signed` or `ipns`; empty for a host of a route's own and for who is forgotten."""


def figures(reach: Reach, at: float) -> Figures:
    """Return what `reach` holds, at monotonic `at`."""
    speed = reach.bytes_per_second
    return Figures(
        attempts=reach.attempts,
        failures=reach.failures,
        latency_ms=_ms(reach.measured.cost if reach.measured else None),
        p50_ms=_ms(reach.latencies.quantile(0.5)),
        p95_ms=_ms(reach.latencies.quantile(0.95)),
        samples=len(reach.latencies),
        bytes_per_second=None if speed is None else round(speed, 1),
        sent=reach.sent,
        received=reach.received,
        in_flight=reach.in_flight,
        breaker=reach.breaker.state(at),
        last_failure=reach.last_failure,
        used=None if reach.used_at == float("-inf") else round(at - reach.used_at, 1),
    )


def performances(
    slug: str, providers: Sequence[Provider], reaches: Iterable[Reach], nodes: Mapping[str, NodeView], at: float
) -> list[Performance]:
    """Return a line for each provider and route of `slug`: all who offer it now, then all who were used before.

    This node itself has a line only where a forward led to it.
    """
    tried: dict[str, list[Reach]] = {}
    for reach in reaches:
        if reach.slug == slug:
            tried.setdefault(reach.node_id, []).append(reach)
    lines: list[Performance] = []
    for n, provider in enumerate(numbered(providers), 1):
        mine = sorted(tried.pop(provider.node_id, []), key=lambda each: each.route)
        who = (provider.node_id, provider.alias, provider.state)
        lines += [Performance(slug, n, *who, reach.route, figures(reach, at), provider.trust) for reach in mine]
        if not mine and not provider.is_self:
            lines.append(Performance(slug, n, *who, "", NOTHING_MEASURED, provider.trust))
    for node_id in sorted(tried):
        node = nodes.get(node_id)
        for reach in sorted(tried[node_id], key=lambda each: each.route):
            state = node.state if node else "configured" if reach.route.startswith("ssh") else "forgotten"
            alias = node.alias if node else reach.route if reach.route.startswith("ssh") else ""
            trust = node.trust if node else ""
            lines.append(Performance(slug, None, node_id, alias, state, reach.route, figures(reach, at), trust))
    return lines


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 2)

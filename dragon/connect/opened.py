"""An open forward with the request that it serves, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon.connect.finder import Found
from dragon.connect.forward import Forward
from dragon.connect.performance import figures
from dragon.connect.ports import HOST
from dragon.connect.request import ForwardInfo, ForwardRequest, ForwardResult, url_of

if TYPE_CHECKING:
    from dragon.kubo.tunnels import Leg

Key = tuple[str, str, tuple[tuple[str, str], ...], str, bool, bool, str]
"""What makes two requests the same: service, target, labels, route, spread, raw, strategy."""


@dataclass(slots=True, eq=False)
class Raw:
    """A port that Kubo itself owns (`--raw`): its full speed, none of our care."""

    found: Found
    leg: Leg
    opened_at: float


@dataclass(slots=True, eq=False)
class Opened:
    """`way` is a port of ours, or one of Kubo's."""

    key: Key
    request: ForwardRequest
    way: Forward | Raw

    @property
    def port(self) -> int:
        return self.way.port if isinstance(self.way, Forward) else self.way.leg.port

    @property
    def found(self) -> Found:
        return self.way.found

    @property
    def url(self) -> str:
        return url_of(self.found.entry.scheme, HOST, self.port)

    def result(self, *, reused: bool) -> ForwardResult:
        found = self.found
        return ForwardResult(found.slug, found.node_id, found.route.name, HOST, self.port, self.url, reused)

    def info(self, at: float) -> ForwardInfo:
        """Return what `dragon forwards` shows, at monotonic time `at`."""
        found, way = self.found, self.way
        ours = way if isinstance(way, Forward) else None
        sent, received = ours.traffic() if ours else (0, 0)
        if isinstance(way, Forward):
            healthy, problem = way.is_healthy(), way.suspect or ""
        else:
            healthy, problem = way.leg.up, "" if way.leg.up else "Kubo does not have it now"
        return ForwardInfo(
            slug=found.slug,
            provider=found.node_id,
            alias=found.alias,
            route=found.route.name,
            host=HOST,
            port=self.port,
            url=self.url,
            target=self.request.target,
            where=dict(self.request.where),
            spread=self.request.spread,
            since=at - way.opened_at,
            raw=ours is None,
            healthy=healthy,
            problem=problem,
            idle=at - ours.used_at if ours and not ours.connections else 0.0,
            connections=ours.connections if ours else 0,
            connections_total=ours.totals.connections if ours else 0,
            moved=ours.totals.moved if ours else 0,
            failed=ours.totals.failed if ours else 0,
            bytes_sent=sent,
            bytes_received=received,
            figures=figures(found.reach, at),
        )

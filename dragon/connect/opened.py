"""An open forward with the request that it serves: what makes two requests the same, and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon.connect import lookup
from dragon.connect.finder import Found, Wish
from dragon.connect.forward import Forward
from dragon.connect.performance import figures
from dragon.connect.ports import HOST
from dragon.connect.request import ForwardInfo, ForwardRequest, ForwardResult, url_of
from dragon.connect.scaling import LARGEST
from dragon.errors import UsageError

if TYPE_CHECKING:
    from dragon.kubo.tunnels import Leg

Key = tuple[str, str, tuple[tuple[str, str], ...], str, bool, bool, str, str]
"""What makes two requests the same: service, target, labels, route, spread, raw, strategy, pool."""


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
            spread=ours.spread if ours else False,
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
            pool=ours.pool.info() if ours and ours.pool else None,
        )


def key_of(request: ForwardRequest, wish: Wish) -> Key:
    """Return what tells `request` from others."""
    target = "auto" if isinstance(wish.target, lookup.Auto) else request.target.strip()
    return (
        wish.service,
        target,
        tuple(sorted(wish.where.items())),
        wish.via or "",
        request.spread,
        request.raw,
        request.strategy or "",
        str(request.pool or ""),
    )


def forced_route(request: ForwardRequest) -> str | None:
    """Return the route that `request` forces, None for the cascade. Raises `UsageError` for what contradicts itself.

    A pool is one of nodes, over p2p: neither this machine nor a host of SSH is a member.
    """
    if request.raw and request.spread:
        raise UsageError("a raw port has one provider", "leave --raw or --spread out")
    if request.pool is None:
        return request.via
    if request.raw:
        raise UsageError("a raw port has one provider", "leave --raw or --pool out")
    if request.target.strip().lower() != "auto":
        raise UsageError("a pool chooses its providers by itself", "leave the provider out, or --pool")
    if (request.via or "p2p").strip().lower() != "p2p":
        raise UsageError(f"a pool is one of nodes of the swarm, route {request.via} leads elsewhere", "leave --via out")
    if isinstance(request.pool, int) and not 1 <= request.pool <= LARGEST:
        raise UsageError(f"a pool has 1 to {LARGEST} providers, or `auto`", "for example --pool 2")
    return "p2p"

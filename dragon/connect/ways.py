"""The order of a search: which routes for which slugs, one after the other. Pure.

A route may lead to hosts of its own instead of to the nodes of the view. Such a host is no node: a wish that names a node does
not mean it. One whose breaker is open comes last, so that nobody waits for a host that is down, and yet not never.
Nodes that sign nothing come behind all others that may work: also behind those that serve it under another slug or route.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dragon.connect.routes import Destination, Route, RouteName, cascade
from dragon.errors import UsageError
from dragon.probe import CatalogueEntry

if TYPE_CHECKING:
    from dragon.registry.entry import Provider


@dataclass(frozen=True, slots=True)
class Way:
    """One step. `own`: the route's hosts, None where it leads to `providers`. `rests`: all of them failed lately.

    `unsigned`: its providers sign nothing.
    """

    entry: CatalogueEntry
    route: Route
    providers: Sequence[Provider]
    own: tuple[Destination, ...] | None = None
    rests: bool = False
    unsigned: bool = False


def ways(
    offered: Sequence[tuple[CatalogueEntry, Sequence[Provider]]],
    routes: Mapping[RouteName, Route],
    preset: str,
    *,
    service: str,
    via: str | None,
    any_node: bool,
    permits: Callable[[str, str, str], bool],
) -> list[Way]:
    """Return the steps for `service`, whose slugs come with who offers them; the local route is not among them.

    `any_node`: the wish names no node. `permits` asks the breaker of (host, slug, route). Raises `UsageError` when `via` is no
    route, is not set up or not allowed, or leads to no host for this service.
    """
    found: list[Way] = []
    has_hosts = False
    for entry, providers in offered:
        for route in cascade(preset, routes, entry.routes, via):
            if route.name == "local":
                continue
            own = route.destinations(entry.slug)
            if own is None:
                found.append(Way(entry, route, providers))
                continue
            has_hosts = True
            if own and any_node:
                rests = not any(permits(each.id, entry.slug, route.name) for each in own)
                found.append(Way(entry, route, providers, own, rests))
    if via is not None and has_hosts and not found:
        if not any_node:
            raise UsageError(f"route {via} leads to a host of its own, not to a node", "leave the node out")
        raise UsageError(f"route {via} leads to no host for {service}", 'name one: [ssh] host = "…" in config.toml')
    return sorted(found, key=lambda way: way.rests)


def ranked(order: Sequence[Way], permits: Callable[[str, str, str], bool]) -> list[Way]:
    """Return the steps with those apart, and behind, that lead to nodes that sign nothing (DESIGN §7, rule 6).

    Only who signs but failed lately comes later still: a way that is known to be shut is no better for being signed.
    """
    if not any(each.trust == "ipns" for way in order for each in way.providers):
        return list(order)
    found: list[Way] = []
    for way in order:
        if way.own is not None:
            found.append(way)
            continue
        for unsigned in (False, True):
            some = [each for each in way.providers if (each.trust == "ipns") is unsigned]
            rests = not any(permits(each.node_id, way.entry.slug, way.route.name) for each in some)
            if some:
                found.append(replace(way, providers=some, rests=rests, unsigned=unsigned))
    return sorted(found, key=lambda way: (way.rests, way.unsigned))

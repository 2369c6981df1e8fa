"""All forwards of a node: asked for, reused, listed, watched and closed.

forward() ── open already? ── runs here? ── find (choose, open, test; next on failure) ── a port of ours
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dragon.connect import explain, lookup, ports
from dragon.connect.attempts import Introduce
from dragon.connect.choice import strategy_named
from dragon.connect.finder import PROVEN_FOR, Finder, Found, Wish
from dragon.connect.forward import Forward
from dragon.connect.opened import Key, Opened, Raw, forced_route, key_of
from dragon.connect.performance import Performance, performances
from dragon.connect.pool import Pool
from dragon.connect.records import Records, SmallStore
from dragon.connect.request import ForwardInfo, ForwardRequest, ForwardResult, url_of
from dragon.connect.routes import CASCADES, LocalRoute, P2PRoute, Route, RouteName
from dragon.connect.trial import Trial
from dragon.connect.vigil import INTERVAL, Vigil
from dragon.errors import LocalError, NoProvider, PortInUse, UsageError
from dragon.probe import Survey
from registry_schema.manifest import protocol_name

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import ConnectSettings
    from dragon.kubo import Kubo
    from dragon.kubo.tunnels import Tunnels
    from dragon.probe import Catalogue
    from dragon.registry.verdict import Change
    from dragon.registry.view import View

log = logging.getLogger(__name__)

Lines = list[explain.Line]


class Forwards:
    """See DESIGN §6. `local_survey` tells what runs on this machine; `introduce` tells a node who we are (its gate asks).

    `routes` are further ones, by SSH where a host is named. `store` keeps what was measured over restarts.
    """

    def __init__(
        self,
        node_id: str,
        view: View,
        tunnels: Tunnels,
        kubo: Kubo,
        catalogue: Catalogue,
        clock: Clock,
        settings: ConnectSettings,
        rng: random.Random,
        *,
        local_survey: Callable[[], Survey] = Survey,
        routes: Mapping[RouteName, Route] | None = None,
        introduce: Introduce | None = None,
        store: SmallStore | None = None,
    ) -> None:
        self._node_id = node_id
        self._view = view
        self._tunnels = tunnels
        self._clock = clock
        self._settings = settings
        self._rng = rng
        self._trial = Trial(kubo, timeout=settings.test_timeout)
        self._local = LocalRoute(local_survey)
        self._routes: dict[RouteName, Route] = {
            "local": self._local,
            "p2p": P2PRoute(tunnels, clock, dial_timeout=settings.dial_timeout),
            **(routes or {}),
        }
        self._finder = Finder(
            view, kubo, catalogue, clock, settings,
            routes=self._routes, strategy=strategy_named(settings.strategy, rng), trial=self._trial, rng=rng,
            introduce=introduce,
        )  # fmt: skip
        self._records = Records(self._finder.reaches, store, clock)
        self._vigil = Vigil(kubo, clock, self._died)
        self._open: list[Opened] = []
        self._opening: dict[tuple[Key, int | None], asyncio.Task[ForwardResult]] = {}
        self._callbacks: list[Callable[[], None]] = []
        view.subscribe(self._heard)

    # -- what is asked ------------------------------------------------------------------------------------------------

    async def forward(self, request: ForwardRequest) -> ForwardResult:
        """Return where the service answers, with as little newly opened as possible.

        Raises `UnknownService`, `AmbiguousNode`, `UsageError`, `NoProvider`, `PortInUse`, and `KuboError` when the engine does
        not answer. Equal requests at the same time share one search and one leg.
        """
        wish = Wish(
            request.slug.strip().lower(), lookup.parse_target(request.target), dict(request.where), forced_route(request),
            strategy_named(request.strategy, self._rng) if request.strategy is not None else None,
        )  # fmt: skip
        key = key_of(request, wish)
        existing = self._find(key, request.port)
        if existing is not None and self._is_proven(existing):
            return existing.result(reused=True)
        slot = (key, request.port)
        opening = self._opening.get(slot)
        if opening is None:
            opening = asyncio.create_task(self._serve(request, wish, key, existing))
            self._opening[slot] = opening
            opening.add_done_callback(partial(self._opened, slot))
            return await asyncio.shield(opening)
        result = await asyncio.shield(opening)
        return ForwardResult(result.slug, result.provider, result.route, result.host, result.port, result.url, True)

    def list(self) -> list[ForwardInfo]:
        """Return the open forwards in the order of their ports."""
        at = self._clock.monotonic()
        return sorted((each.info(at) for each in self._open), key=lambda info: info.port)

    async def off(self, slug: str | None, port: int | None = None) -> int:
        """Close the forwards of `slug` (or alias), or all, or the one at `port`; return how many. Raises `UnknownService`."""
        wanted = None if slug is None else {slug.strip().lower(), *self._known(slug)}
        closing = [each for each in self._open if wanted is None or each.found.slug in wanted or each.key[0] in wanted]
        closing = [each for each in closing if port in (None, each.port)]
        for each in closing:
            await self._close(each)
        return len(closing)

    def providers(self, slug: str) -> Sequence[Performance]:
        """Return how the providers of `slug` (or alias) performed, per route. Raises `UnknownService`."""
        at = self._clock.monotonic()
        nodes = {node.node_id: node for node in self._view.nodes(at)}
        return [
            line
            for one in self._finder.offered.slugs(slug)
            for line in performances(one, self._finder.offered.providers(one), self._finder.reaches, nodes, at)
        ]

    def explain(self, slug: str) -> explain.Explanation:
        """Return who would serve `slug` now and why, and why not the others. Raises `UnknownService`."""
        slugs, at = self._finder.offered.slugs(slug), self._clock.monotonic()
        cascade = tuple(name for name in CASCADES[self._settings.cascade] if name in self._routes)
        nodes = self._view.nodes(at)
        sources = {node.node_id: node.source for node in nodes}
        lines: Lines = []
        chosen: str | None = None
        is_signed = False
        because = f"nobody offers {slug}"
        offered = {each: self._finder.offered.providers(each) for each in slugs}
        for way in self._finder.ways(slugs, offered, Wish(slug.strip().lower())):
            decision, route = self._finder.preview(way.entry.slug, way.route), way.route.name
            reaches = {
                each.node_id: each for each in self._finder.reaches if (each.slug, each.route) == (way.entry.slug, route)
            }
            lines += explain.tell(decision, route, reaches, sources, at)
            if decision.provider and (chosen is None or (not is_signed and not decision.provider.unsigned)):
                chosen, because, is_signed = decision.provider.node_id, decision.because, not decision.provider.unsigned
            elif chosen is None and decision.others:
                because = decision.because
        here = self._finder.local(Wish(slug.strip().lower())) if "local" in cascade else None
        if here is not None:
            chosen, because = self._node_id, f"{here[0]} runs here, on port {here[1]}: a local service wins over a tunnel"
            alias = next((node.alias for node in nodes if node.is_self), "")
            lines.append(explain.Line(self._node_id, alias, here[0], "possible", because, "local", {}, {}))
        standing = next((each for each in self._open if each.found.slug in slugs), None)
        if standing is not None:
            chosen = standing.found.node_id
            because = f"a forward on port {standing.port} is open and is used again ({standing.found.because})"
        lines += explain.tell_absent(nodes, slugs)
        return explain.Explanation(slug, chosen, because, self._finder.strategy.name, cascade, explain.mark(lines, chosen))

    def numbered(self, slug: str) -> Sequence[tuple[int, str]]:
        """Return (number, node id) of the providers of `slug`, as `forward SLUG N` counts them."""
        providers = [each for one in self._finder.offered.slugs(slug) for each in self._finder.offered.providers(one)]
        return [(n, each.node_id) for n, each in enumerate(lookup.numbered(providers), 1)]

    def ports(self) -> frozenset[int]:
        """Return the ports of all forwards: what answers there is somebody else's service, never ours to offer."""
        return frozenset(each.port for each in self._open)

    def replace_catalogue(self, catalogue: Catalogue) -> None:
        self._finder.offered.catalogue = catalogue

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back whenever a forward was opened, closed or leads to somebody else."""
        self._callbacks.append(callback)

    # -- what is kept up ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Watch over the forwards until cancelled: dead providers, idle legs, figures."""
        await self._records.load()
        while True:
            await self._clock.sleep(INTERVAL)
            await self.look()

    async def look(self) -> None:
        """One look: what `run` does twice a second."""
        self._records.save_if_due()
        if not self._open:
            await self._close_idle()
            return
        silent: set[str] = set()
        for each in self._open:
            if isinstance(each.way, Forward):
                each.way.look()
                silent |= each.way.quiet_nodes()
                why = self._finder.offered.standing(each.found.node_id, each.found.slug) if each.found.is_node else None
                if why is not None:
                    each.way.doubt(each.found.node_id, why)
        self._vigil.look(silent - {self._node_id})
        await self._close_idle()

    async def close(self) -> None:
        """Close every port and leg of this room."""
        for opening in list(self._opening.values()):
            opening.cancel()
        await asyncio.gather(*self._opening.values(), return_exceptions=True)
        await self.off(None)
        self._records.save()
        await self._vigil.close()
        for route in self._routes.values():
            await route.close()
        await self._trial.close()

    async def _close_idle(self) -> None:
        before = self._clock.monotonic() - self._settings.idle_seconds
        for route in self._routes.values():
            await route.close_idle(before)

    def _heard(self, change: Change) -> None:
        """A node of the view changed: who left says so itself, the others are asked at the next connection."""
        if change.kind in ("left", "silent", "gone", "changed", "skewed"):
            for each in self._open:
                if each.found.node_id == change.node_id and isinstance(each.way, Forward):
                    why = self._finder.offered.standing(change.node_id, each.found.slug)
                    if why is not None:
                        each.way.doubt(change.node_id, why)

    def _died(self, node_id: str, why: str) -> None:
        log.warning("%s %s: its connections end, its forwards move on", node_id, why)
        at = self._clock.monotonic()
        for reach in self._finder.reaches.of_node(node_id):
            reach.die(at, why)
        for each in self._open:
            if isinstance(each.way, Forward):
                each.way.mourn(node_id, why)
        self._changed()

    # -- opening ------------------------------------------------------------------------------------------------------

    async def _serve(self, request: ForwardRequest, wish: Wish, key: Key, existing: Opened | None) -> ForwardResult:
        if existing is not None and await self._still_works(existing):
            return existing.result(reused=True)
        result = await self._serve_locally(request, wish, key)
        if result is not None:
            return result
        listener = await asyncio.to_thread(ports.bind_asked, request.port) if request.port is not None else None
        try:
            found = await self._finder.find(wish)
            if listener is None:
                entry = found.entry
                listener = ports.bind_first(ports.wishes(entry.port, entry.local_port, found.node_id, found.slug))
            way: Forward | Raw
            if request.raw:
                port = int(listener.getsockname()[1])
                listener.close()
                way = await self._raw(found, port)
            else:
                pool = self._pool(request, wish, found)
                way = Forward(
                    wish, found, listener, self._finder, self._clock,
                    spread=request.spread, pool=pool, on_move=self._changed,
                )  # fmt: skip
                way.look()
        except BaseException:
            if listener is not None:
                listener.close()
            raise
        return self._keep(Opened(key, request, way)).result(reused=False)

    async def _serve_locally(self, request: ForwardRequest, wish: Wish, key: Key) -> ForwardResult | None:
        """Return the service of this machine if the request allows and means it; None to look elsewhere."""
        forced = wish.via == "local"
        if not (forced or (wish.via is None and "local" in CASCADES[self._settings.cascade])):
            return None
        target = wish.target
        if not isinstance(target, lookup.Auto):
            slugs = self._finder.offered.slugs(wish.service)
            providers = [each for slug in slugs for each in self._finder.offered.providers(slug)]
            nodes = self._view.nodes(self._clock.monotonic())
            if not lookup.find(target, providers, nodes, wish.service).is_self:
                if forced:
                    raise UsageError("route local leads to this node only", "leave --via out")
                return None
        here = self._finder.local(wish)
        if here is None:
            if forced or not isinstance(target, lookup.Auto):
                raise NoProvider(f"{wish.service} does not run here", "start it, or take another provider with `auto`")
            return None
        slug, native = here
        entry = self._finder.offered.entry(slug, native, "tcp")
        if request.port in (None, native) or request.raw:
            url = url_of(entry.scheme, ports.HOST, native)
            return ForwardResult(slug, self._node_id, "local", ports.HOST, native, url, False)
        assert request.port is not None
        listener = await asyncio.to_thread(ports.bind_asked, request.port)
        reach = self._finder.reaches.of(self._node_id, slug, "local")
        alias = next((node.alias for node in [self._view.node(self._node_id, self._clock.monotonic())] if node), "here")
        found = Found(self._node_id, alias, slug, entry, self._local, reach, "it runs here")
        way = Forward(wish, found, listener, self._finder, self._clock, spread=False, on_move=self._changed)
        return self._keep(Opened(key, request, way)).result(reused=False)

    def _pool(self, request: ForwardRequest, wish: Wish, found: Found) -> Pool | None:
        if request.pool is None:
            return None
        rest_after = self._settings.idle_seconds
        return Pool(wish, found, request.pool, self._finder, self._clock, rest_after=rest_after, on_change=self._changed)

    async def _raw(self, found: Found, port: int) -> Raw:
        if found.route.name != "p2p":
            raise UsageError("only the p2p route has a raw port", "leave --raw out")
        leg = await self._tunnels.open_leg(protocol_name(found.slug, found.node_id), found.node_id, port=port)
        if leg.port != port:  # somebody took it between our look and Kubo's bind
            await self._tunnels.close_leg(leg)
            raise PortInUse(f"port {port} of {ports.HOST} was taken a moment ago", "ask again")
        return Raw(found, leg, self._clock.monotonic())

    def _opened(self, slot: tuple[Key, int | None], opening: asyncio.Task[ForwardResult]) -> None:
        self._opening.pop(slot, None)
        if not opening.cancelled() and (error := opening.exception()) is not None:
            log.debug("%s: %s", slot[0][0], error)  # told to whoever asked, if they still listen

    def _keep(self, opened: Opened) -> Opened:
        self._open.append(opened)
        self._changed()
        return opened

    async def _close(self, opened: Opened) -> None:
        if opened in self._open:
            self._open.remove(opened)
            if isinstance(opened.way, Forward):
                await opened.way.close()
            else:
                await self._tunnels.close_leg(opened.way.leg)
            self._changed()

    # -- what is there already ----------------------------------------------------------------------------------------

    def _find(self, key: Key, port: int | None) -> Opened | None:
        return next((each for each in self._open if each.key == key and port in (None, each.port)), None)

    def _is_proven(self, opened: Opened) -> bool:
        if isinstance(opened.way, Raw):
            return opened.way.leg.up and self._finder.offered.standing(opened.found.node_id, opened.found.slug) is None
        fresh = self._clock.monotonic() - opened.found.reach.proven_at < PROVEN_FOR
        return fresh and opened.way.is_healthy()

    async def _still_works(self, opened: Opened) -> bool:
        """Prove a forward again, moving it to another provider if need be. A raw one cannot move: it is closed."""
        if isinstance(opened.way, Forward):
            await opened.way.prove()
            return True
        if await self._finder.works(opened.found) is None:
            return True
        await self._close(opened)
        return False

    def _known(self, slug: str) -> tuple[str, ...]:
        try:
            return self._finder.offered.slugs(slug)
        except LocalError:
            if any(slug.strip().lower() in (each.key[0], each.found.slug) for each in self._open):
                return ()
            raise

    def _changed(self) -> None:
        for callback in self._callbacks:
            callback()

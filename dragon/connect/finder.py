"""From a wish to a provider that was seen to work: choose, open the way, test the service through it; next on failure.

A provider that is silent does not hold up the rest: after `HEDGE` seconds the next one is tried beside it (as RFC 8305 does
with addresses), and the first whose service passes the catalogue's test is taken.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dragon.connect import lookup
from dragon.connect.attempts import Attempts, Introduce
from dragon.connect.breaker import CLOSED
from dragon.connect.choice import Candidate, Decision, Strategy, choose
from dragon.connect.offered import Offered
from dragon.connect.pulse import Pulse
from dragon.connect.reach import Reach, Reaches
from dragon.connect.routes import Destination, LocalRoute, Route, RouteName
from dragon.connect.trial import Trial
from dragon.connect.ways import Way, ranked, ways
from dragon.errors import NoProvider
from dragon.probe import CatalogueEntry
from registry_schema.labels import labels_match

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import ConnectSettings
    from dragon.kubo import Kubo
    from dragon.probe import Catalogue
    from dragon.registry.entry import Provider
    from dragon.registry.view import View

log = logging.getLogger(__name__)

HEDGE = 1.0
"""Seconds until the next provider is tried beside a silent one: ten times what a healthy test takes across a continent."""

PROVEN_FOR = 30.0
"""Seconds for which an answer counts as proof, so that nobody need test again: a provider's beat."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What a forward is for, parsed."""

    service: str
    target: lookup.Target = field(default_factory=lookup.Auto)
    where: Mapping[str, str] = field(default_factory=dict)
    via: str | None = None
    strategy: Strategy | None = None
    """What chooses for this wish; None: what chooses for all."""


@dataclass(frozen=True, slots=True)
class Found:
    """A provider whose service passed its test through `route`. `because` says who chose it."""

    node_id: str
    alias: str
    slug: str
    entry: CatalogueEntry
    route: Route
    reach: Reach
    because: str

    @property
    def is_node(self) -> bool:
        """Whether the view and Kubo know its provider: neither a host of a route's own nor this machine."""
        return self.route.name == "p2p"


class Finder:
    """Brings together who offers what (`offered`), what was measured (`reaches`), and how to get there (`routes`)."""

    def __init__(
        self,
        view: View,
        kubo: Kubo,
        catalogue: Catalogue,
        clock: Clock,
        settings: ConnectSettings,
        *,
        routes: Mapping[RouteName, Route],
        strategy: Strategy,
        trial: Trial,
        rng: random.Random,
        introduce: Introduce | None = None,
    ) -> None:
        self.offered = Offered(view, catalogue, clock, rng)
        self.strategy = strategy
        self.reaches = Reaches()
        self.pulse = Pulse(clock, kubo)
        self.routes = routes
        self.relayed: frozenset[str] = frozenset()
        self._kubo = kubo
        self._clock = clock
        self._settings = settings
        self._attempts = Attempts(clock, self.pulse, self.reaches, trial, connected=self.look_at_peers, introduce=introduce)
        self._standing: dict[tuple[str, str], str] = {}
        """(slug, route) → the node id found last: left only for a clear gain."""

    def pick(self, wish: Wish, like: Found, tried: Mapping[str, str]) -> Found | None:
        """Return who would serve one more connection of a forward that `like` serves too, without testing; None: nobody."""
        providers = self.offered.some(like.slug, wish.where)
        decision = self.decide(like.slug, providers, like.route, wish, tried, settled=False)
        if decision.provider is None:
            return None
        return self._found(like.entry, like.route, decision.provider, decision.because)

    def candidate(self, provider: Provider, route: str) -> Candidate:
        """Return one provider with what it claims and what we know of reaching it."""
        reach = self.reaches.peek(provider.node_id, provider.offer.slug, route)
        return Candidate(
            node_id=provider.node_id,
            alias=provider.alias,
            slug=provider.offer.slug,
            health=provider.offer.health,
            load=provider.offer.load / 1000,
            labels=provider.offer.labels,
            trust=provider.trust,
            last_seen=provider.last_seen,
            is_self=provider.is_self,
            relayed=route == "p2p" and provider.node_id in self.relayed,
            measured=reach.measured if reach else None,
            in_flight=reach.in_flight if reach else 0,
            weight=self._settings.weights.get(provider.node_id, 1.0),
            breaker=reach.breaker if reach else CLOSED,
        )

    def destination(self, place: Destination, slug: str, route: str) -> Candidate:
        """Return a route's own host: it claims nothing, so all we know is what we measured."""
        reach = self.reaches.of(place.id, slug, route)
        return Candidate(
            node_id=place.id, alias=place.name, slug=slug, health="unknown", trust="configured",
            measured=reach.measured, in_flight=reach.in_flight, breaker=reach.breaker,
        )  # fmt: skip

    def decide(
        self, slug: str, providers: Sequence[Provider], route: Route, wish: Wish, tried: Mapping[str, str], *, settled: bool
    ) -> Decision:
        """Return who is taken now over `route`: one of `providers`, or a host of the route's own.

        `settled`: what was found last is left only for a clear gain.
        """
        return self._decide(wish.strategy or self.strategy, slug, providers, route, wish.where, tried, settled=settled)

    def preview(self, slug: str, route: Route) -> Decision:
        """Return who would be taken now, without disturbing whose turn it is."""
        return self._decide(copy.deepcopy(self.strategy), slug, self.offered.some(slug, {}), route, {}, {}, settled=True)

    def _decide(
        self,
        strategy: Strategy,
        slug: str,
        providers: Sequence[Provider],
        route: Route,
        where: Mapping[str, str],
        tried: Mapping[str, str],
        *,
        settled: bool,
    ) -> Decision:
        own = route.destinations(slug)
        if own is not None:
            candidates = [self.destination(each, slug, route.name) for each in own]
            where = {}  # nobody has said which labels they have; the trial asks the service itself
        else:
            candidates = [self.candidate(each, route.name) for each in providers if each.is_self == (route.name == "local")]
        incumbent = self._standing.get((slug, route.name)) if settled else None
        at = self._clock.monotonic()
        return choose(candidates, strategy, at, where=where, tried=tried, incumbent=incumbent, ailing=self.pulse.ailing())

    def ways(self, slugs: Sequence[str], offered: Mapping[str, Sequence[Provider]], wish: Wish) -> list[Way]:
        """Return the ways that a search for `wish` tries, in order. Raises `UsageError` for a route that cannot be meant."""
        return ways(
            [(self.offered.entry_of(slug, offered[slug]), offered[slug]) for slug in slugs],
            self.routes,
            self._settings.cascade,
            service=wish.service,
            via=wish.via,
            any_node=isinstance(wish.target, lookup.Auto),
            permits=self._permits,
        )

    def _permits(self, place: str, slug: str, route: str) -> bool:
        reach = self.reaches.peek(place, slug, route)
        return reach is None or reach.breaker.permits(self._clock.monotonic())

    def local(self, wish: Wish) -> tuple[str, int] | None:
        """Return slug and port of a service of this machine that fulfils `wish`, None when there is none."""
        route = self.routes.get("local")
        if not isinstance(route, LocalRoute):
            return None
        for slug in self.offered.slugs(wish.service):
            port = route.port(slug, wish.where)
            if port is not None:
                return slug, port
        return None

    async def find(self, wish: Wish, tried: Mapping[str, str] | None = None) -> Found:
        """Return a provider that works. `tried` maps node ids that are out of the question to why.

        Raises `UnknownService`, `AmbiguousNode`, `UsageError`, and `NoProvider` with what every one of them failed of.
        """
        failed = dict(tried or {})
        slugs = self.offered.slugs(wish.service)
        offered = {slug: self.offered.some(slug, wish.where) for slug in slugs}
        everyone = [each for slug in slugs for each in offered[slug]]
        if not isinstance(wish.target, lookup.Auto):
            named = [each for slug in slugs for each in self.offered.providers(slug)]
            one = lookup.find(wish.target, named, self.offered.nodes(), wish.service)
            slugs = (one.offer.slug,)
            offered = {one.offer.slug: [one]}
            everyone = [one]
        fitting = any(labels_match(each.offer.labels, wish.where) for each in everyone)
        order = [way for way in self.ways(slugs, offered, wish) if fitting or way.own is not None]
        if not order:
            raise lookup.why_nobody(wish.service, slugs, everyone, self.offered.nodes(), wish.where)
        names = {each.node_id: each.alias for each in everyone}
        asked = False
        for way in ranked(order, self._permits):
            said = failed
            if way.own is None and not asked:
                await self.look_at_peers()
                asked = True
            elif way.own is not None:  # one host under several slugs is several attempts
                said = dict(tried or {})
                names |= {each.id: way.route.name for each in way.own}
            found = await self._first_that_works(way.entry, way.route, way.providers, wish, said)
            if found is not None:
                return found
            failed |= said
        if not failed:
            raise lookup.why_nobody(wish.service, slugs, everyone, self.offered.nodes(), wish.where)
        reasons = "; ".join(f"{names.get(node, node)}: {why}" for node, why in list(failed.items())[: lookup.SHOWN])
        raise NoProvider(
            f"{len(failed)} offer {wish.service}, none can be used now"
            if len(failed) > 1
            else f"{wish.service} cannot be used",
            f"{reasons} (`dragon explain {wish.service}` tells more)",
        )

    async def works(self, found: Found, *, within: float | None = None) -> str | None:
        """Test a provider again; return None when it works, else why not. Counted for its breaker.

        `within`: seconds for its answer, where that is less than the settings give a test.
        """
        return await self._attempts.attempt(found.entry, found.route, found.node_id, {}, within=within)

    async def look_at_peers(self) -> frozenset[str]:
        """Ask Kubo who is connected; remember who is reachable only through a relay. Returns all connected node ids."""
        peers = await self._kubo.peers()
        direct = {peer.node_id for peer in peers if not peer.relayed}
        connected = {peer.node_id for peer in peers}
        self.relayed = frozenset(connected - direct)
        return frozenset(connected)

    async def _first_that_works(
        self,
        entry: CatalogueEntry,
        route: Route,
        providers: Sequence[Provider],
        wish: Wish,
        failed: dict[str, str],
    ) -> Found | None:
        """Race the candidates, each with a head start of `HEDGE`; adds those who failed to `failed`."""
        running: dict[asyncio.Task[str | None], tuple[Candidate, str]] = {}
        try:
            while True:
                busy = {candidate.node_id: "being tried" for candidate, _ in running.values()}
                decision = self.decide(entry.slug, providers, route, wish, {**failed, **busy}, settled=True)
                taken = decision.provider
                if taken is not None:
                    forced = wish.via is not None
                    trial = asyncio.create_task(self._attempts.attempt(entry, route, taken.node_id, wish.where, forced=forced))
                    running[trial] = (taken, decision.because)
                elif not running:
                    for each in decision.others:
                        if not each.candidate.is_self:
                            failed.setdefault(each.candidate.node_id, each.because)
                    return None
                for trial in await self._some_done(running, hedge=taken is not None):
                    candidate, because = running.pop(trial)
                    why = trial.result()
                    if why is None:
                        self._standing[entry.slug, route.name] = candidate.node_id
                        return self._found(entry, route, candidate, because)
                    failed[candidate.node_id] = why
                    log.info("%s of %s does not work: %s", entry.slug, candidate.name, why)
        finally:
            for trial in running:
                trial.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _some_done(
        self, running: Mapping[asyncio.Task[str | None], object], *, hedge: bool
    ) -> list[asyncio.Task[str | None]]:
        """Wait until a trial is done, or until it is time to try somebody else beside them."""
        if not hedge:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            return list(done)
        timer = asyncio.create_task(self._clock.sleep(HEDGE))
        try:
            await asyncio.wait([*running, timer], return_when=asyncio.FIRST_COMPLETED)
        finally:
            timer.cancel()
        return [trial for trial in running if trial.done()]

    def _found(self, entry: CatalogueEntry, route: Route, candidate: Candidate, because: str) -> Found:
        reach = self.reaches.of(candidate.node_id, entry.slug, route.name)
        return Found(candidate.node_id, candidate.alias, entry.slug, entry, route, reach, because)

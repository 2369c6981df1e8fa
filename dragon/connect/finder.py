"""From a wish to a provider that was seen to work: choose, open the way, test the service through it; next on failure.

A provider that is silent does not hold up the rest: after `HEDGE` seconds the next one is tried beside it (as RFC 8305 does
with addresses), and the first whose service passes the catalogue's test is taken.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dragon.connect import lookup
from dragon.connect.breaker import CLOSED
from dragon.connect.choice import Candidate, Decision, Strategy, choose
from dragon.connect.pulse import Pulse
from dragon.connect.reach import Reach, Reaches
from dragon.connect.routes import Destination, LocalRoute, Route, RouteName
from dragon.connect.trial import Trial
from dragon.connect.ways import Way, ranked, ways
from dragon.errors import DragonError, KuboError, NoProvider, PeerUnreachable, SshRefused, UnknownService
from dragon.probe import CatalogueEntry
from registry_schema.labels import labels_match

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import ConnectSettings
    from dragon.kubo import Kubo
    from dragon.probe import Catalogue
    from dragon.registry.entry import NodeView, Provider
    from dragon.registry.view import View

log = logging.getLogger(__name__)

HEDGE = 1.0
"""Seconds until the next provider is tried beside a silent one: ten times what a healthy test takes across a continent."""

INTRODUCTION = 2.0
"""Seconds to tell a provider who we are; beyond it the second attempt is made all the same."""

Introduce = Callable[[str], Awaitable[object]]
"""Tells a node who we are, so that its gate knows us; may raise any `DragonError`."""

CROWD = 64
"""Providers looked at for one choice: two drawn at random would do (power of two choices), the rest is for retries."""

PROVEN_FOR = 30.0
"""Seconds for which an answer counts as proof, so that nobody need test again: a provider's beat."""

ANY_STATUS = tuple(range(100, 600))
"""For HTTP services that no catalogue entry describes: any answer shows that a server is there."""


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
    """Knows who offers what (view), what was measured (reaches), and how to get there (routes)."""

    def __init__(
        self,
        node_id: str,
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
        self.node_id = node_id
        self.catalogue = catalogue
        self.strategy = strategy
        self.reaches = Reaches()
        self.pulse = Pulse(clock, kubo)
        self.routes = routes
        self.relayed: frozenset[str] = frozenset()
        self._view = view
        self._kubo = kubo
        self._clock = clock
        self._settings = settings
        self._trial = trial
        self._rng = rng
        self._introduce = introduce
        self._standing: dict[tuple[str, str], str] = {}
        """(slug, route) → the node id found last: left only for a clear gain."""

    def slugs(self, service: str) -> tuple[str, ...]:
        """Return the slugs that `service` may mean, best first; `UnknownService` when nobody knows it."""
        return lookup.slugs_of(service, self.catalogue, self._view.slugs(self._clock.monotonic()))

    def providers(self, slug: str) -> Sequence[Provider]:
        return self._view.providers(slug, at=self._clock.monotonic())

    def standing(self, node_id: str, slug: str) -> str | None:
        """Return why the node does not offer `slug` at this moment, None when it does."""
        node = self._view.node(node_id, self._clock.monotonic())
        if node is None:
            return "forgotten"
        if node.state != "live":
            return node.state
        if not node.usable:
            return "signs nothing"
        return None if any(offer.slug == slug for offer in node.manifest.offers) else f"offers {slug} no more"

    def is_unsigned(self, node_id: str) -> bool:
        """Tell whether what is known of the node was signed by nobody."""
        node = self._view.node(node_id, self._clock.monotonic())
        return node is not None and node.trust == "ipns"

    def _some(self, slug: str, where: Mapping[str, str]) -> list[Provider]:
        """Return the providers to choose from: all, or of a crowd a random part, so that a choice costs the same anywhere.

        Whoever signs comes into that part first: a crowd that signs nothing takes nobody's place.
        """
        everyone = self.providers(slug)
        if len(everyone) <= CROWD:
            return list(everyone)
        at = self._clock.monotonic()
        signed = self._view.providers(slug, where=where, at=at, signed_only=True)
        if len(signed) > CROWD:
            return self._rng.sample(signed, CROWD)
        fitting = self._view.providers(slug, where=where, at=at)
        if len(fitting) <= CROWD:
            return list(fitting)
        unsigned = [each for each in fitting if each.trust != "signed"]
        return [*signed, *self._rng.sample(unsigned, CROWD - len(signed))]

    def entry(self, slug: str, offer_port: int, offer_scheme: str) -> CatalogueEntry:
        """Return the catalogue's entry, or what can be said of a service that only its provider knows."""
        try:
            entry = self.catalogue.get(slug)
        except UnknownService:
            entry = None
        if entry is not None and entry.slug == slug:
            return entry
        is_http = offer_scheme in ("http", "https", "ws", "wss")
        bare = CatalogueEntry(slug=slug, port=offer_port, label=slug)
        return replace(
            bare, scheme=offer_scheme, test="/" if is_http else None, accept=ANY_STATUS if is_http else ()  # type: ignore[arg-type]
        )  # fmt: skip

    def pick(self, wish: Wish, like: Found, tried: Mapping[str, str]) -> Found | None:
        """Return who would serve one more connection of a forward that `like` serves too, without testing; None: nobody."""
        providers = self._some(like.slug, wish.where)
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
        return self._decide(copy.deepcopy(self.strategy), slug, self._some(slug, {}), route, {}, {}, settled=True)

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
            [(self._entry_of(slug, offered[slug]), offered[slug]) for slug in slugs],
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
        for slug in self.slugs(wish.service):
            port = route.port(slug, wish.where)
            if port is not None:
                return slug, port
        return None

    async def find(self, wish: Wish, tried: Mapping[str, str] | None = None) -> Found:
        """Return a provider that works. `tried` maps node ids that are out of the question to why.

        Raises `UnknownService`, `AmbiguousNode`, `UsageError`, and `NoProvider` with what every one of them failed of.
        """
        failed = dict(tried or {})
        slugs = self.slugs(wish.service)
        offered = {slug: self._some(slug, wish.where) for slug in slugs}
        everyone = [each for slug in slugs for each in offered[slug]]
        if not isinstance(wish.target, lookup.Auto):
            named = [each for slug in slugs for each in self.providers(slug)]
            one = lookup.find(wish.target, named, self._nodes(), wish.service)
            slugs = (one.offer.slug,)
            offered = {one.offer.slug: [one]}
            everyone = [one]
        fitting = any(labels_match(each.offer.labels, wish.where) for each in everyone)
        order = [way for way in self.ways(slugs, offered, wish) if fitting or way.own is not None]
        if not order:
            raise lookup.why_nobody(wish.service, slugs, everyone, self._nodes(), wish.where)
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
            raise lookup.why_nobody(wish.service, slugs, everyone, self._nodes(), wish.where)
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
        return await self._try(found.entry, found.route, found.node_id, {}, within=within)

    async def look_at_peers(self) -> frozenset[str]:
        """Ask Kubo who is connected; remember who is reachable only through a relay. Returns all connected node ids."""
        peers = await self._kubo.peers()
        direct = {peer.node_id for peer in peers if not peer.relayed}
        connected = {peer.node_id for peer in peers}
        self.relayed = frozenset(connected - direct)
        return frozenset(connected)

    def _nodes(self) -> Sequence[NodeView]:
        return [node for node in self._view.nodes(self._clock.monotonic()) if not node.is_self or node.manifest.offers]

    def _entry_of(self, slug: str, providers: Sequence[Provider]) -> CatalogueEntry:
        offer = providers[0].offer if providers else None
        return self.entry(slug, offer.port if offer else 1, offer.scheme if offer else "tcp")

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
                    trial = asyncio.create_task(self._try(entry, route, taken.node_id, wish.where, forced=forced))
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

    async def _try(
        self,
        entry: CatalogueEntry,
        route: Route,
        node_id: str,
        where: Mapping[str, str],
        *,
        forced: bool = False,
        within: float | None = None,
    ) -> str | None:
        """Open the way and test the service; None when it works, else why not. Raises `SshRefused` where `forced`."""
        with self.pulse.beside():
            return await self._test(entry, route, node_id, where, forced=forced, within=within)

    async def _test(
        self,
        entry: CatalogueEntry,
        route: Route,
        node_id: str,
        where: Mapping[str, str],
        *,
        forced: bool,
        within: float | None,
    ) -> str | None:
        reach = self.reaches.of(node_id, entry.slug, route.name)
        began = self._clock.monotonic()
        reach.attempt(began)
        try:
            port = await route.open(node_id, entry.slug)
            own = route.destinations(entry.slug) is not None
            answer = await self._trial.run(entry, port, where, unclaimed=own, within=within)
            if (
                answer.cut_short and not own
            ):  # once more: Kubo cuts one in thousands, and a gate refuses whom its node has not heard of yet
                await self._introduce_to(node_id)
                answer = await self._trial.run(entry, port, where, within=within)
                if answer.cut_short and route.name == "p2p":
                    answer = replace(answer, why=f"{answer.why} ({await self._why_cut(node_id)})")
        except (PeerUnreachable, SshRefused) as error:
            why = await self._blame(reach, route, str(error))
            if forced and isinstance(error, SshRefused):
                raise
            return why
        except asyncio.CancelledError:
            if self.pulse.ailing() is None:
                reach.slow(self._clock.monotonic() - began, self._clock.monotonic())
            raise
        if answer.why is None:
            reach.succeed(answer.rtt if self.pulse.ailing() is None else None, self._clock.monotonic())
            return None
        return answer.why if answer.unfit else await self._blame(reach, route, answer.why)

    async def _blame(self, reach: Reach, route: Route, why: str) -> str:
        """Hold a failure against the provider unless we have reason to doubt ourselves; return what is to be said of it."""
        if route.name == "p2p":
            await self.pulse.ask_engine()
        ours = self.pulse.ailing()
        if ours is None:
            reach.fail(self._clock.monotonic(), why)
            return why
        reach.excuse(why)
        return f"{why} (not held against it: {ours})"

    async def _why_cut(self, node_id: str) -> str:
        """Return what ends every connection to a node before an answer: a tunnel tells no more."""
        try:
            connected = await self.look_at_peers()
        except KuboError:
            return "our own Kubo does not answer"
        return "it does not admit us, or its service is down" if node_id in connected else "its node cannot be reached"

    async def _introduce_to(self, node_id: str) -> None:
        if self._introduce is not None:
            with suppress(DragonError, TimeoutError):
                async with asyncio.timeout(INTRODUCTION):
                    await self._introduce(node_id)

    def _found(self, entry: CatalogueEntry, route: Route, candidate: Candidate, because: str) -> Found:
        reach = self.reaches.of(candidate.node_id, entry.slug, route.name)
        return Found(candidate.node_id, candidate.alias, entry.slug, entry, route, reach, because)

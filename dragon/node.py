"""The composition root: builds the parts, hands each what it needs, starts and stops them in order.

Read `running` from top to bottom for the whole program; every name leads to the room that answers the question.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import resource
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from dragon import __version__
from dragon.api import serve_api
from dragon.astroport.holding import held
from dragon.astroport.identity import on_station, station_of
from dragon.astroport.people import station_people
from dragon.astroport.publication import PACE
from dragon.astroport.remote import remote_variables
from dragon.astroport.station import Station
from dragon.astroport.station_findings import station_findings
from dragon.astroport.zen import Zen, zen_home
from dragon.backend import NodeBackend
from dragon.capacity import capacity, machine_load
from dragon.clock import Clock, SystemClock
from dragon.config import CatalogueSettings, Settings, reload_settings
from dragon.config.changes import changed_keys
from dragon.connect import Forwards, KuboOwner, Serving
from dragon.connect.offering import Offering
from dragon.connect.routes import Route, RouteName
from dragon.connect.ssh import ssh_routes
from dragon.constellation.health import findings as sync_findings
from dragon.constellation.lists import QUESTION as AUTHORS
from dragon.constellation.node_side import SLUG as RELAY
from dragon.constellation.node_side import Constellation
from dragon.constellation.places import Places
from dragon.constellation.schedule import Schedule
from dragon.doctor import Doctor
from dragon.errors import ConfigError
from dragon.home import Home
from dragon.kubo import Tunnels
from dragon.kubo.checks import Finding
from dragon.kubo.engine import Engine, existing_repo, is_managed, open_kubo
from dragon.kubo.progress import shown
from dragon.probe import Prober, Survey, catalogue_of
from dragon.registry.naming import Files
from dragon.registry.policy import Policy
from dragon.registry.publisher import Description
from dragon.registry.service import Registry
from dragon.registry.verdict import Change
from dragon.registry.view import View
from dragon.store import Store

log = logging.getLogger(__name__)

MEMBERSHIP = frozenset({"joined", "silent", "left", "gone", "skewed"})
"""Changes of the view after which the gate looks again at who is connected."""


async def serve(settings: Settings, home: Home, *, on_ready: Callable[[str], None], stop: asyncio.Event) -> None:
    """Run one node until `stop` is set; call `on_ready` with its node id once it has published.

    Raises the `LocalError` that keeps it from running.
    """
    home.prepare()
    _allow_many_connections()
    with home.held():
        async with running(settings, home) as node:
            await node.registry.ready()
            on_ready(node.node_id)
            await stop.wait()
            await node.registry.leave()


def _allow_many_connections() -> None:
    """Raise our limit of open files to what the system allows: each relayed connection takes two sockets and a pipe."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@asynccontextmanager
async def running(settings: Settings, home: Home, clock: Clock | None = None) -> AsyncIterator[Node]:
    """Build a node, start its tasks, and stop everything in the opposite order."""
    clock, rng = clock or SystemClock(), random.Random()  # noqa: S311 - spreads load; nothing secret depends on it
    async with AsyncExitStack() as stack:
        settings = await asyncio.to_thread(on_station, settings, os.environ)
        zen = station_of(settings, os.environ)
        lock_problem = stack.enter_context(held(zen, home)) if zen else ""
        store = await stack.enter_async_context(Store.open(home, clock=clock))
        with shown() as progress:  # a first start may download or build Kubo
            engine = await stack.enter_async_context(open_kubo(settings, home, clock=clock, progress=progress))
        node = Node(settings, home, engine, store, clock, rng, lock_problem)
        if node.station is not None:
            await node.station.prepare()
            stack.push_async_callback(node.station.upkeep.leave)
        stack.push_async_callback(node.tunnels.close)
        stack.push_async_callback(node.serving.close)
        stack.push_async_callback(node.forwards.close)
        await stack.enter_async_context(_doing(node.tunnels.run, node.registry.run, node.forwards.run, node.probe))
        await stack.enter_async_context(serve_api(node.backend, home, settings.api))
        await stack.enter_async_context(_doing(node.schedule.run))  # its children ask the API
        if node.station is not None:
            await stack.enter_async_context(_doing(node.station.run))
        yield node


@asynccontextmanager
async def _doing(*works: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Do all `works` while the block runs; the first that fails ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work()) for work in works]
        yield
        for task in tasks:
            task.cancel()


class Node:
    """The parts of one node, and what flows between them."""

    def __init__(
        self, settings: Settings, home: Home, engine: Engine, store: Store, clock: Clock, rng: random.Random, lock_problem: str
    ) -> None:
        self._settings, self._home, self._engine, self._clock = settings, home, engine, clock
        self._lock_problem = lock_problem
        zen = station_of(settings, os.environ)
        self.node_id = engine.identity.node_id
        self._catalogue = catalogue_of(settings.catalogue)
        self._survey = Survey()

        self.tunnels = Tunnels(engine.kubo, home.tunnels_journal, clock, forbidden=lambda: engine.own_ports)
        self.view = View(self.node_id, settings.node.swarm, policy_of(settings), store.marks(settings.node.swarm), rng)
        is_kubo = KuboOwner(lambda: engine.kubo.address.port, lambda: engine.kubo.address.socket)
        self.serving = Serving(
            self.node_id, self.tunnels, self._catalogue, self._is_member, clock, settings.gate, is_kubo=is_kubo,
            forbidden=lambda: engine.own_ports, adopts=zen is not None,
        )  # fmt: skip
        self.offering = Offering(self.serving, store)
        self.forwards = Forwards(
            self.node_id, self.view, self.tunnels, engine.kubo, self._catalogue, clock, settings.connect, rng,
            local_survey=lambda: self._survey, routes=self._ssh_routes(), introduce=self._introduce, store=store,
        )  # fmt: skip
        self.registry = Registry(
            engine.kubo, self.tunnels, self.view, store, settings.registry, clock, self.describe,
            join=settings.node.join, ipns=publishes_name(settings), extra_files=self._balise_files, pace=PACE if zen else None,
            may_publish_name=self._may_publish, is_kubo=is_kubo, rng=rng,
        )  # fmt: skip
        self.station = self._station(zen, rng) if zen else None
        self.prober = Prober(self._catalogue, clock=clock, excluded_ports=self._own_ports, own_pids=self._own_pids)
        places = Places(home.root, zen.root if zen else None)
        self.constellation = Constellation(
            self.node_id, settings.constellation, places, self.view, self.registry.exchange.ask, clock,
            people=(lambda: station_people(zen, self.node_id)) if zen else None, relay_port=self._relay_port,
        )  # fmt: skip
        self.registry.exchange.answer(AUTHORS, self.constellation.gathering.answer)
        flags = settings.flags("constellation")
        self.schedule = Schedule(settings.constellation, self.constellation, places, clock, rng, flags)
        doctor = Doctor(
            home, engine=engine, prober=self.prober, serving=self.serving, view=self.view, registry=self.registry, store=store,
            catalogue=lambda: self._catalogue, clock=clock, further=[lambda: asyncio.to_thread(
                sync_findings, places, enabled=settings.constellation.enabled, every=settings.constellation.every
            ), self._station_findings],
        )  # fmt: skip
        self.backend = NodeBackend(
            node_id=self.node_id, settings=settings, engine=engine, view=self.view, registry=self.registry,
            serving=self.serving, offering=self.offering, forwards=self.forwards, catalogue=lambda: self._catalogue,
            reload=self.reload, renew=self.renew, refresh=self.refresh, doctor=doctor, constellation=self.constellation,
            clock=clock,
        )  # fmt: skip
        self.serving.on_change(self.registry.announce)
        self.view.subscribe(self._membership)

    def describe(self) -> Description:
        """Return what this node says of itself now."""
        return Description(
            alias=self._settings.node.alias,
            version=__version__,
            offers=self.serving.offers(),
            labels=self._settings.node.labels,
            capacity=capacity(),
            load=max(machine_load(), self.serving.load()),
            station=self.station.fields() if self.station else {},
        )

    async def probe(self) -> None:
        """Let the listeners follow what runs on this machine, for ever."""
        await self.offering.recall()
        async with contextlib.aclosing(self.prober.watch()) as surveys:
            async for survey in surveys:
                self._survey = survey
                self.serving.update(survey)

    async def reload(self) -> list[str]:
        """Read the settings again and apply those of the catalogue; return all keys that changed. Raises `ConfigError`."""
        before = self._settings
        settings = await asyncio.to_thread(lambda: on_station(reload_settings(self._home, before), os.environ))
        if self.station is not None:
            self.station.reload()
        changed = changed_keys(self._settings, settings)
        self._use(settings.catalogue)
        return changed

    async def renew(self) -> None:
        """Apply what settings and station say of services now. Where config.toml cannot be read, that is said and all stays as
        it was, except that what the station calls private is hidden all the same."""
        try:
            await self.reload()
        except ConfigError as error:
            log.warning("the services' settings stay as they were: %s (%s)", error, error.hint)
            if self.station is not None:
                self.station.reload()
                stands = self._settings.catalogue
                hidden = dict.fromkeys((*stands.also_private, *sorted(self.station.upkeep.facts.private)))
                self._use(stands.model_copy(update={"also_private": tuple(hidden)}))

    def _use(self, settings: CatalogueSettings) -> None:
        if settings == self._settings.catalogue:
            return
        catalogue = catalogue_of(settings)
        self._settings = self._settings.model_copy(update={"catalogue": settings})
        self._catalogue = catalogue
        self.serving.replace_catalogue(catalogue)
        self.forwards.replace_catalogue(catalogue)
        self.prober.replace_catalogue(catalogue)

    def _station(self, zen: Zen, rng: random.Random) -> Station:
        return Station(
            zen, self.node_id, self._home, self._settings, os.environ, kubo=self._engine.kubo,
            owns_daemon=self._engine.managed is not None, view=self.view, serving=self.serving, registry=self.registry,
            catalogue=lambda: self._catalogue, renew=self.renew, clock=self._clock, rng=rng,
        )  # fmt: skip

    async def refresh(self) -> None:
        """Ask around now: peers for what they know, and on a station those that sign nothing. Raises what Kubo raises."""
        asked = [self.registry.refresh(), *([self.station.refresh()] if self.station else [])]
        await asyncio.gather(*asked)

    async def _balise_files(self) -> Files:
        return await self.station.balise() if self.station else {}

    async def _may_publish(self) -> str:
        return await self.station.may_publish() if self.station else ""

    async def _station_findings(self) -> list[Finding]:
        if self.station is None:
            return []
        repo = None if self._engine.managed else existing_repo(self._settings)
        return await station_findings(self.station, self.serving, self._engine.kubo, repo, self._lock_problem)

    def _ssh_routes(self) -> dict[RouteName, Route]:
        """Return the routes to a host that the settings or the station's variables name; none elsewhere."""
        return ssh_routes(
            self._settings.ssh, remote_variables(os.environ, zen_home(os.environ)),
            port_of=lambda slug: self._catalogue.get(slug).port if slug in self._catalogue else None,
            own_file=self._home.known_hosts, clock=self._clock, dial_timeout=self._settings.connect.dial_timeout,
        )  # fmt: skip

    async def _introduce(self, node_id: str) -> None:
        await self.registry.introduce(node_id)

    def _is_member(self, node_id: str) -> bool:
        return self.view.is_member(node_id, self._clock.monotonic())

    def _membership(self, change: Change) -> None:
        if change.kind in MEMBERSHIP:
            self.serving.recheck()

    def _relay_port(self) -> int | None:
        """Return where our own relay answers, offered or private; None where none runs."""
        return next((finding.port for finding in self._survey.found if finding.slug == RELAY), None)

    def _own_ports(self) -> frozenset[int]:
        """Ports that are never a service of this machine: tunnels, Kubo's, and our own."""
        forwards = {forward.port for forward in self.forwards.list()}
        return self.tunnels.foreign_ports() | self.serving.ports() | self._engine.own_ports | forwards

    def _own_pids(self) -> frozenset[int]:
        daemon = self._engine.managed.pid if self._engine.managed else None
        return frozenset({os.getpid()} if daemon is None else {os.getpid(), daemon})


def policy_of(settings: Settings) -> Policy:
    """Return the view's rules as the settings ask for them."""
    registry = settings.registry
    return Policy(
        heartbeat=registry.heartbeat,
        lease_cap=registry.lease,
        keep=registry.keep_hours * 3600,
        admit=frozenset(settings.swarm.admit) or None,
    )


def publishes_name(settings: Settings) -> bool:
    """Tell whether the node's IPNS name is ours: on a managed daemon, and elsewhere only when told (DESIGN §5)."""
    publisher = settings.registry.publisher
    return publisher == "dragon" or (publisher == "auto" and is_managed(settings))

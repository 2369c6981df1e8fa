"""Our side of the swarm: which listeners stand, what they lead to, and who may come in.

survey ──► desired (slug → port, access) ──► gates and listeners ──► offers (only what is confirmed up)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon.connect.caller import IsKubo
from dragon.connect.gate import Book, Gate, Limits
from dragon.connect.targets import allowed_target
from dragon.connect.visitors import GateInfo, gate_info
from dragon.errors import LocalError, UnknownService
from dragon.kubo.plan import Listener
from registry_schema.manifest import Offer, make_offer, protocol_name

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import GateSettings
    from dragon.kubo.tunnels import Tunnels
    from dragon.probe import Catalogue, CatalogueEntry, Finding, Survey

log = logging.getLogger(__name__)

PAUSED = "the offers of this node are withdrawn; `dragon astroport start` makes them again"
"""Why nothing is offered while `Serving.pause` counts."""

LOAD_STEP = 50
"""Thousandths in which load is said: finer steps would make every connection a change."""


def offer_of(entry: CatalogueEntry, finding: Finding, node_id: str, *, load: int | None = None) -> Offer:
    """Return what is said in the manifest of a service that was found; `load` in thousandths, else what it said itself."""
    return make_offer(
        finding.slug,
        node_id,
        entry.port,
        scheme=entry.scheme,
        labels={**entry.labels, **finding.labels},
        health=finding.health,
        load=finding.load if load is None else load,
        sticky=entry.sticky,
    )


@dataclass(slots=True)
class _Service:
    """One service that is offered, or about to be. `gate` is None when it is public."""

    entry: CatalogueEntry
    finding: Finding
    gate: Gate | None


class Serving:
    """Follows the surveys. `is_member` tells whether a node id is live in the view; `forbidden` gives the ports that are
    never led to (Kubo's, our own); `is_kubo` tells whether a connection to a gate comes from our Kubo. `adopts`: a listener
    that another program opened straight to a service is offered as it is, without our gate."""

    def __init__(
        self,
        node_id: str,
        tunnels: Tunnels,
        catalogue: Catalogue,
        is_member: Callable[[str], bool],
        clock: Clock,
        settings: GateSettings,
        *,
        is_kubo: IsKubo,
        forbidden: Callable[[], frozenset[int]] = frozenset,
        adopts: bool = False,
    ) -> None:
        self._node_id = node_id
        self._tunnels = tunnels
        self._catalogue = catalogue
        self._is_member = is_member
        self._clock = clock
        self._limits = Limits(per_caller=settings.connections_per_caller, total=settings.connections)
        self._is_kubo = is_kubo
        self._forbidden = forbidden
        self._adopts = adopts
        self._services: dict[str, _Service] = {}
        self._refused: dict[str, str] = {}
        self._survey: Survey | None = None
        self._paused = False
        self._callbacks: list[Callable[[], None]] = []
        self._closing: set[asyncio.Task[None]] = set()
        self._said: tuple[Offer, ...] = ()
        self.book = Book()
        tunnels.on_change(self._tell)

    # -- what is asked ------------------------------------------------------------------------------------------------

    def offers(self) -> tuple[Offer, ...]:
        """Return what may be said in the manifest, ascending by slug: only services whose listener is confirmed up."""
        return tuple(
            self._offer(slug, service)
            for slug, service in sorted(self._services.items())
            if self._tunnels.is_up(protocol_name(slug, self._node_id))
        )

    def problems(self) -> dict[str, str]:
        """Return slug → why a service that runs here is not offered."""
        waiting = {slug: self._tunnels.problem(protocol_name(slug, self._node_id)) for slug in self._services}
        return {**{slug: why for slug, why in waiting.items() if why}, **self._refused}

    def ungated(self) -> tuple[str, ...]:
        """Return the slugs that another program's listener serves, so that whoever dials it gets in, whatever their access."""
        gated = (slug for slug, service in sorted(self._services.items()) if service.gate)
        return tuple(slug for slug in gated if self._tunnels.is_adopted(protocol_name(slug, self._node_id)))

    @property
    def paused(self) -> bool:
        """Whether offers are withdrawn, whatever runs here."""
        return self._paused

    def load(self) -> int:
        """Return the node's load in thousandths: the share of its connections that is taken."""
        return min(1000, self.book.open * 1000 // self._limits.total)

    def gate(self) -> GateInfo:
        """Return who uses our services, and how much."""
        return gate_info(self.book, (service.gate for service in self._services.values() if service.gate), self._limits)

    def ports(self) -> frozenset[int]:
        """Return the gates' own ports: sockets of ours, never a service."""
        return frozenset(service.gate.port for service in self._services.values() if service.gate)

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call back when `offers` says something else (load alone does not count)."""
        self._callbacks.append(callback)

    # -- what follows -------------------------------------------------------------------------------------------------

    def update(self, survey: Survey) -> None:
        """Make listeners follow what runs here. A service that is gone or became private is withdrawn at once."""
        self._survey = survey
        forbidden = self._forbidden() | self._tunnels.foreign_ports() | self.ports()
        wanted: dict[str, tuple[CatalogueEntry, Finding]] = {}
        refused: dict[str, str] = {}
        for finding in survey.found:
            try:
                entry = self._catalogue.get(finding.slug)
                if entry.slug != finding.slug or entry.private:
                    continue
                allowed_target(finding.port, forbidden, finding.slug)
            except UnknownService:
                continue
            except LocalError as error:
                refused[finding.slug] = str(error)
                if self._refused.get(finding.slug) != refused[finding.slug]:
                    log.warning("%s", error)
                continue
            wanted[finding.slug] = (entry, finding)
        if self._paused:
            wanted, refused = {}, dict.fromkeys(wanted, PAUSED) | refused
        self._refused = refused
        for slug in [slug for slug in self._services if slug not in wanted]:
            self._withdraw(slug)
        for entry, finding in wanted.values():
            self._serve(entry, finding)
        self._tell()

    def pause(self) -> None:
        """Withdraw every offer, and make none until `resume`; the node stays a member that sees and uses the others'."""
        self._paused = True
        self._follow()

    def resume(self) -> None:
        """Offer again what runs here."""
        self._paused = False
        self._follow()

    def _apply(self) -> None:
        """Let what stands now decide of what the last survey found."""
        if self._survey is not None:
            self.update(self._survey)

    def _follow(self) -> None:
        self._apply()
        for callback in self._callbacks:  # also where no offer changed: whether there may be any is news as well
            callback()

    def replace_catalogue(self, catalogue: Catalogue) -> None:
        """Apply new rules to what runs here, at once: what became private is withdrawn, what is so no longer is offered, and
        changed access is checked again.

        A survey that finds the same as before is not told, so nobody else would offer again what was hidden for a moment.
        """
        self._catalogue = catalogue
        self._apply()
        self.recheck()

    def recheck(self) -> int:
        """End the connections of callers who are not admitted any more (the view changed); return how many."""
        return sum(service.gate.recheck() for service in self._services.values() if service.gate)

    async def close(self) -> None:
        """Withdraw everything and end every connection."""
        for slug in list(self._services):
            self._withdraw(slug)
        await asyncio.gather(*self._closing)

    # -- one service --------------------------------------------------------------------------------------------------

    def _serve(self, entry: CatalogueEntry, finding: Finding) -> None:
        slug, protocol = finding.slug, protocol_name(finding.slug, self._node_id)
        known = self._services.get(slug)
        if known is not None and known.finding.port == finding.port and (known.gate is None) == (entry.access == "public"):
            known.entry, known.finding = entry, finding
            return
        if known is not None:
            self._close_gate(known)
        gate = None
        if entry.access != "public":
            gate = Gate(
                slug, finding.port, lambda caller: self._admits(slug, caller),
                is_kubo=self._is_kubo, limits=self._limits, book=self.book, clock=self._clock,
            )  # fmt: skip
        self._services[slug] = _Service(entry, finding, gate)
        adopts = finding.port if self._adopts else None
        port = gate.port if gate else finding.port
        self._tunnels.listen(Listener(protocol, port, report_peer_id=gate is not None, adopts=adopts))

    def _withdraw(self, slug: str) -> None:
        service = self._services.pop(slug)
        self._tunnels.unlisten(protocol_name(slug, self._node_id))
        self._close_gate(service)

    def _close_gate(self, service: _Service) -> None:
        if service.gate is not None:
            task = asyncio.get_running_loop().create_task(service.gate.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    def _admits(self, slug: str, caller: str) -> bool:
        service = self._services.get(slug)
        if service is None:
            return False
        access = service.entry.access
        if access == "public" or caller == self._node_id:
            return True
        return self._is_member(caller) if access == "members" else caller in access

    def _offer(self, slug: str, service: _Service) -> Offer:
        entry, finding = service.entry, service.finding
        visitors = service.gate.visitors if service.gate else 0
        load = max(finding.load, min(1000, visitors * 1000 // self._limits.per_caller))
        return offer_of(entry, finding, self._node_id, load=load // LOAD_STEP * LOAD_STEP)

    def _tell(self) -> None:
        offers = tuple(offer.model_copy(update={"load": 0}) for offer in self.offers())
        if offers != self._said:
            self._said = offers
            for callback in self._callbacks:
                callback()

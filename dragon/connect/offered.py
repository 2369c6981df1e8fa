"""Who offers what now, as the view and the catalogue know it: what a search begins with."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dragon.connect import lookup
from dragon.errors import UnknownService
from dragon.probe import CatalogueEntry

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.probe import Catalogue
    from dragon.registry.entry import NodeView, Provider
    from dragon.registry.view import View

CROWD = 64
"""Providers looked at for one choice: two drawn at random would do (power of two choices), the rest is for retries."""

ANY_STATUS = tuple(range(100, 600))
"""For HTTP services that no catalogue entry describes: any answer shows that a server is there."""


class Offered:
    """What can be found. `catalogue` is replaced when the settings are read again."""

    def __init__(self, view: View, catalogue: Catalogue, clock: Clock, rng: random.Random) -> None:
        self.catalogue = catalogue
        self._view = view
        self._clock = clock
        self._rng = rng

    def slugs(self, service: str) -> tuple[str, ...]:
        """Return the slugs that `service` may mean, best first; `UnknownService` when nobody knows it."""
        return lookup.slugs_of(service, self.catalogue, self._view.slugs(self._clock.monotonic()))

    def providers(self, slug: str) -> Sequence[Provider]:
        """Return everybody who offers `slug`, ascending by node id, this node last."""
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

    def some(self, slug: str, where: Mapping[str, str]) -> list[Provider]:
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

    def nodes(self) -> Sequence[NodeView]:
        """Return the nodes that a forward may be meant for: all others, and this one where it offers anything."""
        return [node for node in self._view.nodes(self._clock.monotonic()) if not node.is_self or node.manifest.offers]

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

    def entry_of(self, slug: str, providers: Sequence[Provider]) -> CatalogueEntry:
        """Return the entry that `providers` of a slug are used by; they may be none."""
        offer = providers[0].offer if providers else None
        return self.entry(slug, offer.port if offer else 1, offer.scheme if offer else "tcp")

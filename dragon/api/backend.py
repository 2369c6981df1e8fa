"""What the control API asks of a node. `dragon.node` implements it by composing rooms; tests implement it with plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

Document: TypeAlias = dict[str, Any]
"""A JSON object in one of the shapes of DESIGN §8."""


class Backend(Protocol):
    """A running node. Every answer is ready for JSON; every expected failure is a `LocalError` with its hint and exit code."""

    async def status(self) -> Document:
        """Return `{id, alias, swarm, addresses, peers, offers, kubo: {api, version, managed}, dashboard}` and more."""
        ...

    async def peers(self) -> list[Document]:
        """Return one object for each node of the view, self included (`self: true`)."""
        ...

    async def refresh(self) -> None:
        """Ask peers for news now, and return when they have answered or had their time."""
        ...

    async def services(self, slug: str | None) -> list[Document]:
        """Return `{slug, providers: [{n, id, alias, state, trust, health, load, rtt_ms, labels}]}` for `slug` or for all.

        Raises `UnknownService` for a slug that neither the catalogue nor the view knows.
        """
        ...

    async def forward(
        self,
        slug: str,
        *,
        target: str,
        where: Mapping[str, str],
        via: str | None,
        spread: bool,
        port: int | None,
        raw: bool,
        strategy: str | None,
        pool: int | Literal["auto"] | None = None,
    ) -> Document:
        """Open (or find) a forward and return `{slug, provider, route, host, port, url, reused}`.

        `strategy` None: the one of the settings. `pool`: how many providers are kept warm behind the port, None for no pool.

        Raises `UnknownService`, `AmbiguousNode`, `NoProvider`, `PortInUse`.
        """
        ...

    async def forwards(self) -> list[Document]:
        """Return the open forwards: the shape of `forward` and more (connections, since, what was measured)."""
        ...

    async def providers(self, slug: str) -> list[Document]:
        """Return how each provider of `slug` performed: `{slug, n, id, alias, state, route, attempts, failures, latency_ms,
        p50_ms, p95_ms, samples, bytes_per_second, sent, received, in_flight, breaker, last_failure, used}`.

        One object for each route that was tried; `route` is "" for a provider that never was. Raises `UnknownService`.
        """
        ...

    async def off(self, slug: str | None, port: int | None) -> int:
        """Close the forwards of `slug`, or all; with `port` only the one there. Return how many there were."""
        ...

    async def check(self, slug: str, *, port: int | None, via: str | None) -> Document:
        """Test what `slug` leads to now, opening nothing: `{slug, provider, route, host, port, url, ok, detail, rtt_ms}`.

        A forward at `port` is preferred, then any open forward, then the service of this machine, offered or not; with `via`
        `local` only that. Raises `UnknownService`, and `NoProvider` when there is none of them.
        """
        ...

    async def explain(self, slug: str) -> Document:
        """Return `{slug, chosen, because, strategy, cascade, candidates: [{id, alias, verdict, reason, …}]}`."""
        ...

    async def env(self, slug: str) -> Document:
        """Return `{slug, variables: {NAME: value}}` for an open forward or the local service of `slug`.

        Raises `NoProvider` with the hint to forward first.
        """
        ...

    async def constellation(self) -> Document:
        """Return what a NOSTR sync needs: `{swarm, uplanet, station: {zen} | null, authors: {own, total, left_out, nodes: [{id,
        alias, count, error}]}, people: [key], hexes: [key], peers: [{id, alias, trust, relay}], local: {url, tool}}`.

        Asks every member for its list of authors; what does not answer stands there with its error.
        """
        ...

    async def doctor(self) -> list[Document]:
        """Return the findings `{name, ok, detail, fix, fixable}`: `fix` is the exact command, "" where there is none."""
        ...

    async def repair(self, names: Sequence[str]) -> list[Document]:
        """Apply the fixes of the findings called `names`; return all findings afterwards."""
        ...

    async def offering(self, on: bool) -> Document:
        """Withdraw all offers (`on` false), or make them as the settings say now; return `{offering, offers}`.

        A restart keeps what was asked.
        """
        ...

    async def reload(self) -> Document:
        """Read the settings again; return `{changed: [key…], restart: [key…]}`: what counts now, and from the next start on.

        Only the catalogue's parts change in a running node.
        """
        ...

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call `callback` in the event loop whenever peers, services or forwards may read otherwise; return how to stop it."""
        ...

"""What a service's name leads to on this machine now, and whether it answers as it should. Opens nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon import sockdiag
from dragon.connect.lookup import slugs_of
from dragon.connect.ports import HOST
from dragon.connect.request import ForwardInfo, ForwardRequest, url_of
from dragon.errors import KuboError, NoProvider
from dragon.probe import Catalogue, CatalogueEntry, TestResult, ownership, test_service

if TYPE_CHECKING:
    from dragon.connect.forwards import Forwards
    from dragon.kubo import Kubo

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checked:
    """One way to a service with what its test showed. `rtt_ms` in milliseconds."""

    slug: str
    provider: str
    route: str
    host: str
    port: int
    url: str
    ok: bool
    detail: str
    rtt_ms: float


class Checker:
    """`offered` gives the slugs of the view, `timeout` is in seconds for one test."""

    def __init__(
        self,
        node_id: str,
        forwards: Forwards,
        kubo: Kubo,
        catalogue: Callable[[], Catalogue],
        offered: Callable[[], Iterable[str]],
        timeout: float,
    ) -> None:
        self._node_id = node_id
        self._forwards = forwards
        self._kubo = kubo
        self._catalogue = catalogue
        self._offered = offered
        self._timeout = timeout

    async def check(self, service: str, *, port: int | None = None, via: str | None = None) -> Checked:
        """Return the test of the forward at `port`, else of another forward of `service`, else of the service of this machine.

        With `via` `local` only the last. Raises `UnknownService`, and `NoProvider` when there is none of them.
        """
        standing = self._forwards.list()
        slugs = slugs_of(service, self._catalogue(), {*self._offered(), *(each.slug for each in standing)})
        mine = [] if via == "local" else [each for each in standing if each.slug in slugs]
        if mine:
            return await self._forward(min(mine, key=lambda each: (each.port != port, not each.healthy, each.port)))
        return await self._local(service, slugs)

    async def _forward(self, info: ForwardInfo) -> Checked:
        entry = self._entry(info.slug, info.port)
        result = await test_service(entry, HOST, info.port, timeout=self._timeout)
        if result.ok and entry.test is None and entry.scheme != "ssh" and not info.healthy:
            result = TestResult(False, "critical", info.problem)  # our own port takes connections whatever is behind it
        return _checked(info.slug, info.provider, info.route, info.port, info.url, result)

    async def _local(self, service: str, slugs: Sequence[str]) -> Checked:
        try:
            here = await self._forwards.forward(ForwardRequest(slug=service, via="local"))
        except NoProvider as error:
            passed_over = await self._passed_over(slugs)
            if passed_over is None:
                raise NoProvider(f"no connection to {service}: {error}", f"open one: dragon forward {service}") from error
            return passed_over
        result = await test_service(self._entry(here.slug, here.port), HOST, here.port, timeout=self._timeout)
        return _checked(here.slug, here.provider, here.route, here.port, here.url, result)

    async def _passed_over(self, slugs: Sequence[str]) -> Checked | None:
        """Return a service of this machine that the survey does not offer, if it answers as it should and is no tunnel.

        It is private, or runs otherwise than the catalogue's evidence says (a ComfyUI that nobody made a unit of).
        """
        known = [self._catalogue().get(slug) for slug in slugs if slug in self._catalogue()]
        for entry in known:
            if entry.port in self._forwards.ports():
                continue
            result = await test_service(entry, HOST, entry.port, timeout=self._timeout)
            if result.ok and not await self._is_tunnel(entry.port):
                url = url_of(entry.scheme, HOST, entry.port)
                return _checked(entry.slug, self._node_id, "local", entry.port, url, result)
        return None

    async def _is_tunnel(self, port: int) -> bool:
        """Tell whether a port of this machine is the near end of somebody's tunnel, as far as Kubo and the kernel tell us."""
        try:
            if any(entry.leg_port == port for entry in await self._kubo.p2p_ls()):
                return True
        except KuboError as error:  # nothing answers through the tunnels of a Kubo that does not
            log.debug("tunnels are told by the kernel alone: %s", error)
        return await asyncio.to_thread(_held_by_a_tunnel, port)

    def _entry(self, slug: str, port: int) -> CatalogueEntry:
        return self._catalogue().get(slug) if slug in self._catalogue() else CatalogueEntry(slug=slug, port=port, label=slug)


def _held_by_a_tunnel(port: int) -> bool:
    """Tell whether who listens on `port` makes tunnels; False where that cannot be read. Blocks."""
    try:
        owners = ownership.read_owners([each for each in sockdiag.listening() if each.local_port == port], {})
    except OSError:
        return False
    return any(ownership.refusal(each, (), is_specific=True) is not None for each in owners.values())


def _checked(slug: str, provider: str, route: str, port: int, url: str, result: TestResult) -> Checked:
    return Checked(slug, provider, route, HOST, port, url, result.ok, result.detail, round(result.rtt * 1000, 3))

"""One attempt after another: open the way to a provider, test its service through it, and count what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from dragon.connect.pulse import Pulse
from dragon.connect.reach import Reach, Reaches
from dragon.connect.routes import Route
from dragon.connect.trial import Trial
from dragon.errors import DragonError, KuboError, PeerUnreachable, SshRefused
from dragon.probe import CatalogueEntry

if TYPE_CHECKING:
    from dragon.clock import Clock

INTRODUCTION = 2.0
"""Seconds to tell a provider who we are; beyond it the second attempt is made all the same."""

Introduce = Callable[[str], Awaitable[object]]
"""Tells a node who we are, so that its gate knows us; may raise any `DragonError`."""


class Attempts:
    """What fails is held against the provider unless we have reason to doubt ourselves (`pulse`).

    `connected` asks Kubo for the node ids that it is connected with; raises `KuboError`.
    """

    def __init__(
        self,
        clock: Clock,
        pulse: Pulse,
        reaches: Reaches,
        trial: Trial,
        *,
        connected: Callable[[], Awaitable[frozenset[str]]],
        introduce: Introduce | None,
    ) -> None:
        self._clock = clock
        self._pulse = pulse
        self._reaches = reaches
        self._trial = trial
        self._connected = connected
        self._introduce = introduce

    async def attempt(
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
        with self._pulse.beside():
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
        reach = self._reaches.of(node_id, entry.slug, route.name)
        began = self._clock.monotonic()
        reach.attempt(began)
        try:
            port = await route.open(node_id, entry.slug)
            own = route.destinations(entry.slug) is not None
            answer = await self._trial.run(entry, port, where, unclaimed=own, within=within)
            if answer.cut_short and not own:
                # Once more: Kubo cuts one in thousands, and a gate refuses whom its node has not heard of yet.
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
            if self._pulse.ailing() is None:
                reach.slow(self._clock.monotonic() - began, self._clock.monotonic())
            raise
        if answer.why is None:
            reach.succeed(answer.rtt if self._pulse.ailing() is None else None, self._clock.monotonic())
            return None
        return answer.why if answer.unfit else await self._blame(reach, route, answer.why)

    async def _blame(self, reach: Reach, route: Route, why: str) -> str:
        """Hold a failure against the provider unless we have reason to doubt ourselves; return what is to be said of it."""
        if route.name == "p2p":
            await self._pulse.ask_engine()
        ours = self._pulse.ailing()
        if ours is None:
            reach.fail(self._clock.monotonic(), why)
            return why
        reach.excuse(why)
        return f"{why} (not held against it: {ours})"

    async def _why_cut(self, node_id: str) -> str:
        """Return what ends every connection to a node before an answer: a tunnel tells no more."""
        try:
            connected = await self._connected()
        except KuboError:
            return "our own Kubo does not answer"
        return "it does not admit us, or its service is down" if node_id in connected else "its node cannot be reached"

    async def _introduce_to(self, node_id: str) -> None:
        if self._introduce is not None:
            with suppress(DragonError, TimeoutError):
                async with asyncio.timeout(INTRODUCTION):
                    await self._introduce(node_id)

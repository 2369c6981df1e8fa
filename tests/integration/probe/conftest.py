"""What the tests of the prober share: a catalogue on free ports, and waiting for surveys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

from dragon.clock import SystemClock
from dragon.probe import Catalogue, Finding, Prober, Survey, load_catalogue

PATIENT = 60.0
"""Seconds that a condition may take on a machine that is busy with everything else."""


def catalogue(ports: Mapping[str, int], overrides: Mapping[str, Mapping[str, Any]] | None = None, **lists: Any) -> Catalogue:
    """Return the shipped catalogue with these services on these ports, and nothing else offered."""
    tables: dict[str, dict[str, Any]] = {slug: {"port": port} for slug, port in ports.items()}
    for slug, table in (overrides or {}).items():
        tables.setdefault(slug, {}).update(table)
    return load_catalogue(**{"only": list(tables), "private": [], "overrides": tables, **lists})


def prober(found: Catalogue, *, excluded: Callable[[], frozenset[int]] = frozenset, **options: Any) -> Prober:
    return Prober(found, clock=SystemClock(), excluded_ports=excluded, own_pids=frozenset, **options)


class Watched:
    """A running `watch`: waits for a survey that meets a condition."""

    def __init__(self, prober: Prober) -> None:
        self.prober = prober
        self.surveys: list[Survey] = []
        self._came = asyncio.Condition()

    async def run(self) -> None:
        async with aclosing(self.prober.watch()) as surveys:
            async for survey in surveys:
                async with self._came:
                    self.surveys.append(survey)
                    self._came.notify_all()

    async def until(self, condition: Callable[[Survey], bool]) -> Survey:
        """Return the first survey from now on (the last one included) that meets `condition`."""
        async with asyncio.timeout(PATIENT), self._came:
            await self._came.wait_for(lambda: bool(self.surveys) and condition(self.surveys[-1]))
            return self.surveys[-1]

    async def until_found(self, slug: str, health: str = "passing") -> Finding:
        survey = await self.until(lambda survey: any(each.slug == slug and each.health == health for each in survey.found))
        return next(each for each in survey.found if each.slug == slug)

    async def until_gone(self, slug: str) -> Survey:
        return await self.until(lambda survey: all(each.slug != slug for each in survey.found))


@asynccontextmanager
async def watching(prober: Prober) -> AsyncIterator[Watched]:
    watched = Watched(prober)
    task = asyncio.create_task(watched.run())
    try:
        yield watched
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error

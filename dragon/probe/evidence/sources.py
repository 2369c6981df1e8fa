"""Ask every source that some evidence needs, all at once, each within its time; then read the answers per evidence."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import TypeVar

from dragon.probe.entry import Evidence
from dragon.probe.evidence import container, process, systemd
from dragon.probe.evidence.sighting import CannotTell, Sighting

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where facts come from. The defaults are this machine; tests put their own in."""

    processes: Callable[[frozenset[int]], list[process.Process]] = process.running
    units: Callable[[systemd.Scope, list[str], float], Awaitable[dict[str, str]]] = systemd.ask
    engines: Callable[[], tuple[list[container.Engine], list[str]]] = container.here
    containers: Callable[[container.Engine, float], Awaitable[list[container.Container]]] = container.ask


@dataclass(frozen=True, slots=True)
class Gathered:
    sightings: dict[Evidence, Sighting] = field(default_factory=dict)
    limits: list[str] = field(default_factory=list)
    """What could not be asked, for `doctor`."""


async def gather(
    wanted: Collection[Evidence], sources: Sources, *, own_pids: frozenset[int] = frozenset(), timeout: float
) -> Gathered:
    """Return what each evidence of `wanted` shows, asking no source for longer than `timeout` seconds.

    Open ports (`port`, `always`) hold here; the decision looks at sockets.
    """
    named: dict[str, list[str]] = {}
    for each in wanted:
        named.setdefault(each.kind, []).append(each.name)
    processes, units, containers = await asyncio.gather(
        _processes(sources, own_pids) if "process" in named else _nothing([]),
        _units(sources, sorted(named["systemd"]), timeout) if "systemd" in named else _nothing({}),
        _containers(sources, timeout) if {"docker", "dockerimg"} & named.keys() else _nothing(([], [])),
    )
    running, troubles = containers
    limits: list[str] = [str(processes)] if isinstance(processes, CannotTell) else []
    if all(isinstance(answer, CannotTell) for answer in units.values()):  # one manager without the other is nothing odd
        limits += list(dict.fromkeys(f"systemd units are not seen: {answer}" for answer in units.values()))
    limits += [f"containers are not seen: {trouble}" for trouble in troubles]

    def sight(evidence: Evidence) -> Sighting:
        match evidence.kind:
            case "process":
                if isinstance(processes, CannotTell):
                    return Sighting(None, f"cannot tell: {processes}")
                return process.sight(evidence.name, processes)
            case "systemd":
                return systemd.sight(evidence.name, units)
            case "docker" | "dockerimg":
                return container.sight(evidence.name, running, troubles, image_only=evidence.kind == "dockerimg")
            case "port" | "always":
                return Sighting(True, "its port is open" if evidence.kind == "port" else "always looked for")

    return Gathered({each: sight(each) for each in wanted}, limits)


async def _nothing(value: T) -> T:
    return value


async def _processes(sources: Sources, own: frozenset[int]) -> list[process.Process] | CannotTell:
    try:
        return await asyncio.to_thread(sources.processes, own)
    except CannotTell as error:
        return error


async def _units(sources: Sources, units: list[str], timeout: float) -> dict[systemd.Scope, dict[str, str] | CannotTell]:
    answers = await asyncio.gather(*(_told(sources.units(scope, units, timeout)) for scope in systemd.SCOPES))
    return dict(zip(systemd.SCOPES, answers, strict=True))


async def _containers(sources: Sources, timeout: float) -> tuple[list[container.Container], list[str]]:
    found, troubles = await asyncio.to_thread(sources.engines)
    answers = await asyncio.gather(*(_told(sources.containers(engine, timeout)) for engine in found))
    refused = [str(answer) for answer in answers if isinstance(answer, CannotTell)]
    return [each for answer in answers if not isinstance(answer, CannotTell) for each in answer], troubles + refused


async def _told(question: Awaitable[T]) -> T | CannotTell:
    try:
        return await question
    except CannotTell as error:
        return error

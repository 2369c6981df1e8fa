"""Who uses what this node offers, as values to be shown (`dragon status --json`, under `gate`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dragon.connect.gate import Book, Gate, Limits

SHOWN = 64
"""Callers told, the last who came: a status is read by people and by programs that poll."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """One caller since this node started. Bytes are the caller's: sent to our services, received from them."""

    id: str
    open: int
    connections: int
    sent: int
    received: int


@dataclass(frozen=True, slots=True)
class GateInfo:
    """`load` (0 to 1) is what the manifest says for the gates; `refused` maps reasons to how often. Public services have no
    gate: Kubo leads their callers straight on and counts nothing."""

    open: int
    limit: int
    limit_per_caller: int
    load: float
    refused: Mapping[str, int]
    callers: tuple[Visitor, ...]
    """The last who came first."""


def gate_info(book: Book, gates: Iterable[Gate], limits: Limits) -> GateInfo:
    """Return what all gates counted together, the running connections included."""
    running: dict[str, tuple[int, int]] = {}
    for gate in gates:
        for caller, sent, received in gate.running():
            before = running.get(caller, (0, 0))
            running[caller] = (before[0] + sent, before[1] + received)
    last = list(book.callers.items())[: -SHOWN - 1 : -1]
    callers = []
    for caller, tally in last:
        sent, received = running.get(caller, (0, 0))
        callers.append(Visitor(caller, tally.open, tally.connections, tally.sent + sent, tally.received + received))
    load = min(1.0, book.open / limits.total)
    return GateInfo(book.open, limits.total, limits.per_caller, round(load, 3), dict(book.refused), tuple(callers))

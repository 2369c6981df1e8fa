"""The two values of every kind of evidence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sighting:
    """What one evidence showed."""

    holds: bool | None
    """None: its source could not be asked. That withdraws nothing that still answers, and offers nothing new."""
    detail: str
    """For people: `process ollama (pid 812)`, `no process ollama`, `cannot tell: …`."""
    ports: frozenset[int] | None = None
    """The ports that what was seen is known to serve; None where that is not known."""


class CannotTell(Exception):
    """A source of evidence could not be asked; the text says why and what would help."""

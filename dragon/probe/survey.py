"""What a look at this machine found: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dragon.probe.entry import Health


@dataclass(frozen=True, slots=True)
class Finding:
    """A service that runs here and answers."""

    slug: str
    port: int
    """Where it answers on 127.0.0.1."""
    health: Health
    labels: Mapping[str, str]
    load: int
    """Thousandths of what it can carry, by its own word; 0 when it does not say."""
    because: str
    """For people: the evidence and what the test showed."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Every catalogue entry, found or refused, at one moment."""

    found: tuple[Finding, ...] = ()
    """In catalogue order; no two on one port."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Slug → why it is not offered, for people."""
    at: float = 0.0
    """Monotonic seconds of the look."""

    def differs(self, other: Survey) -> bool:
        """Return whether anything that others should hear differs; reasons and the time of the look do not count."""
        return [_said(each) for each in self.found] != [_said(each) for each in other.found]


def _said(finding: Finding) -> tuple[object, ...]:
    return finding.slug, finding.port, finding.health, finding.labels, finding.load

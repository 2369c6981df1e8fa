"""The all-zero swarm key that the Bash DRAGON writes: told, never written, never removed. Source: ASTROPORT facts 1.2."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dragon.kubo.checks import Finding

ZERO_KEY: Final = "0" * 64

MEANING: Final = (
    "the Kubo repo has the all-zero swarm.key: a private network (ORIGIN) that speaks TCP only, in which public peers are "
    "unreachable, and which anybody can enter who knows this well-known key"
)

_MAX_KEY = 4096


def network_findings(repo: Path) -> list[Finding]:
    """Return what the repo's swarm key means, nothing without an all-zero one. Blocks."""
    if not is_zero_key(repo):
        return []
    leave = f"right where the whole constellation is ORIGIN; to leave it, remove {repo / 'swarm.key'} and restart the daemon"
    return [Finding("network", True, f"{MEANING}; {leave}", essential=False)]


def is_zero_key(repo: Path) -> bool:
    """Tell whether a Kubo repo has the all-zero swarm key."""
    try:
        with (repo / "swarm.key").open("rb") as stream:
            lines = stream.read(_MAX_KEY).decode("ascii", "replace").split()
    except OSError:
        return False
    return lines[:1] == ["/key/swarm/psk/1.0.0/"] and lines[-1] == ZERO_KEY

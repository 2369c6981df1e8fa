"""What a run is asked to do: peers, authors, kinds, a window, and where events are stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Peer:
    """A node that offers a relay."""

    node_id: str
    alias: str
    open: Callable[[], Awaitable[str]]
    """Opens the way to its relay and returns the ws:// URL of our end; called when its turn comes, and again after the
    connection broke. A `DragonError` is the peer's failure, not the run's."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run. A value: nothing in it changes."""

    peers: tuple[Peer, ...]
    authors: tuple[str, ...]
    """Public keys, 64 lower-case hex digits."""
    kinds: tuple[int, ...]
    """What is asked of `authors`."""
    since: int
    until: int
    """Unix seconds, both ends included."""
    local: str | None = None
    """ws:// URL of our own relay: compared with the peers; stores events unless there is a `tool`."""
    tool: Path | None = None
    """The `strfry` program: stores events through its `import`, past the relay's write policy."""
    both: bool = False
    """Also send the peers what they lack."""
    dry_run: bool = False
    """Ask what is missing, fetch and write nothing."""
    verify: bool = False
    """As `dry_run`, and count what the peers lack too."""
    profiles: bool = True
    """Fetch profiles (kind 0) of authors who have none here, however old."""
    peers_at_once: int = 4
    timeout: float = 1800.0
    """Seconds; what was received until then is kept."""
    resume: Path | None = None
    """Where an interrupted run notes how far it came with peers that lack NIP-77."""
    drop_visitors: bool = False
    """Leave out events that greet visitors ("Hello NOSTR visitor."), as the scripts that this replaces do."""

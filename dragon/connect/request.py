"""What is asked of this room and what it answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dragon.connect.performance import NOTHING_MEASURED, Figures

if TYPE_CHECKING:
    from dragon.connect.pool import PoolInfo, PoolSize

URL_SCHEMES = {"http": "http", "https": "https", "ws": "ws", "wss": "wss", "ssh": "ssh"}


@dataclass(frozen=True, slots=True)
class ForwardRequest:
    """A forward to `slug` (or an alias of it). `target` is `auto`, a number, an alias or a part of an id."""

    slug: str
    target: str = "auto"
    where: Mapping[str, str] = field(default_factory=dict)
    via: str | None = None
    spread: bool = False
    port: int | None = None
    raw: bool = False
    strategy: str | None = None
    """How one of several providers is chosen, where that is not what the settings say."""
    pool: PoolSize | None = None
    """How many providers are kept warm behind the port; connections are spread over them. None: one, and no pool."""


@dataclass(frozen=True, slots=True)
class ForwardResult:
    """Where the service answers. `provider` is a node id; `reused`: nothing new had to be opened."""

    slug: str
    provider: str
    route: str
    host: str
    port: int
    url: str
    reused: bool


@dataclass(frozen=True, slots=True)
class ForwardInfo:
    """One open forward. Times in seconds; `idle` counts since its last connection began or ended, 0 while any is open.

    Of a raw one Kubo tells no counts.
    """

    slug: str
    provider: str
    alias: str
    route: str
    host: str
    port: int
    url: str
    target: str
    where: Mapping[str, str]
    spread: bool
    since: float
    raw: bool
    healthy: bool
    problem: str
    idle: float = 0.0
    connections: int = 0
    connections_total: int = 0
    moved: int = 0
    """Connections that were led on to another provider before anybody had answered them."""
    failed: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    figures: Figures = NOTHING_MEASURED
    """How its provider performs over its route, whichever forward used it."""
    pool: PoolInfo | None = None


def url_of(scheme: str, host: str, port: int) -> str:
    """Return the URL under which a client reaches the port; `tcp://…` where the scheme has no URL of its own."""
    return f"{URL_SCHEMES.get(scheme, 'tcp')}://{host}:{port}"

"""Dragon: a distributed service registry node for a swarm with no centre.

`from dragon import Dragon` gives the client for programs (docs/python.md); it is imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dragon.client import Dragon

__all__ = ["Dragon", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name != "Dragon":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dragon.client import Dragon

    return Dragon

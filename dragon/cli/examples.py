"""Examples at the end of a help text."""

from __future__ import annotations

_AS_IT_IS = "\b"
"""What keeps the help formatter from filling the lines of a paragraph."""


def examples(*lines: str) -> str:
    """Return the epilog of a command: its `lines`, each a whole command."""
    return "\n".join((_AS_IT_IS, "Examples:" if len(lines) > 1 else "Example:", *(f"  {line}" for line in lines)))

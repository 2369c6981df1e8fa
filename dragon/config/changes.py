"""Which keys differ between two readings of the settings, as a person writes them. Pure."""

from __future__ import annotations

from dragon.config.keys import TABLES
from dragon.config.model import Settings


def changed_keys(before: Settings, after: Settings) -> list[str]:
    """Return the keys whose values differ: `node.alias`, and a service's table as one: `catalogue.ollama`."""
    changed: list[str] = []
    for section in Settings.model_fields:
        old, new = getattr(before, section), getattr(after, section)
        for key in type(old).model_fields:
            one, other = getattr(old, key), getattr(new, key)
            if section in TABLES and key == "entries":
                changed += (f"{section}.{slug}" for slug in sorted({*one, *other}) if one.get(slug) != other.get(slug))
            elif one != other:
                changed.append(f"{section}.{key}")
    return changed

"""Which keys there are, and which of them a mistyped one was meant to be. Pure; reads the settings tree, so it cannot lag."""

from __future__ import annotations

import difflib
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from dragon.config.model import EntryOverride, Settings, SshOverride
from dragon.config.words import bare

KeyPath = tuple[str, ...]

PREFIX = "DRAGON_"

TABLES: Mapping[str, type[BaseModel]] = {"catalogue": EntryOverride, "ssh": SshOverride}
"""Sections with a table for each service: `[catalogue.<slug>]`, `[ssh.<slug>]`."""


def keys_at(table: KeyPath) -> Mapping[str, Any]:
    """Return the keys that may stand in `table` with their types; empty where there is no such table."""
    if table == ():
        return {name: field.annotation for name, field in Settings.model_fields.items()}
    section = Settings.model_fields.get(table[0])
    if section is None or not (isinstance(section.annotation, type) and issubclass(section.annotation, BaseModel)):
        return {}
    keys = {name: field.annotation for name, field in section.annotation.model_fields.items() if name != "entries"}
    if len(table) == 1:
        return keys
    if table[0] in TABLES and len(table) == 2 and table[1] not in keys:
        return {name: field.annotation for name, field in TABLES[table[0]].model_fields.items()}
    return {}


def type_of(path: KeyPath) -> Any:
    """Return the type of the setting at `path`, `str` for a value inside a map, None where there is no such setting."""
    if len(path) < 2:
        return None
    found = keys_at(path[:-1]).get(path[-1])
    if found is None and len(path) > 2 and typing.get_origin(bare(keys_at(path[:-2]).get(path[-2]))) is dict:
        return str  # node.labels.gpu
    return found


def variable_path(name: str) -> KeyPath | None:
    """Return the path that the variable `name` stands for: `DRAGON_<SECTION>_<KEY>`, `DRAGON_CATALOGUE_<SLUG>_<KEY>`."""
    section, _, key = name.removeprefix(PREFIX).lower().partition("_")
    if section in TABLES and key not in keys_at((section,)):
        for field in sorted(TABLES[section].model_fields, key=len, reverse=True):
            if key.endswith(f"_{field}"):
                return (section, key.removesuffix(f"_{field}").replace("_", "-"), field)
    return (section, key) if key and type_of((section, key)) is not None else None


def variable_name(path: KeyPath) -> str:
    return PREFIX + "_".join(path).upper().replace("-", "_")


def all_paths() -> list[KeyPath]:
    """Return every setting outside the catalogue's tables as a path."""
    return [(section, key) for section in keys_at(()) for key in keys_at((section,))]


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the one of `choices` that `word` was probably meant to be."""
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)  # difflib's own default: half a word off is no typo
    return found[0] if found else None


def meant(path: KeyPath) -> KeyPath | None:
    """Return the known path nearest to the unknown `path`, looking first in its own table, then for its name anywhere."""
    table, key = path[:-1], path[-1]
    if key_here := nearest(key, keys_at(table)):
        return (*table, key_here)
    if elsewhere := [one for one in all_paths() if one[-1] == key]:
        return elsewhere[0]
    if len(path) > 1 and (section := nearest(path[0], keys_at(()))) and section != path[0]:
        return meant((section, *path[1:])) if type_of((section, *path[1:])) is None else (section, *path[1:])
    return None

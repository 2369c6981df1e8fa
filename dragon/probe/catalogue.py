"""The catalogue: every service this node knows how to detect and use. Shipped entries, the user's over them.

What is private is decided here, once: `[catalogue] private` replaces the shipped choice; `also_private` (where the settings
put `DRAGON_PRIVATE_SERVICES`) and an entry's own `private = true` only ever add to it, so that a station's old environment
file cannot publish what the defaults hide.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragon.errors import ConfigError, UnknownService
from dragon.probe.entry import CatalogueEntry, parse_entry

if TYPE_CHECKING:
    from dragon.config import CatalogueSettings

SHIPPED = Path(__file__).with_name("catalogue.toml")


class Catalogue:
    """The known services, in order. Immutable."""

    __slots__ = ("_by_alias", "_by_slug")

    def __init__(self, entries: Iterable[CatalogueEntry]) -> None:
        self._by_slug: dict[str, CatalogueEntry] = {}
        self._by_alias: dict[str, list[str]] = {}
        for entry in entries:
            self._by_slug[entry.slug] = entry
            for alias in entry.aliases:
                self._by_alias.setdefault(alias, []).append(entry.slug)

    def entries(self) -> tuple[CatalogueEntry, ...]:
        """Return all entries, private ones too, in catalogue order."""
        return tuple(self._by_slug.values())

    def __contains__(self, slug: object) -> bool:
        return slug in self._by_slug

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Catalogue) and self.entries() == other.entries()

    __hash__ = None  # type: ignore[assignment]  # entries hold mappings

    def get(self, name: str) -> CatalogueEntry:
        """Return the entry whose slug is `name`, else the first that has `name` as an alias.

        Raises `UnknownService` naming what is near.
        """
        return self._by_slug[self.slugs_for(name)[0]]

    def slugs_for(self, name: str) -> tuple[str, ...]:
        """Return the slugs under which a service called `name` may be offered, best first: itself, then by alias.

        A search for `vane` should look for offers of each in turn: the same program goes by both names.
        Raises `UnknownService` naming what is near.
        """
        wanted = name.strip().lower()
        own = (wanted,) if wanted in self._by_slug else ()
        slugs = (*own, *(slug for slug in self._by_alias.get(wanted, ()) if slug != wanted))
        if slugs:
            return slugs
        near = self.near(wanted)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(self._by_slug)}"
        raise UnknownService(f"no service {name!r} in the catalogue", f"{hint} (own services: a [catalogue.<slug>] table)")

    def near(self, name: str) -> tuple[str, ...]:
        """Return up to three known names that look like `name`."""
        from difflib import get_close_matches  # only for a typo: it costs 5 ms of every start otherwise

        return tuple(get_close_matches(name, [*self._by_slug, *self._by_alias], n=3, cutoff=0.6))


def load_catalogue(
    only: Sequence[str] | None = None,
    private: Sequence[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    *,
    also_private: Sequence[str] | str = (),
    place: Callable[[str], str | None] = lambda key: None,
) -> Catalogue:
    """Return the shipped catalogue with the user's wishes applied.

    `overrides`: the `[catalogue.<slug>]` tables as plain values, None meaning "not given". `only`: the slugs that may be
    offered at all, the others stay known for lookups but private (None: every one). `private`: replaces the shipped choice of
    what is never offered. `also_private`: adds to it, a list or a text separated by spaces and commas; names that nobody
    knows are passed over there, because a station's own list may name what Dragon never offers. `place`: where a key or a
    table was written.

    Raises `ConfigError` that names the table and key, or the slug that nobody knows.
    """
    tables = overrides or {}
    entries = dict(_shipped())
    for slug, table in tables.items():
        with _at(place, slug):
            entries[slug] = parse_entry(slug, table, entries.get(slug))
    catalogue = Catalogue(entries.values())

    hidden = {entry.slug for entry in entries.values() if entry.private}
    if private is not None:
        with _at(place, "private"):
            hidden = {slug for slug, table in tables.items() if table.get("private")} | _resolved(catalogue, private, "private")
    if only is not None:
        with _at(place, "only"):
            hidden |= set(entries) - _resolved(catalogue, only, "only")
    for name in split_names(also_private) if isinstance(also_private, str) else also_private:
        hidden |= _named(catalogue, name)
    return Catalogue(replace(entry, private=entry.slug in hidden) for entry in entries.values())


def catalogue_of(settings: CatalogueSettings) -> Catalogue:
    """Return the catalogue that the `[catalogue]` section asks for."""
    tables = {slug: override.model_dump(exclude_none=True) for slug, override in settings.entries.items()}
    return load_catalogue(settings.only, settings.private, tables, also_private=settings.also_private, place=settings.place)


@contextmanager
def _at(place: Callable[[str], str | None], key: str) -> Iterator[None]:
    """Name the place of `key` in what is raised inside, as for every other setting."""
    try:
        yield
    except ConfigError as error:
        where = place(key)
        raise ConfigError(f"{where}: {error}" if where else str(error), error.hint) from None


def split_names(text: str) -> tuple[str, ...]:
    """Return the names in `text`, separated by any run of spaces and commas, lower-case."""
    return tuple(name.lower() for name in re.split(r"[\s,]+", text) if name)


@cache
def _shipped() -> Mapping[str, CatalogueEntry]:
    tables = tomllib.loads(SHIPPED.read_text(encoding="utf-8"))
    return {slug: parse_entry(slug, table) for slug, table in tables.items()}


def _resolved(catalogue: Catalogue, names: Sequence[str], key: str) -> set[str]:
    """Return the slugs that a list of the user names; a typo there would publish or hide the wrong thing, so it is an error."""
    slugs: set[str] = set()
    for name in names:
        slugs |= _named(catalogue, name) or _unknown(catalogue, name, key)
    return slugs


def _named(catalogue: Catalogue, name: str) -> set[str]:
    if name in catalogue:
        return {name}  # exactly this one: `vane` private says nothing of perplexica
    try:
        return set(catalogue.slugs_for(name))
    except UnknownService:
        return set()


def _unknown(catalogue: Catalogue, name: str, key: str) -> set[str]:
    near = catalogue.near(name)
    hint = f"did you mean {' or '.join(near)}?" if near else "add a [catalogue.<slug>] table for a service of your own"
    raise ConfigError(f"[catalogue] {key}: no service {name!r} in the catalogue", hint)

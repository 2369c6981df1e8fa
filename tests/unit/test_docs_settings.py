"""docs/settings.md lists the settings that there are, with the defaults that they have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dragon.config import EntryOverride, Settings
from dragon.probe import catalogue_of

PAGE = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
SECTIONS = re.split(r"^## `\[(\w+)\]`.*$", PAGE.partition("\n## Variables")[0], flags=re.MULTILINE)
TEXTS = dict(zip(SECTIONS[1::2], SECTIONS[2::2], strict=True))


def rows(text: str) -> dict[str, str]:
    """Return key → the cell beside it, of every row that begins with a key."""
    return dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", text, re.MULTILINE))


def plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def test_every_section_has_its_table() -> None:
    assert list(TEXTS) == list(Settings.model_fields)


@pytest.mark.parametrize("section", Settings.model_fields)
def test_its_keys_are_there_with_their_defaults(section: str) -> None:
    fields = type(getattr(Settings(), section)).model_fields
    first_table = TEXTS[section].partition("\n\nA table for a service")[0]
    listed = rows(first_table)
    assert set(listed) == set(fields) - {"entries"}
    for key, cell in listed.items():
        default = plain(fields[key].get_default(call_default_factory=True))
        if cell.startswith("`"):
            assert tomllib.loads(f"it = {cell.strip('`')}")["it"] == default, key
        else:  # said in words: what is found, or what the machine says
            assert default is None or key == "alias", key


def test_the_keys_of_a_services_table_are_there_and_say_what_is_shipped_for_ollama() -> None:
    text = TEXTS["catalogue"].partition("A table for a service")[2].partition("Shipped are:")[0]
    listed = rows(text)
    assert set(listed) == set(EntryOverride.model_fields)
    assert tomllib.loads(f"it = {listed['port'].strip('`')}")["it"] == catalogue_of(Settings().catalogue).get("ollama").port


def test_the_shipped_services_are_listed() -> None:
    text = TEXTS["catalogue"].partition("Shipped are:")[2]
    lines = re.findall(r"^(\| `([\w-]+)` \| (\d+).*)$", text, re.MULTILINE)
    listed = {slug: (port, line.endswith("; private |")) for line, slug, port in lines}
    shipped = {entry.slug: (str(entry.port), entry.private) for entry in catalogue_of(Settings().catalogue).entries()}
    assert listed == shipped

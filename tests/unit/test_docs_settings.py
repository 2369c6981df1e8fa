"""docs/settings.md lists the settings that there are, with the defaults that they have."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from dragon.config import EntryOverride, Settings, load_settings
from dragon.home import Home
from dragon.probe import catalogue_of

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "settings.md").read_text()
SECTIONS = re.split(r"^## `\[(\w+)\]`.*$", PAGE.partition("\n## Variables")[0], flags=re.MULTILINE)
TEXTS = dict(zip(SECTIONS[1::2], SECTIONS[2::2], strict=True))


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    pytest.param(block, id=f"{page.name}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"^```toml\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL), start=1)
    if "…" not in block  # where a value is left out, nothing could be read
]


@pytest.mark.parametrize("block", BLOCKS)
def test_what_a_page_shows_as_settings_is_taken(block: str, tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.config_file.write_text(block)
    catalogue_of(load_settings(home, environ={}).catalogue)


def test_no_page_lets_slip_what_is_private_unasked() -> None:
    assert not [
        page.name for page in PAGES if re.search(r"^private = \[|`\[catalogue\] private = ", page.read_text(), re.MULTILINE)
    ]


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

"""One key of a config.toml changed, nothing else."""

from __future__ import annotations

import tomllib

import pytest

from dragon.astroport.toml_key import get_text, set_text, unset
from dragon.errors import ConfigError

LINE = 'publisher = "dragon"\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"[registry]\n{LINE}"),
        ('[node]\nalias = "x"', f'[node]\nalias = "x"\n\n[registry]\n{LINE}'),
        ("[registry]\n", f"[registry]\n{LINE}"),
        ("[registry]", f"[registry]\n{LINE}"),
        ("  [ registry ] # here\nlease = 90.0\n", f"  [ registry ] # here\n{LINE}lease = 90.0\n"),
        ("[registry]\nlease = 90.0\n  publisher = 'off' # why\n", '[registry]\nlease = 90.0\n  publisher = "dragon" # why\n'),
        ('[registry]\r\npublisher = "off"\r\n', '[registry]\r\npublisher = "dragon"\r\n'),
        ('[a]\npublisher = "off"\n[registry]\n', f'[a]\npublisher = "off"\n[registry]\n{LINE}'),
        ('[registry]\n[z]\npublisher = "off"\n', f'[registry]\n{LINE}[z]\npublisher = "off"\n'),
    ],
)
def test_set(before: str, after: str) -> None:
    assert set_text(before, "registry", "publisher", "dragon") == after
    assert set_text(after, "registry", "publisher", "dragon") == after
    assert get_text(after, "registry", "publisher") == "dragon"
    assert tomllib.loads(unset(after, "registry", "publisher")).get("registry", {}).get("publisher") is None


@pytest.mark.parametrize(
    "text",
    [
        'registry.publisher = "off"\n',
        'registry = { publisher = "off" }\n',
        '[registry]\npublisher = """off"""\n',
        "[registry]\npublisher = 3\n",
        'note = """\n[registry]\n"""\n',
        '[registry]\n"publisher" = "off"\n',
        "[[registry]]\nlease = 1\n",
        "[registry\n",
    ],
)
def test_what_takes_a_persons_eye_is_left_to_a_person(text: str) -> None:
    with pytest.raises(ConfigError):
        set_text(text, "registry", "publisher", "dragon")

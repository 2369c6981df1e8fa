"""The grammar of names and texts (THREATS 10)."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from registry_schema import clean_alias, clean_label, clean_text, limits
from registry_schema.texts import Alias, LabelKey, LabelValue, Slug, StationText, SwarmName, Version
from tests.unit.registry_schema.hostile import HOSTILE_NAMES, LONE_SURROGATE
from tests.unit.registry_schema.strategies import aliases, label_values, station_texts

NAMES = {"slug": Slug, "label key": LabelKey, "swarm": SwarmName, "version": Version, "alias": Alias, "label value": LabelValue}

ONLY_QUOTED = frozenset(  # visible: a station's text may hold them (URLs, keys, mail addresses do), every exit quotes them
    name for name in HOSTILE_NAMES if name.isascii() and name.isprintable() and name == " ".join(name.split()) and name
)


def fits(text: str, kind: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(text, strict=True)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("kind", NAMES.values(), ids=NAMES.keys())
def test_no_hostile_name_passes(kind: Any) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(kind)
    for name in (*HOSTILE_NAMES, LONE_SURROGATE):
        with pytest.raises(ValidationError):
            adapter.validate_python(name, strict=True)


def test_texts_hold_nothing_invisible() -> None:
    adapter: TypeAdapter[str] = TypeAdapter(StationText)
    for name in (*HOSTILE_NAMES, LONE_SURROGATE):
        if name not in ONLY_QUOTED:
            with pytest.raises(ValidationError):
                adapter.validate_python(name, strict=True)


GOOD = [
    (Alias, "station-1"),
    (Alias, "my-host.local"),
    (Alias, "Café du Ğ1"),
    (Alias, "日本 ノード"),
    (Alias, "a."),
    (Alias, "St. Étienne"),
    (LabelValue, "llama3.2:latest"),
    (LabelValue, "hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M"),
    (LabelValue, "NVIDIA GeForce RTX 4090"),
    (LabelValue, "Intel(R) Arc(TM) A770"),
    (LabelValue, "80%"),
    (StationText, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA+/= captain@host"),
    (StationText, "wss://relay.example.org/?a=1&b=2"),
    (StationText, "-1.44"),
]


@pytest.mark.parametrize(("kind", "text"), GOOD)
def test_what_people_really_write_passes(kind: Any, text: str) -> None:
    assert fits(text, kind)


@pytest.mark.parametrize(
    ("kind", "limit"),
    [
        (Alias, limits.MAX_ALIAS),
        (LabelValue, limits.MAX_LABEL),
        (StationText, limits.MAX_STATION_TEXT),
        (Slug, 32),
        (LabelKey, 32),
        (SwarmName, 64),
        (Version, 32),
    ],
)
def test_lengths_hold_to_the_last_character(kind: Any, limit: int) -> None:
    letter = "a" if kind in (Slug, LabelKey, SwarmName, Version) else "中"
    assert fits(letter * (limit - 1), kind)
    assert fits(letter * limit, kind)
    assert not fits(letter * (limit + 1), kind)


def test_the_longest_text_fits_the_codec() -> None:
    assert len(("𝔘" * limits.MAX_STATION_TEXT).encode()) <= limits.MAX_TEXT


def test_one_spelling_only() -> None:
    for composed in ("Café", "Å", "한국"):
        assert fits(composed, Alias)
        assert not fits(unicodedata.normalize("NFD", composed), Alias)


@given(aliases(), label_values(), station_texts())
def test_strategies_stay_in_the_grammar(alias: str, label: str, text: str) -> None:
    assert fits(alias, Alias)
    assert fits(label, LabelValue)
    assert fits(text, StationText)


@given(st.text(max_size=60) | st.sampled_from((*HOSTILE_NAMES, LONE_SURROGATE)))
def test_cleaning_gives_what_fits_or_nothing(text: str) -> None:
    assert fits(clean_alias(text), Alias)
    label, free = clean_label(text), clean_text(text)
    assert label is None or fits(label, LabelValue)
    assert free is None or fits(free, StationText)


@given(aliases(), label_values(), station_texts())
def test_cleaning_leaves_alone_what_fits(alias: str, label: str, text: str) -> None:
    assert (clean_alias(alias), clean_label(label), clean_text(text)) == (alias, label, text)


def test_cleaning_keeps_what_it_can() -> None:
    assert clean_alias("O'Brien's  PC") == "OBriens PC"
    assert clean_alias("\u202e..", otherwise="dragon") == "dragon"
    assert clean_alias("Cafe\u0301") == "Café"
    assert clean_label("../etc") == "etc"
    assert clean_label("\x1b[31m") == "31m"
    assert clean_text("two\nlines") == "two lines"
    assert len(clean_alias("x" * 1000)) == limits.MAX_ALIAS

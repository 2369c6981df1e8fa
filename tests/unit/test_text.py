"""THREATS 10: one function stands at every exit that a person reads."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragon.text import clean, counted, width


@given(st.text(max_size=200) | st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Mn"]), max_size=60))
@settings(max_examples=300)
def test_nothing_hidden_remains_and_nothing_grows(text: str) -> None:
    shown = clean(text)
    assert len(shown) <= len(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert clean(shown) == shown
    shown.encode()


@pytest.mark.parametrize("text", ["plain", "Étoile du nord", "日本語", "हिन्दी", "العربية", "שלום", "Ωmega-7_x.y's", "a  b"])
def test_honest_names_stay_as_they_are(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred", "�[31mred"),
        ("a\nb\r\tc", "a�b��c"),
        ("abc\u202egnp.exe", "abc�gnp.exe"),
        ("a\u200bb", "a�b"),
        ("\x9b2J", "�2J"),
        ("\ud800", "�"),
        (None, "None"),
        (7, "7"),
        ("a" + "\u0301" * 50, "a" + "\u0301" * 4),
    ],
)
def test_hostile_text(text: object, shown: str) -> None:
    assert clean(text) == shown


def test_length_is_bounded() -> None:
    assert clean("x" * 1000, 10) == "xxxxxxxxx…"
    assert clean("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("日本", 4), ("e\u0301", 1), ("", 0)])
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns


@pytest.mark.parametrize(("number", "told"), [(0, "0 nodes"), (1, "1 node"), (2, "2 nodes"), (12_345, "12\u202f345 nodes")])
def test_things_are_counted_as_people_say_it(number: int, told: str) -> None:
    assert counted(number, "node") == told

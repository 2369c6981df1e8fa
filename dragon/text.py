"""Text from the network made fit to be shown: one function for every exit that a person or a terminal reads.

Terminals obey control characters, reorder by bidi marks, and hide zero-width ones; a log line with a newline forges the next
line (THREATS row 10). JSON needs none of this: its encoder escapes.
"""

from __future__ import annotations

import unicodedata

LONGEST = 512
"""Characters shown of one text: the longest honest field (a station's) has 512."""

LONGEST_COMPLAINT = 2000
"""Characters of an error, and of its hint: those that name every provider tried are long."""

_SENTENCE_ENDS = (".", "?", "!", ":", ";")

_MARKS_IN_A_ROW = 4
"""Combining marks kept on one letter: living languages stack up to four; only "zalgo" text stacks more, over other lines."""

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Controls, format characters (bidi, zero-width, tags), surrogates, private use, unassigned, line and paragraph separators."""


def clean(text: object, longest: int = LONGEST) -> str:
    """Return `str(text)` on one line of at most `longest` characters, each that does not show itself replaced by `�`."""
    kept: list[str] = []
    marks = 0
    for character in str(text)[: longest + 1]:
        category = unicodedata.category(character)
        marks = marks + 1 if category in ("Mn", "Me") else 0
        if marks > _MARKS_IN_A_ROW:
            continue
        kept.append("�" if category in _HIDDEN else character)
    return "".join(kept) if len(kept) <= longest else "".join(kept[: longest - 1]) + "…"


def complaint(message: str, hint: str) -> str:
    """Return an error and what to do about it as the one line that every command prints."""
    said, advice = clean(message, LONGEST_COMPLAINT), clean(hint, LONGEST_COMPLAINT)
    return f"dragon: {said}" + (f"{'' if said.endswith(_SENTENCE_ENDS) else ';'} {advice}" if advice else "")


def apart(number: int) -> str:
    """Return a number with its thousands apart, by thin blanks."""
    return f"{number:,}".replace(",", "\u202f")


def counted(number: int, noun: str) -> str:
    """Return "1 node", "2 nodes", for a `noun` whose plural has an s."""
    return f"{apart(number)} {noun if number == 1 else noun + 's'}"


def width(text: str) -> int:
    """Return the columns that a cleaned `text` takes on a terminal (East Asian wide characters take two, marks none)."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1

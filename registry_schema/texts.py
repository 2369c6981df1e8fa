"""The grammar of names and texts: what a peer may write into a terminal, a log, a page or a shell word of ours.

Three tiers, from strict to free: a *name* (slug, label key, version, swarm) is ASCII; an *alias* and a *label value* are words
in any script, with no character that quotes, expands or separates in a shell or in HTML; a *text* is anything visible. In all
of them words are separated by single spaces, nothing is invisible (control, bidi, zero-width, fillers, variation selectors),
and there is one spelling: Unicode's normal form C.

All nodes must agree on what is admitted, or their views never become equal. So the grammar is fixed to the characters that
Unicode 14.0 assigns (2021, what Python 3.11 brings): for these the normal form and, but for rare corrections, the categories
are stable in every later version.

Patterns are valid both for Rust's `regex` (pydantic) and, without `ASSIGNED`, for ECMA 262 with the `u` flag (JSON Schema).
Lengths of Unicode classes are bounded beside the pattern, not in it: a counted class compiles to megabytes.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from registry_schema import limits

ASSIGNED = r"\P{Age=14.0}"
"""Inside a negated class: also not a character that Unicode 14.0 does not assign. ECMA 262 has no such property."""

# U+2800 is the blank of Braille: a symbol by category, nothing to the eye. DI: Default_Ignorable_Code_Point.
_VISIBLE = rf"[^\p{{C}}\p{{Z}}\p{{DI}}\u2800{ASSIGNED}]"
_LETTER = rf"[^\p{{C}}\p{{Z}}\p{{S}}\p{{P}}\p{{M}}\p{{DI}}{ASSIGNED}]"  # a letter or a number
_LETTER_OR_MARK = rf"[^\p{{C}}\p{{Z}}\p{{S}}\p{{P}}\p{{DI}}{ASSIGNED}]"


def _words(punctuation: str) -> str:
    """A letter or number first; then these, marks and `punctuation`; no two spaces and no two dots in a row."""
    inner = rf"(?:{_LETTER_OR_MARK}|[{punctuation}-])"
    # The two branches share no text: engines that backtrack stay linear.
    return rf"^{_LETTER}(?: ?\.?{inner}|\. {inner})*\.?$"


SLUG_PATTERN = r"^[a-z0-9][a-z0-9-]{0,31}$"
LABEL_KEY_PATTERN = r"^[a-z][a-z0-9._-]{0,31}$"
SWARM_PATTERN = r"^[a-zA-Z0-9][a-zA-Z0-9._-]{0,63}$"
VERSION_PATTERN = r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,31}$"
ALIAS_PATTERN = _words("_")
LABEL_VALUE_PATTERN = _words("_:/+@,()%=")
TEXT_PATTERN = rf"^{_VISIBLE}+(?: {_VISIBLE}+)*$"


def _normal(text: str) -> str:
    if not text.isascii() and not unicodedata.is_normalized("NFC", text):
        raise ValueError("must be in Unicode's normal form C")
    return text


_NFC = AfterValidator(_normal)

Slug: TypeAlias = Annotated[str, Field(pattern=SLUG_PATTERN)]
LabelKey: TypeAlias = Annotated[str, Field(pattern=LABEL_KEY_PATTERN)]
SwarmName: TypeAlias = Annotated[str, Field(pattern=SWARM_PATTERN)]
Version: TypeAlias = Annotated[str, Field(pattern=VERSION_PATTERN)]
Alias: TypeAlias = Annotated[str, Field(pattern=ALIAS_PATTERN, max_length=limits.MAX_ALIAS), _NFC]
LabelValue: TypeAlias = Annotated[str, Field(pattern=LABEL_VALUE_PATTERN, max_length=limits.MAX_LABEL), _NFC]
StationText: TypeAlias = Annotated[
    str, Field(pattern=TEXT_PATTERN, max_length=limits.MAX_STATION_TEXT), AfterValidator(_normal)
]

_ALIAS: TypeAdapter[str] = TypeAdapter(Alias)
_LABEL_VALUE: TypeAdapter[str] = TypeAdapter(LabelValue)
_STATION_TEXT: TypeAdapter[str] = TypeAdapter(StationText)


def clean_alias(text: str, otherwise: str = "node") -> str:
    """Return `text` (a host name, what a user typed) as an alias; `otherwise` when nothing of it can stay."""
    return _cleaned(text, _ALIAS, limits.MAX_ALIAS) or otherwise


def clean_label(text: str) -> str | None:
    """Return `text` (a model's name as its service reports it) as a label value, or None when nothing of it can stay."""
    return _cleaned(text, _LABEL_VALUE, limits.MAX_LABEL)


def clean_text(text: str) -> str | None:
    """Return `text` as a station's text, or None when nothing of it can stay."""
    return _cleaned(text, _STATION_TEXT, limits.MAX_STATION_TEXT)


def _cleaned(text: str, kind: TypeAdapter[str], longest: int) -> str | None:
    """Return `text` itself when it fits, else what remains of it without the characters that `kind` has no place for."""
    normal = unicodedata.normalize("NFC", text[: 4 * longest])
    if _fits(normal, kind):
        return normal
    kept = "".join(_keep(character, kind) for character in normal)
    words = _RUN.sub(_separator, kept).lstrip(" .")
    for start in range(len(words)):  # what may stand inside may not always stand first
        piece = unicodedata.normalize("NFC", words[start : start + longest]).rstrip(" .")
        if _fits(piece, kind):
            return piece
    return None


_RUN = re.compile(r"[ .]{2,}")


def _separator(run: re.Match[str]) -> str:
    found = set(run.group())
    return ". " if len(found) == 2 else found.pop()


def _keep(character: str, kind: TypeAdapter[str]) -> str:
    if character.isspace():
        return " "
    return character if _fits(f"a{character}", kind) else ""


def _fits(text: str, kind: TypeAdapter[str]) -> bool:
    try:
        kind.validate_python(text, strict=True)
    except ValidationError:
        return False
    return True

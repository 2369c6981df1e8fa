"""The text of a variable or a flag as a value of its key's type. Pure."""

from __future__ import annotations

import types
import typing
from typing import Any

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")


def parse_text(text: str, annotation: Any) -> Any:
    """Return `text` as a value for a field of type `annotation`; ValueError says what was expected.

    Lists are separated by commas or blanks, maps are `key=value` pairs separated by commas.
    """
    text, kind = text.strip(), bare(annotation)
    shape = typing.get_origin(kind) or kind
    if shape is tuple:
        item = typing.get_args(kind)[0]
        return [parse_text(one, item) for one in items(text)]
    if shape is dict:
        return dict(_pair(one) for one in text.split(",") if one.strip())
    if shape is bool:
        if text.lower() not in _TRUE + _FALSE:
            raise ValueError("true or false")
        return text.lower() in _TRUE
    if shape is int or shape is float:
        try:
            return shape(text)
        except ValueError:
            raise ValueError("a whole number" if shape is int else "a number") from None
    if shape in (typing.Union, types.UnionType):  # a word or a list: `members`, or node ids
        words = items(text)
        return words[0] if len(words) == 1 and words[0].isalpha() and words[0].islower() else words
    return text


def items(text: str) -> list[str]:
    return text.replace(",", " ").split()


def bare(annotation: Any) -> Any:
    """Return `annotation` without `Annotated` and without `| None`."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return bare(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        members = [one for one in typing.get_args(annotation) if one is not type(None)]
        if len(members) == 1:
            return bare(members[0])
    return annotation


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.strip().partition("=")
    if not equals or not key:
        raise ValueError("key=value pairs, separated by commas")
    return key.strip(), value.strip()

"""One key of a TOML text changed, and nothing else of it: comments, order and spacing are a person's. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

from dragon.errors import ConfigError


def set_text(text: str, section: str, key: str, value: str) -> str:
    """Return `text` with `[section] key = "value"`. Raises `ConfigError` where that takes a person's eye."""
    return _checked(text, _with_line(text, section, key, f"{key} = {json.dumps(value)}"), section, key, value)


def unset(text: str, section: str, key: str) -> str:
    """Return `text` without that key; a section that is empty then stays. Raises `ConfigError`."""
    return _checked(text, _with_line(text, section, key, None), section, key, None)


def get_text(text: str, section: str, key: str) -> str | None:
    """Return the text that stands under that key, None where none does. Raises `ConfigError` for what is no TOML."""
    found = _parsed(text).get(section, {})
    value = found.get(key) if isinstance(found, dict) else None
    return value if isinstance(value, str) else None


def _with_line(text: str, section: str, key: str, line: str | None) -> str:
    lines = text.splitlines(keepends=True)
    header = re.compile(rf"\s*\[\s*{re.escape(section)}\s*\]\s*(#.*)?")
    start = next((number for number, each in enumerate(lines) if header.fullmatch(each.rstrip("\r\n"))), None)
    if start is None:
        if line is None:
            return text
        gap = "" if not text or text.endswith("\n\n") else "\n" if text.endswith("\n") else "\n\n"
        return f"{text}{gap}[{section}]\n{line}\n"
    own = re.compile(rf"""(\s*){re.escape(key)}\s*=\s*(?:"[^"]*"|'[^']*')(\s*(?:#.*)?)""")
    for number in range(start + 1, len(lines)):
        bare, end = lines[number].rstrip("\r\n"), lines[number][len(lines[number].rstrip("\r\n")) :]
        if bare.lstrip().startswith("["):
            break
        if match := own.fullmatch(bare):
            lines[number] = "" if line is None else f"{match[1]}{line}{match[2]}{end}"
            return "".join(lines)
    if line is not None:
        if not lines[start].endswith("\n"):
            lines[start] += "\n"
        lines.insert(start + 1, f"{line}\n")
    return "".join(lines)


def _checked(before: str, after: str, section: str, key: str, value: str | None) -> str:
    """Return `after` when it differs from `before` in that key alone."""
    wanted = _parsed(before)
    table = wanted.setdefault(section, {})
    if isinstance(table, dict):
        table.pop(key, None)
        if value is not None:
            table[key] = value
    try:
        found = tomllib.loads(after)
    except tomllib.TOMLDecodeError:
        found = {}
    if value is None:
        found.setdefault(section, {})
    if found != wanted:
        told = f'{key} = "{value}"' if value is not None else f"no {key}"
        raise ConfigError(
            "config.toml is written in a way that Dragon does not edit", f"write {told} below [{section}] yourself"
        )
    return after


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"config.toml is not valid TOML: {error}", "correct it first") from None

"""Where a setting was written: the line of a key in a TOML text, a variable, a flag. Pure."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Origin:
    """Where one value came from, as the user would look for it: `config.toml:7`, `DRAGON_NODE_ALIAS`, `flag`."""

    place: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.place}:{self.line}" if self.line else self.place


def line_of(text: str, path: tuple[str, ...]) -> int | None:
    """Return the 1-based line on which the key `path` begins in the valid TOML `text`; None when it is not there.

    Asks the parser itself: the key belongs to the statement that ends the shortest parsable run of first lines which holds it.
    """
    lines = text.split("\n")
    begin = 1
    for end in range(1, len(lines) + 1):
        try:
            tree: Any = tomllib.loads("\n".join(lines[:end]))
        except tomllib.TOMLDecodeError:
            continue
        if _holds(tree, path):
            return begin
        begin = end + 1
    return None


def syntax_error_line(error: tomllib.TOMLDecodeError, text: str) -> tuple[int, str]:
    """Return the 1-based line of a TOML syntax error and what the parser says of it."""
    message = str(error)
    if found := re.search(r"\(at line (\d+), column \d+\)$", message):
        return int(found[1]), message[: found.start()].strip()
    return text.rstrip("\n").count("\n") + 1, re.sub(r"\s*\(at end of document\)$", "", message)


def _holds(tree: Any, path: tuple[str, ...]) -> bool:
    for part in path:
        if not isinstance(tree, Mapping) or part not in tree:
            return False
        tree = tree[part]
    return True

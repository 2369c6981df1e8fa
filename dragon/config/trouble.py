"""What is wrong with a setting, in one line: where, which key, what was expected, what was there. Pure."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

from dragon.config.keys import TABLES, KeyPath, keys_at, meant
from dragon.config.source import Origin
from dragon.errors import ConfigError

SECRETS = frozenset({("kubo", "auth")})
"""Keys whose values no message repeats."""

_EXPECTED = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "tuple_type": 'a list: ["…", "…"]',
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path in quotes",
    "finite_number": "a finite number",
    "missing": "a value",
}


def unknown(path: KeyPath, origin: Origin) -> ConfigError:
    """Return the error for a key that does not exist, with the one that was probably meant."""
    near = meant(path)
    table = path[:-1]
    known = keys_at(table)
    if path[0] in TABLES and len(path) == 2:  # also a service that is no table
        hint = f"[{path[0]}] has {', '.join(known)}, and a table [{path[0]}.<slug>] for each service"
    elif known:
        hint = f"keys of [{'.'.join(table)}]: {', '.join(known)}" if table else f"sections: {', '.join(known)}"
    else:
        hint = f"sections: {', '.join(keys_at(()))}"
    suggestion = f"; did you mean {'.'.join(near)}?" if near else ""
    return ConfigError(f"{origin}: {'.'.join(path)}: no such setting{suggestion}", hint)


def unexpected(path: KeyPath, origin: Origin, expected: str, found: Any) -> ConfigError:
    """Return the error for a value outside its grammar."""
    got = "" if path in SECRETS or isinstance(found, dict) else f", not {_shown(found)}"
    return ConfigError(f"{origin}: {'.'.join(path)}: expected {expected}{got}", "correct it, then start again")


def expectation(detail: ErrorDetails) -> str:
    """Return in our words what pydantic expected."""
    kind, bounds = detail["type"], detail.get("ctx", {})
    if kind == "value_error":
        return str(bounds["error"])
    if kind == "literal_error":
        return str(bounds["expected"]).replace("'", "")
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        word = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}
        return " and ".join(f"{word[name]} {bound}" for name, bound in bounds.items() if name in word)
    if kind in ("string_too_long", "too_long"):
        return f"at most {bounds['max_length']} {'characters' if kind == 'string_too_long' else 'entries'}"
    if kind in ("string_too_short", "too_short"):
        return "something" if bounds["min_length"] == 1 else f"at least {bounds['min_length']} characters or entries"
    return _EXPECTED.get(kind, detail["msg"][:1].lower() + detail["msg"][1:])


def place_of(detail: ErrorDetails) -> KeyPath:
    """Return the key a finding of pydantic is about: without our inner `entries`, list positions and union branches."""
    path = tuple(str(part) for part in detail["loc"])
    if path[0] in TABLES and path[1:2] == ("entries",):
        path = (path[0], *path[2:])
    depth = 3 if path[0] in TABLES and path[1:2] and path[1] not in keys_at(path[:1]) else 2
    inside_map = detail["type"] == "extra_forbidden" or (len(path) > depth and path[depth - 1] in ("labels", "weights"))
    return tuple(part for part in (path if inside_map else path[:depth]) if part != "[key]")  # pydantic's mark of a map's key


def _shown(value: Any) -> str:
    """Return a value as an error tells it: short, and never a private key of NOSTR, since errors end in logs."""
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
    if "nsec1" in text:
        return "a private key (nsec1…), which nobody but its owner may see"
    return text if len(text) <= 60 else f"{text[:59]}…"

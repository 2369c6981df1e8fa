"""Words for a shell to read. Pure."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from dragon.errors import LocalError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def exports(variables: Mapping[str, object]) -> list[str]:
    """Return an `export NAME=value` line for each of `variables`, quoted so that a shell takes the value as it is."""
    for name in variables:
        if not _NAME.fullmatch(name):
            raise LocalError("a variable has a name that no shell can set", "correct `env` in its catalogue entry")
    return [f"export {name}={shlex.quote(str(value))}" for name, value in variables.items()]

"""Where a station's scripts reach services by SSH: the variables of its environment and of its `.env`, read as data.

The scripts source `.env` after everything else, so what it says wins over the environment (ASTROPORT.md, facts of my.sh). Here
it is parsed, never run: a value that a shell would have to compute does not count.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

log = logging.getLogger(__name__)

MAX_ENV_BYTES = 1 << 20
"""A station's .env is a page of assignments; more than 1 MiB is something else."""

_REMOTE = re.compile(r"[A-Z0-9_]*REMOTE_(HOST|USER|PORT_IPV4|PORT_IPV6)")
_ASSIGNMENT = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_]*)=
    (?:"(?P<double>[^"$`\\]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'$`\\;&|<>()#]*))
    \s*(?:[#;].*)?""",
    re.VERBOSE,
)


def remote_variables(environ: Mapping[str, str], zen: Path) -> dict[str, str]:
    """Return the variables that name SSH hosts: those of `zen`/Astroport.ONE/.env over those of `environ`."""
    found = {name: text for name, text in environ.items() if _REMOTE.fullmatch(name)}
    return found | {name: text for name, text in read_env(zen / "Astroport.ONE" / ".env").items() if _REMOTE.fullmatch(name)}


def read_env(file: Path) -> dict[str, str]:
    """Return the plain assignments of `file`, the last of each name; nothing where there is no such file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return {}  # a pipe of that name would hold us up
            with os.fdopen(descriptor, "rb", closefd=False) as stream:
                data = stream.read(MAX_ENV_BYTES + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        log.warning("%s is not read: %s", file, error.strerror or error)
        return {}
    if len(data) > MAX_ENV_BYTES:
        log.warning("%s is not read: larger than %s bytes", file, MAX_ENV_BYTES)
        return {}
    return parse_env(data.decode(errors="replace"))


def parse_env(text: str) -> dict[str, str]:
    """Return the assignments of a shell file whose values stand there literally; what must be computed is left out."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.fullmatch(line)
        if match is not None:
            value = next((part for part in match.group("double", "single", "bare") if part is not None), "")
            if value.isprintable():
                found[match["name"]] = value
    return found

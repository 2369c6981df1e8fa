"""The small texts of a node's folder that are the same for us and for others. Pure. Source: ASTROPORT facts 2.2, 3.3."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dragon.astroport.facts import host_word


def page_name(machine: str) -> str:
    """Return the name of the page: readers take the machine's name from between its first two dots."""
    return f"_MySwarm.{host_word(machine)}.html"


def page_to(name: str) -> str:
    """Return a page of one line that leads to the IPNS `name`: a node id or the name of a key."""
    if not (name.isascii() and name.isalnum()):
        raise ValueError(f"not an IPNS name: {name!r}")
    return f'<meta http-equiv="refresh" content="0; url=/ipns/{name}">\n'


def compact(document: Mapping[str, Any]) -> bytes:
    """Return a document as JSON, as `jq` prints it: others look into it line by line."""
    return json.dumps(document, ensure_ascii=False, indent=2).encode(errors="replace") + b"\n"

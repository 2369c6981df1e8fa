"""Each case: the files of one node, what is refused in them, and which slugs are left. `CANARY` must never come to exist.

`{node}` in the files of `CASES` stands for the id of the node that publishes them.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from dragon.astroport.beacon_reading import MAX_BEACON
from dragon.astroport.reading import MAX_NAMES
from tests.testbed.bash_station import balise, document, script

CANARY = "/tmp/dragon-hostile-canary-" + str(os.getpid())

LARGE = 2_000_000
"""Bytes of what is much too large; what 100 MB cost is shown with a real daemon."""

TOUCH = f"touch {CANARY}"

COMMANDS = [f"$({TOUCH})", f"`{TOUCH}`", f"a[$({TOUCH})]", f'"; {TOUCH}; "', f"\n{TOUCH}\n", f"|{TOUCH}", f"${{IFS}}{TOUCH}"]


@dataclass(frozen=True, slots=True)
class Case:
    """`refused`: reasons that must be counted; `slugs`: what is offered all the same, None: the node is not learnt at all."""

    files: dict[str, bytes]
    refused: frozenset[str]
    slugs: tuple[str, ...] | None


def cases(node_id: str, other: str, at: int) -> dict[str, Case]:
    """Return the corpus for `node_id`, at `at` in Unix seconds. `other`: a node that it would like to be."""
    good = balise(node_id, at)
    both = ("ollama", "ssh")

    def changed(name: str, data: bytes | str) -> dict[str, bytes]:
        return {**good, name: data if isinstance(data, bytes) else data.encode()}

    def told(**fields: Any) -> dict[str, bytes]:
        return changed("12345.json", json.dumps({**document(node_id, at, "ollama,ssh"), **fields}))

    def ollama(text: str) -> dict[str, bytes]:
        return changed("x_ollama.sh", text)

    fine = script(node_id, "ollama", 11434)
    found = {
        "moats with text": Case(changed("_MySwarm.moats", f"{at} {COMMANDS[2]}"), frozenset({"moats"}), None),
        "moats that are arithmetic": Case(changed("_MySwarm.moats", COMMANDS[2]), frozenset({"moats"}), None),
        "moats of 2 MB": Case(changed("_MySwarm.moats", b"1" * LARGE), frozenset({"moats"}), None),
        "no moats": Case({name: data for name, data in good.items() if "moats" not in name}, frozenset({"no-moats"}), None),
        "moats of yesterday": Case(changed("_MySwarm.moats", f"{at - 86400}\n"), frozenset({"unsigned-stale"}), None),
        "moats of next year": Case(changed("_MySwarm.moats", f"{at + 31_536_000}\n"), frozenset({"unsigned-future"}), None),
        "json of 2 MB": Case(changed("12345.json", b'{"captain": "' + b"x" * LARGE + b'"}'), frozenset({"beacon-large"}), both),
        "json of great depth": Case(changed("12345.json", b"[" * (MAX_BEACON - 10)), frozenset({"beacon-deep"}), both),
        "json with NUL": Case(changed("12345.json", b'{"a": "\0"}'), frozenset({"beacon-control"}), both),
        "json with control characters": Case(told(hostname="vm\x1b[2J"), frozenset({}), both),
        "json that is none": Case(changed("12345.json", b"{"), frozenset({"beacon-json"}), both),
        "json of another node": Case(
            changed("12345.json", json.dumps(document(other, at, "ollama"))), frozenset({"foreign-id"}), None
        ),
        "json with an id that climbs": Case(told(ipfsnodeid="../../../.ssh"), frozenset({"beacon-id"}), both),
        "json with slugs that climb": Case(told(dragon_services="../x,ollama,$(id)"), frozenset({"beacon-field"}), both),
        "script with a second port line": Case(ollama(fine + 'NATIVE_PORT="22"\n'), frozenset({"script-twice"}), ("ssh",)),
        "script with NUL": Case(ollama(fine + "\0"), frozenset({"script-control"}), ("ssh",)),
        "script of another node": Case(ollama(fine.replace(node_id, other)), frozenset({"script-foreign"}), ("ssh",)),
        "script of another service": Case(ollama(script(node_id, "qdrant", 1)), frozenset({"script-foreign"}), ("ssh",)),
        "script with a slug that climbs": Case(
            ollama(fine.replace("/x/ollama-", "/x/../../etc/-")), frozenset({"script-protocol"}), ("ssh",)
        ),
        "script of 2 MB": Case(changed("x_ollama.sh", b"#" * LARGE), frozenset({"script-large"}), ("ssh",)),
        "script in UTF-16": Case(changed("x_ollama.sh", fine.encode("utf-16")), frozenset({"script-encoding"}), ("ssh",)),
        "script that is a folder": Case(
            {name: data for name, data in good.items() if name != "x_ollama.sh"} | {"x_ollama.sh/inner": b""},
            frozenset({"script-missing"}),
            ("ssh",),
        ),
        "names that climb": Case(
            {**good, "x_../../../../tmp/a.sh": b"", "x_$(id).sh": b"", "x_\n.sh": b"", "x_\x1b[2J.sh": b""},
            frozenset({"script-name"}),
            both,
        ),
        "a huge listing": Case(
            {**good, **{f"f{number}": b"" for number in range(MAX_NAMES)}}, frozenset({"listing-huge"}), None
        ),
        "a signed manifest": Case({**good, "dragon.manifest": b"\0"}, frozenset({"signs"}), None),
    }
    for number, command in enumerate(COMMANDS):
        for key in document(node_id, at):
            if key != "ipfsnodeid":
                found[f"{key} is command {number}"] = Case(told(**{key: command}), frozenset(), both)
        for name in ("NODE_ID", "PROTO", "NATIVE_PORT", "ALT_PORT"):
            line = next(line for line in fine.splitlines() if line.startswith(f"{name}="))
            text = fine.replace(line, f'{name}="{command}"')
            found[f"{name} is command {number}"] = Case(ollama(text), frozenset(), ("ssh",))
    return found

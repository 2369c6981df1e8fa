"""The public surface: every name is there, and the contract needs nothing of the program around it."""

from __future__ import annotations

import json
import subprocess
import sys

import registry_schema

IMPORT_ALL = """
import json, sys
import registry_schema
for name in registry_schema.__all__:
    getattr(registry_schema, name)
import registry_schema.labels, registry_schema.json_schema
print(json.dumps(sorted(sys.modules)))
"""

FIRST_TOUCH = """
import json, sys
import registry_schema
registry_schema.LocalError, registry_schema.merge
print(json.dumps(sorted(sys.modules)))
"""


def _modules_after(program: str) -> set[str]:
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    return set(json.loads(output))


def test_every_public_name_is_there() -> None:
    assert len(set(registry_schema.__all__)) == len(registry_schema.__all__)
    for name in registry_schema.__all__:
        assert getattr(registry_schema, name) is not None
    assert set(registry_schema.__all__) <= set(dir(registry_schema))


def test_unknown_names_are_unknown() -> None:
    assert not hasattr(registry_schema, "Manager")


def test_the_contract_is_pure() -> None:
    # `socket` is loaded by the standard library's email.utils, which pydantic reaches; import-linter watches our own imports.
    foreign = {"dragon", "asyncio", "aiohttp", "ssl", "subprocess"}
    assert not foreign & {name.split(".")[0] for name in _modules_after(IMPORT_ALL)}


def test_errors_and_merge_cost_no_library() -> None:
    assert not {"pydantic", "cryptography", "msgpack"} & {name.split(".")[0] for name in _modules_after(FIRST_TOUCH)}

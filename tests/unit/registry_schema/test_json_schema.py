"""The committed schema is current, and its patterns are regular expressions for every ECMA 262 engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest

from registry_schema.json_schema import manifest_schema, rendered
from registry_schema.manifest import STATION_FIELDS, Manifest

NODE = shutil.which("node")


def _patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("pattern"), str):
            yield value["pattern"]
        yield from value.get("patternProperties", {})
        for item in value.values():
            yield from _patterns(item)
    elif isinstance(value, list):
        for item in value:
            yield from _patterns(item)


def test_the_committed_schema_is_current() -> None:
    committed = (resources.files("registry_schema") / "manifest.schema.json").read_text("utf-8")
    assert committed == rendered(), "run: python -m registry_schema.json_schema > registry_schema/manifest.schema.json"


def test_it_names_every_field() -> None:
    schema = manifest_schema()
    assert set(schema["properties"]) == set(schema["required"]) == set(Manifest.model_fields)
    assert set(schema["properties"]["station"]["properties"]) == set(STATION_FIELDS)
    assert schema["$defs"]["Envelope"]["additionalProperties"] is False


def test_patterns_use_only_what_ecma_262_has() -> None:
    """With the `u` flag every escape must be a known one, every brace must quantify, and classes cannot be subtracted."""
    known = re.compile(
        r"\\p\{(?:C|Z|S|P|M|DI)\}"  # general categories and Default_Ignorable_Code_Point
        r"|\\u[0-9a-f]{4}|\\[.]"
        r"|\[\^?|\]|\(\?:|\)|[|^$*+?]"
        r"|\{\d+(?:,\d+)?\}"
        r"|[A-Za-z0-9 _:/+@,()%=.-]"
    )
    patterns = set(_patterns(manifest_schema()))
    assert len(patterns) >= 8
    for pattern in patterns:
        assert known.sub("", pattern) == "", pattern
        assert "&&" not in pattern
        assert "--" not in pattern


@pytest.mark.skipif(NODE is None, reason="no ECMA 262 engine (node) on this machine to compile the patterns with")
def test_an_ecma_engine_takes_them() -> None:
    assert NODE is not None
    program = "process.argv.slice(1).forEach((pattern) => new RegExp(pattern, 'u'))"
    subprocess.run([NODE, "-e", program, *sorted(set(_patterns(manifest_schema())))], check=True, capture_output=True)

"""The manifest's grammar as JSON Schema (2020-12), for people and for other languages: `python -m registry_schema.json_schema`.

It describes the decoded payload with byte strings spelled as lowercase hex, as the golden vectors do. What a schema cannot say
(canonical form, ascending order, derived protocol, Unicode version, key and signature) is in docs/protocol.md.
The output is committed as `manifest.schema.json` beside this file; a test keeps the two equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from registry_schema import limits
from registry_schema.manifest import STATION_FIELDS, Manifest
from registry_schema.texts import ASSIGNED, TEXT_PATTERN

SCHEMA = "https://json-schema.org/draft/2020-12/schema"

_BASE58 = "[1-9A-HJ-NP-Za-km-z]"
_NODE_ID = rf"^(?:12D3KooW{_BASE58}{{44}}|Qm{_BASE58}{{44}})$"
_HEX_BUCKET = rf"^[0-9a-f]{{{2 * limits.DIGEST_BYTES}}}$"
_HEX = r"^(?:[0-9a-f]{2})*$"

ENVELOPE: dict[str, Any] = {
    "description": f"The bytes on the wire: canonical msgpack of this map, at most {limits.MAX_ENVELOPE} bytes.",
    "type": "object",
    "properties": {
        "v": {"const": 1, "description": "Version of the envelope."},
        "payload": {"type": "string", "pattern": _HEX, "description": "Canonical msgpack of a manifest (a byte string)."},
        "sig": {
            "type": "string",
            "pattern": _HEX,
            "description": "Signature over `libp2p-key signed message:dragon-manifest-v1\\0` + payload (a byte string).",
        },
        "key": {"type": "string", "pattern": _HEX, "description": "libp2p protobuf of an RSA public key; absent for Ed25519."},
    },
    "required": ["payload", "sig", "v"],
    "additionalProperties": False,
}


def manifest_schema() -> dict[str, Any]:
    """Return the JSON Schema of a manifest; `$defs.Envelope` describes what carries it."""
    schema = Manifest.model_json_schema()
    properties = schema["properties"]
    properties["node"]["pattern"] = _NODE_ID
    properties["digest"] = {
        "description": "One hash per id-prefix bucket, or none.",
        "type": "array",
        "items": {"type": "string", "pattern": _HEX_BUCKET},
        "anyOf": [{"maxItems": 0}, {"minItems": limits.DIGEST_BUCKETS, "maxItems": limits.DIGEST_BUCKETS}],
    }
    properties["station"] = _station()
    schema["$defs"]["Envelope"] = ENVELOPE
    schema = {"$schema": SCHEMA, "title": "Dragon manifest", **schema}
    schema["title"] = "Dragon manifest"
    cleaned: dict[str, Any] = _each(_each(schema, _without_titles), _portable)
    return cleaned


def rendered() -> str:
    """Return the schema as the text of `manifest.schema.json`."""
    return json.dumps(manifest_schema(), indent=2, ensure_ascii=False) + "\n"


def _station() -> dict[str, Any]:
    text = {"type": "string", "pattern": TEXT_PATTERN, "maxLength": limits.MAX_STATION_TEXT}
    number = {"type": "integer", "minimum": -limits.MAX_NUMBER, "maximum": limits.MAX_NUMBER}
    return {
        "description": "An Astroport's own fields; any other key is ignored by this version.",
        "type": "object",
        "properties": {key: text if kind is str else number for key, kind in sorted(STATION_FIELDS.items())},
    }


def _without_titles(node: dict[str, Any]) -> dict[str, Any]:
    """Drop the titles that pydantic derives from names: they say nothing. A property that is called `title` would be a map."""
    return {key: value for key, value in node.items() if key != "title" or value == "Dragon manifest"}


def _portable(node: dict[str, Any]) -> dict[str, Any]:
    """ECMA 262 cannot name a Unicode version: leave that part out. And where keys have a pattern, no other key may be."""
    fixed = {key.replace(ASSIGNED, ""): value for key, value in node.items()}
    if isinstance(pattern := fixed.get("pattern"), str):
        fixed["pattern"] = pattern.replace(ASSIGNED, "")
    if "patternProperties" in fixed:
        fixed["additionalProperties"] = False
    return fixed


def _each(value: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(value, dict):
        return change({key: _each(item, change) for key, item in value.items()})
    if isinstance(value, list):
        return [_each(item, change) for item in value]
    return value


if __name__ == "__main__":
    print(rendered(), end="")

"""The shipped vectors are current, complete, and mean what they say."""

from __future__ import annotations

import hashlib
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from registry_schema import Manifest, Rejection, decode, encode, open_envelope, parse, seal
from tests.unit.registry_schema.identities import ALICE, BOB, RSA
from tests.unit.registry_schema.make_vectors import files

FOLDER = resources.files("registry_schema") / "vectors"


def load(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return content


ACCEPTED, REFUSED = load("accepted.json"), load("refused.json")


def test_files_and_generator_agree() -> None:
    written = files()
    assert {item.name for item in FOLDER.iterdir()} == set(written)
    for name, text in written.items():
        assert (FOLDER / name).read_text("utf-8") == text, "run: python -m tests.unit.registry_schema.make_vectors"


def _hex_bytes(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {key: _hex_bytes(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hex_bytes(item) for item in value]
    return value


@pytest.mark.parametrize("vector", ACCEPTED["vectors"], ids=lambda vector: vector["name"])
def test_good_vectors_are_admitted(vector: dict[str, Any]) -> None:
    data = bytes.fromhex(vector["envelope"])
    manifest = open_envelope(data, swarm=ACCEPTED["swarm"], now_ms=ACCEPTED["now_ms"])
    assert _hex_bytes(manifest.fields()) == vector["manifest"]
    parsed = parse(data)
    assert hashlib.sha256(parsed.payload).hexdigest() == parsed.hash.hex() == vector["hash"]
    assert parsed.content_hash.hex() == vector["content_hash"]
    assert encode(decode(data)) == data


@pytest.mark.parametrize("vector", REFUSED["vectors"], ids=lambda vector: f"{vector['reason']}:{vector['name']}")
def test_bad_vectors_are_refused_for_their_reason(vector: dict[str, Any]) -> None:
    with pytest.raises(Rejection) as caught:
        open_envelope(bytes.fromhex(vector["envelope"]), swarm=REFUSED["swarm"], now_ms=REFUSED["now_ms"])
    assert caught.value.reason == vector["reason"], str(caught.value)
    assert str(caught.value).isprintable()


def test_the_example_of_the_protocol_page_is_the_minimal_vector() -> None:
    page = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text("utf-8")
    example = page.split("```")[1].strip()
    lines = [re.split(r"\s{2,}[\"a-z(]*(?=\"|map of)", line)[0] for line in example.splitlines()]
    assert re.sub(r"\s", "", "".join(lines)) == ACCEPTED["vectors"][0]["envelope"]


def test_the_protocol_page_names_every_reason() -> None:
    page = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text("utf-8")
    assert all(f"`{kind.reason}`" in page for kind in Rejection.__subclasses__())


def test_a_writer_can_be_checked_with_the_good_vectors() -> None:
    for vector in ACCEPTED["vectors"]:
        if vector["name"] in ("newer-version", "largest"):
            continue
        fields = {**vector["manifest"], "digest": [bytes.fromhex(bucket) for bucket in vector["manifest"]["digest"]]}
        identity = next(one for one in (ALICE, BOB, RSA) if one.node_id == fields["node"])
        assert seal(Manifest.read(fields), identity.sign, identity.key).hex() == vector["envelope"]


def test_every_reason_has_a_vector() -> None:
    reasons = {kind.reason for kind in Rejection.__subclasses__()}
    assert {vector["reason"] for vector in REFUSED["vectors"]} == reasons
    assert len({(vector["reason"], vector["name"]) for vector in REFUSED["vectors"]}) == len(REFUSED["vectors"])
    assert len({vector["envelope"] for vector in REFUSED["vectors"]}) == len(REFUSED["vectors"])

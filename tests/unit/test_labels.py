"""Labels that hold lists, and matching."""

from __future__ import annotations

import pytest

from registry_schema.labels import labels_match, spell_list, values_of

MODELS = {"model": "llama3.2:latest", "model.2": "mistral:7b", "gpu": "rtx 3090", "model.x": "no", "models": "no"}


@pytest.mark.parametrize(
    ("where", "matches"),
    [
        ({}, True),
        (None, True),
        ({"model": "llama3.2"}, True),
        ({"model": "llama3.2:latest"}, True),
        ({"model": "mistral:7b"}, True),
        ({"model": "mistral"}, False),  # only `latest` goes without saying
        ({"model": "mistral:7b:latest"}, True),
        ({"model": "no"}, False),
        ({"model": "llama3.2", "gpu": "rtx 3090"}, True),
        ({"model": "llama3.2", "gpu": "none"}, False),
        ({"zone": "x"}, False),
        ({"model": ""}, False),
    ],
)
def test_matching(where: dict[str, str] | None, matches: bool) -> None:
    assert labels_match(MODELS, where) is matches


def test_a_list_is_spelled_and_read_back() -> None:
    assert spell_list("model", ["a", "b", "a", "c"]) == {"model": "a", "model.2": "b", "model.3": "c"}
    assert list(values_of(spell_list("model", ["a", "b"]), "model")) == ["a", "b"]
    assert list(values_of({"model.2": "b", "model": "a"}, "model")) == ["b", "a"]


def test_what_a_manifest_could_not_carry_is_left_out() -> None:
    assert spell_list("model", ["", "a" * 129, "a\x1b[31m", "a\u202eb", "ok"]) == {"model": "ok"}
    assert len(spell_list("model", map(str, range(100)))) == 32
    assert spell_list("k" * 32, ["a", "b"]) == {"k" * 32: "a"}

"""What a request needs, at the same time, each with its own result."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from dragon.astroport.ensure import ensure, exit_code
from dragon.astroport.status_file import StatusFile
from dragon.astroport.tags import needs_of
from dragon.errors import NotRunning
from tests.unit.astroport.control import OWL, FakeControl, provider


def test_each_service_has_its_result_and_its_status_file(tmp_path: Path) -> None:
    control = FakeControl({"ollama": [provider(OWL, "owl")]}, local={"orpheus": 5005})
    results = ensure(needs_of("#pierre #search"), {"ZEN_HOME": str(tmp_path)}, control=lambda: control)
    documents = {str(one["service"]): one for one in (result.document() for result in results)}
    assert list(documents) == ["ollama", "orpheus", "perplexica", "comfyui"]
    assert [documents[name]["ok"] for name in documents] == [True, True, False, False]
    assert [documents[name]["required"] for name in documents] == [True, True, True, False]
    assert [documents[name]["type"] for name in documents] == ["P2P", "LOCAL", None, None]
    assert documents["perplexica"]["message"] == "Could not establish connection to Perplexica API"
    assert documents["perplexica"]["error"] == "nobody offers perplexica"
    assert documents["comfyui"]["tags"] == ["#search"]
    assert StatusFile(tmp_path, "orpheus").read()["CONNECTION_TYPE"] == "LOCAL"
    assert exit_code(results) == 4


def test_a_picture_for_a_search_is_no_condition(tmp_path: Path) -> None:
    control = FakeControl({"ollama": [provider(OWL, "owl")], "perplexica": [provider(OWL, "owl")]})
    results = ensure(needs_of("#search"), {"ZEN_HOME": str(tmp_path)}, control=lambda: control)
    assert [result.ok for result in results] == [True, True, False]
    assert exit_code(results) == 0


def test_without_a_node_the_code_says_so(tmp_path: Path) -> None:
    control = FakeControl()
    control.failure = NotRunning("no node is running", "start one: dragon serve")
    results = ensure(needs_of(""), {"ZEN_HOME": str(tmp_path)}, control=lambda: control)
    assert exit_code(results) == 3
    assert results[0].failure == "Error: Failed to maintain Ollama connection"


def test_they_are_connected_at_the_same_time(tmp_path: Path) -> None:
    together = threading.Barrier(4)

    class Slow(FakeControl):
        def forward(self, slug: str, target: str = "auto", **wishes: Any) -> dict[str, Any]:
            together.wait(30)  # passes only when all four are here
            return super().forward(slug, target, **wishes)

    local = {"ollama": 11434, "comfyui": 8188, "orpheus": 5005, "perplexica": 3002}
    results = ensure(needs_of("#search #amelie"), {"ZEN_HOME": str(tmp_path)}, control=lambda: Slow(local=local))
    assert all(result.ok for result in results)

"""The services' own words against services that answer, answer otherwise, or do not answer at all."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dragon.astroport.asking import ask_json
from dragon.astroport.own import speak
from dragon.astroport.queue import jobs_at, jobs_in
from dragon.astroport.services import service_named
from dragon.astroport.words import Verb
from dragon.errors import LocalError


@contextmanager
def serving(answers: dict[str, tuple[int, bytes]]) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """A service that knows `METHOD path` → (status, body); gives its port and what it was asked."""
    asked: list[tuple[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            line = f"{self.command} {self.path}"
            asked.append((line, json.loads(body) if body else self.headers.get("Accept")))
            status, content = answers.get(line, (404, b"no"))
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def said(name: str, verb: Verb, answers: dict[str, tuple[int, bytes]]) -> tuple[list[str], list[tuple[str, Any]]]:
    with serving(answers) as (port, asked):
        return list(speak(service_named(name), verb, port)), asked


def ok(document: Any) -> tuple[int, bytes]:
    return 200, json.dumps(document).encode()


def test_models() -> None:
    lines, _ = said("ollama", "models", {"GET /api/tags": ok({"models": [{"name": "gemma3:latest"}, {"name": "nomic"}]})})
    assert lines == ["gemma3:latest", "nomic"]
    assert said("ollama", "models", {"GET /api/tags": ok({"models": []})})[0] == ["no model"]


def test_free_unloads_each_loaded_model_of_ollama() -> None:
    answers = {"GET /api/ps": ok({"models": [{"name": "a"}, {"name": "b"}]}), "POST /api/generate": ok({"done": True})}
    lines, asked = said("ollama", "free", answers)
    assert lines == ["unloaded a", "unloaded b"]
    assert [body for line, body in asked if line.startswith("POST")] == [
        {"model": name, "keep_alive": 0, "stream": False} for name in ("a", "b")
    ]
    assert said("ollama", "free", {"GET /api/ps": ok({"models": []})})[0] == ["no model was loaded"]


def test_free_of_comfyui() -> None:
    lines, asked = said("comfyui", "free", {"POST /free": (200, b"")})
    assert lines == ["its models are unloaded, its memory is free"]
    assert asked == [("POST /free", {"unload_models": True, "free_memory": True})]


@pytest.mark.parametrize(
    ("answer", "voices"),
    [
        (ok({"voices": ["pierre", "amelie", "tara"]}), ["pierre", "amelie", "tara"]),
        (ok({"voices": [{"name": "leo"}]}), ["leo"]),
        ((404, b"no"), ["pierre", "amelie"]),
        (ok([1]), ["pierre", "amelie"]),
    ],
)
def test_voices(answer: tuple[int, bytes], voices: list[str]) -> None:
    assert said("orpheus", "voices", {"GET /v1/audio/voices": answer})[0] == voices


def test_stats_of_a_relay() -> None:
    document = {"name": "r", "software": "strfry", "supported_nips": [1, 11], "limitation": {"max_limit": 500}, "icon": 7}
    lines, asked = said("strfry", "stats", {"GET /": ok(document)})
    assert [line.split() for line in lines] == [
        ["name", "r"],
        ["software", "strfry"],
        ["supported_nips", "1", "11"],
        ["max_limit", "500"],
    ]
    assert asked == [("GET /", "application/nostr+json")]


@pytest.mark.parametrize("answer", [(200, b"<html>"), (500, b"{}"), ok([]), ok({"models": "x"}), ok(None)])
def test_another_program_at_the_port_is_told(answer: tuple[int, bytes]) -> None:
    for name, verb, line in (("ollama", "models", "GET /api/tags"), ("ollama", "free", "GET /api/ps")):
        with pytest.raises(LocalError):
            said(name, verb, {line: answer})  # type: ignore[arg-type]
    with pytest.raises(LocalError):
        said("strfry", "stats", {"GET /": answer if answer[1] != b'{"models": "x"}' else (200, b"[]")})


@pytest.mark.parametrize(
    ("document", "jobs"),
    [
        ({"queue_running": [], "queue_pending": []}, 0),
        ({"queue_running": [[1]], "queue_pending": [[2], [3]]}, 3),
        ({"queue_running": [[1]]}, None),
        ({"queue_running": 1, "queue_pending": []}, None),
        ([], None),
        (None, None),
    ],
)
def test_jobs_of_a_comfyui(document: Any, jobs: int | None) -> None:
    assert jobs_in(document) == jobs
    with serving({"GET /queue": ok(document)}) as (port, _):
        assert jobs_at(port) == jobs


def test_nobody_at_the_port() -> None:
    with serving({}) as (port, _):
        pass
    with pytest.raises(LocalError, match=str(port)):
        ask_json(port, "GET", "/")
    assert jobs_at(port) is None

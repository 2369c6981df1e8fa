"""The services' own words, spoken through the connection that stands: MODELS, FREE, VOICES, STATS."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dragon.astroport.asking import UNLOADING, ask_json
from dragon.astroport.services import Service
from dragon.astroport.words import Verb
from dragon.errors import LocalError

KNOWN_VOICES = ("pierre", "amelie")
"""The voices that a station's tags ask for: what is said where Orpheus itself names none."""

Ask = Callable[..., Any]


def speak(service: Service, verb: Verb, port: int, ask: Ask = ask_json) -> Iterator[str]:
    """Yield the lines that a word of `service` answers. Raises `LocalError`."""
    match verb:
        case "models":
            yield from _models(ask(port, "GET", "/api/tags"))
        case "free" if service.slug == "comfyui":
            ask(port, "POST", "/free", {"unload_models": True, "free_memory": True}, timeout=UNLOADING)
            yield "its models are unloaded, its memory is free"
        case "free":
            yield from _unload(port, ask)
        case "voices":
            yield from _voices(port, ask)
        case "stats":
            yield from _relay(ask(port, "GET", "/", accept="application/nostr+json"))


def _models(document: Any) -> Iterator[str]:
    names = _names(document, "models", "name")
    yield from names or ["no model"]


def _unload(port: int, ask: Ask) -> Iterator[str]:
    """Let ollama drop each model it has in memory. Source: ollama's API, `keep_alive` 0 of `/api/generate`."""
    loaded = _names(ask(port, "GET", "/api/ps"), "models", "name")
    for model in loaded:
        ask(port, "POST", "/api/generate", {"model": model, "keep_alive": 0, "stream": False}, timeout=UNLOADING)
        yield f"unloaded {model}"
    if not loaded:
        yield "no model was loaded"


def _voices(port: int, ask: Ask) -> Iterator[str]:
    try:
        document = ask(port, "GET", "/v1/audio/voices")
    except LocalError:
        document = None
    voices = document.get("voices") if isinstance(document, Mapping) else None
    told = [str(each.get("name", each.get("id", ""))) if isinstance(each, Mapping) else str(each) for each in voices or []]
    yield from [voice for voice in told if voice] or KNOWN_VOICES


def _relay(document: Any) -> Iterator[str]:
    """Source: NIP-11, the relay information document."""
    if not isinstance(document, Mapping):
        raise LocalError("the relay tells nothing of itself", "it answers without NIP-11")
    for key in ("name", "description", "software", "version", "pubkey", "contact"):
        if isinstance(value := document.get(key), str) and value:
            yield f"{key:15}  {value}"
    if isinstance(nips := document.get("supported_nips"), list):
        yield f"{'supported_nips':15}  {' '.join(str(each) for each in nips)}"
    for key, value in (document.get("limitation") or {}).items() if isinstance(document.get("limitation"), Mapping) else ():
        yield f"{str(key)[:32]:15}  {value}"


def _names(document: Any, field: str, key: str) -> list[str]:
    listed = document.get(field) if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise LocalError("the answer is not the one that this word expects", "another program may answer there")
    return [str(each[key]) for each in listed if isinstance(each, Mapping) and key in each]

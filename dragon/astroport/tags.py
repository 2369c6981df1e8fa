"""Which services a message needs, by its tags. Pure.

Source: the tags of `IA/UPlanet_IA_Responder.sh`, which asks for ollama before it looks at any of them. Tags that need no
service (`#youtube`, `#mem`, …) and words that are no tags ask for nothing more.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dragon.astroport.words import Verb


@dataclass(frozen=True, slots=True)
class Need:
    """A service that is needed, the word and the tags that ask for it. Not `required`: there is an answer without it, too."""

    service: str
    required: bool
    verb: Verb
    because: tuple[str, ...]


EVERY_ANSWER = Need("ollama", True, "auto", ())
"""Nothing is answered without ollama."""

BY_TAG: Mapping[str, tuple[Need, ...]] = {
    "#search": (
        Need("perplexica", True, "auto", ()),
        Need("comfyui", False, "image", ()),
    ),  # the picture illustrates what was found
    "#image": (Need("comfyui", True, "image", ()),),
    "#video": (Need("comfyui", True, "image", ()),),
    "#music": (Need("comfyui", True, "music", ()),),
    "#pierre": (Need("orpheus", True, "auto", ()),),
    "#amelie": (Need("orpheus", True, "auto", ()),),
}

_TAG = re.compile(r"#\w+")
_WORD = re.compile(r"\w+")


def needs_of(text: str) -> list[Need]:
    """Return what the tags of `text` need, ollama first, each service once. A list of bare words counts as tags."""
    tags = _TAG.findall(text.lower()) or [f"#{word}" for word in _WORD.findall(text.lower())]
    found = {EVERY_ANSWER.service: EVERY_ANSWER}
    for tag in dict.fromkeys(tags):
        for need in BY_TAG.get(tag, ()):
            before = found.get(need.service)
            found[need.service] = Need(
                need.service,
                need.required or (before is not None and before.required),
                "music"
                if "music" in (need.verb, before.verb if before else "")
                else need.verb,  # the stricter of its two words
                (*(before.because if before else ()), tag),
            )
    return list(found.values())

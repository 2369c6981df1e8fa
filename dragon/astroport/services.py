"""What the connection managers know of each service: its name, its messages, its variables, words of its own.

A service without a manager of its own (any slug) gets the common words and plain messages.
Source: `IA/services/*.me.sh` of Astroport.ONE, facts only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dragon.errors import UsageError

_SLUG = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class Service:
    """One service in the eyes of its callers."""

    slug: str
    name: str
    """As messages say it."""
    failure: str
    """The line that its callers look for when there is no connection, word for word."""
    usual_port: int | None = None
    """Where its callers look for it unless told otherwise; None: where the catalogue says."""
    insists: bool = False
    """True where the catalogue's port may be another than `usual_port`: then that one has to be asked for."""
    port_variables: tuple[str, ...] = ()
    """Variables that name the local port, the first that is set counts."""
    url_variable: str = ""
    p2p_port_variable: str = ""
    """The variable that names the local port of a P2P connection only."""
    ssh: bool = True
    """False where the managers never go over SSH."""
    words: tuple[str, ...] = ()
    """Words that only this service has."""


def _failure(name: str) -> str:
    return f"Could not establish connection to {name}"


_KNOWN = {
    service.slug: service
    for service in (
        Service("ollama", "Ollama", "Error: Failed to maintain Ollama connection", 11434,
                port_variables=("OLLAMA_PORT",), words=("MODELS", "FREE", "UNLOAD")),
        Service("comfyui", "ComfyUI", "Erreur : Le port ComfyUI n'est pas accessible", 8188,
                port_variables=("COMFYUI_PORT",), url_variable="COMFYUI_URL", words=("IMAGE", "MUSIC", "FREE")),
        Service("perplexica", "Perplexica", _failure("Perplexica API"), 3002, insists=True,
                port_variables=("PERPLEXICA_PORT",)),
        Service("vane", "Vane", _failure("Perplexica API"), 3002, insists=True,
                port_variables=("PORT_VANE", "VANE_PORT")),
        Service("orpheus", "Orpheus TTS", _failure("any Orpheus TTS API"), 5005,
                port_variables=("ORPHEUS_PORT",), ssh=False, words=("VOICES",)),
        Service("open-webui", "Open WebUI", _failure("Open WebUI"), 8000),
        Service("qdrant", "Qdrant", _failure("Qdrant"), 6333),
        Service("dify", "Dify", _failure("Dify"), 8010, ssh=False),
        Service("mirofish", "MiroFish", _failure("MiroFish"), 5050, port_variables=("PORT_MIROFISH",), ssh=False),
        Service("strfry", "Strfry", _failure("Strfry"), 9999, ssh=False, words=("STATS",)),
    )
}  # fmt: skip

SCRIPT_NAMES = {"dify.ai": "dify"}
"""Scripts that are not called by their slug."""


def service_named(name: str) -> Service:
    """Return what is known of the service that a caller names, in any case; whether it exists is the node's to say.

    Raises `UsageError` for what no service can be called.
    """
    slug = name.strip().lower()
    slug = SCRIPT_NAMES.get(slug, slug)
    if not _SLUG.fullmatch(slug):
        raise UsageError(f"{name!r} is not the name of a service", "for example: dragon me ollama")
    known = _KNOWN.get(slug) or Service(slug, slug, _failure(slug))
    if known.p2p_port_variable:
        return known
    from dataclasses import replace

    return replace(known, p2p_port_variable=f"{slug.upper().replace('-', '_')}_P2P_PORT")

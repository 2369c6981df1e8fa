"""How a daemon's API is reached: one parsed value from the spellings that people and Kubo write."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dragon.errors import ConfigError

_TCP = re.compile(r"/(ip4|ip6|dns|dns4|dns6)/([^/]+)/tcp/(\d{1,5})(?:/(https?))?/?")
_HINT = "write it as /ip4/127.0.0.1/tcp/5001, /unix/run/user/1000/ipfs.sock or http://host:5001"


@dataclass(frozen=True, slots=True)
class ApiAddress:
    """`url` ends before `/api/v0`; `socket` is the path of a unix socket or None; `multiaddr` is for ipfshttpclient."""

    url: str
    socket: str | None
    multiaddr: str

    @property
    def port(self) -> int | None:
        """The TCP port, None on a unix socket."""
        return None if self.socket else urlsplit(self.url).port

    def __str__(self) -> str:
        return f"/unix{self.socket}" if self.socket else self.multiaddr


def parse_address(text: str) -> ApiAddress:
    """Return the API address that `text` spells: a multiaddr (TCP or unix) or an http(s) URL. Raises `ConfigError`."""
    text = text.strip()
    if text.startswith("/unix/"):
        path = "/" + text.removeprefix("/unix").lstrip("/")  # /unix//run/x.sock too, as `/unix/` before a whole path makes it
        return ApiAddress("http://kubo", path, f"/unix{path}")
    match = _TCP.fullmatch(text)
    if match:
        kind, host, port, scheme = match[1], match[2], int(match[3]), match[4] or "http"
    else:
        parts = urlsplit(text)
        try:
            host, port, scheme = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80), parts.scheme
        except ValueError:
            host = scheme = ""
            port = 0
        kind = "ip6" if ":" in host else "ip4" if re.fullmatch(r"[\d.]+", host) else "dns"
        if scheme not in ("http", "https") or not host or parts.path.rstrip("/") not in ("", "/api/v0"):
            raise ConfigError(f"not an address of a Kubo API: {text!r}", _HINT)
    if not 0 < port <= 65535:
        raise ConfigError(f"not an address of a Kubo API: {text!r} (port {port})", _HINT)
    shown = f"[{host}]" if kind == "ip6" else host
    suffix = "/https" if scheme == "https" else ""
    return ApiAddress(f"{scheme}://{shown}:{port}", None, f"/{kind}/{host}/tcp/{port}{suffix}")


def authorization(auth: str | None) -> str | None:
    """Return the HTTP `Authorization` header for Kubo's own spelling of a secret, None for none.

    `bearer:TOKEN`, `basic:USER:PASSWORD` or `basic:BASE64` as in `API.Authorizations.*.AuthSecret`; without a known
    prefix a token is meant, as Kubo does.
    """
    if not auth:
        return None
    kind, colon, value = auth.partition(":")
    if kind == "basic" and colon:
        plain = ":" in value
        return "Basic " + (base64.b64encode(value.encode()).decode() if plain else value)
    return "Bearer " + (value if kind == "bearer" and colon else auth)

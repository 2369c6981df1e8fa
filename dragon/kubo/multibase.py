"""The one multibase spelling that Kubo's RPC uses for topics and binary data: base64url without padding, prefix `u`."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode


def encode(data: bytes) -> str:
    """Return `u` and the base64url of `data`, as pubsub arguments need it."""
    return "u" + urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Return the bytes behind `text`; `ValueError` for any other base and for a foreign character."""
    if not text.startswith("u"):
        raise ValueError(f"not base64url multibase: {text[:16]!r}")
    body = text[1:].encode("ascii")
    # Python's decoder drops foreign characters silently; one spelling must have one meaning
    data = urlsafe_b64decode(body + b"=" * (-len(body) % 4))
    if encode(data) != text:
        raise ValueError(f"not canonical base64url: {text[:16]!r}")
    return data

"""Who may call the control API over TCP: one pure check (THREATS row 15).

A web page in the operator's browser can reach loopback. It cannot set a foreign `Host` for us to accept (DNS rebinding ends
here), cannot hide its `Origin`, cannot send JSON without a preflight that we never grant, and does not know the token.
The Unix socket needs none of this: its folder and mode admit this user alone, and no browser can open it.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

LOOPBACK_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")

READING: Final = frozenset({"GET", "HEAD"})
WRITING: Final = frozenset({"POST", "DELETE"})


@dataclass(frozen=True, slots=True)
class Caller:
    """What a request over TCP says of itself; None where the header is absent."""

    method: str
    host: str | None
    origin: str | None
    authorization: str | None
    content_type: str | None


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    error: str
    hint: str


def refusal(caller: Caller, *, port: int, token: str) -> Refusal | None:
    """Return why `caller` may not enter at loopback `port`, or None when it may."""
    names = {f"{name}:{port}" for name in LOOPBACK_NAMES}
    if (caller.host or "").lower() not in names:
        return Refusal(421, "this host name is not served", f"call http://127.0.0.1:{port}")
    if caller.origin is not None and caller.origin.lower() not in {f"http://{name}" for name in names}:
        return Refusal(403, "requests from other web sites are refused", "open the page from this node itself")
    if caller.method not in READING | WRITING:
        return Refusal(405, f"{caller.method} is not served", "use GET, POST or DELETE")
    scheme, _, given = (caller.authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        return Refusal(
            401, "the token is missing or wrong", "send `Authorization: Bearer <token>`; it is in DRAGON_HOME/api.token"
        )
    if caller.method in WRITING and (caller.content_type or "").split(";")[0].strip().lower() != "application/json":
        return Refusal(415, "only JSON is taken", "send `Content-Type: application/json`")
    return None

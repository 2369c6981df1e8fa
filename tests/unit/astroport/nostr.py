"""Signed events as stations write them, and hostile ones."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from typing import Any

from pynostr.event import Event
from pynostr.key import PrivateKey

from dragon.astroport.station_keys import KIND

UPLANET = "g1Testplanet"
NOW = 1_800_000_000


def author(name: str) -> PrivateKey:
    """The same key for the same name, always."""
    return PrivateKey(hashlib.sha256(name.encode()).digest())


def ssh_key(name: str = "station", comment: str = "captain@station") -> str:
    """An OpenSSH public line. No private key belongs to it."""
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + hashlib.sha256(name.encode()).digest()
    return f"ssh-ed25519 {b64encode(blob).decode()} {comment}"


def report(node_id: str, by: PrivateKey, *, at: int = NOW, kind: int = KIND, without: str = "", **tags: str) -> dict[str, Any]:
    """A station's report, signed."""
    said = {"d": f"economic-health-{node_id}", "swarm_id": UPLANET, "station": node_id, "ssh_pub": ssh_key(node_id), **tags}
    event = Event(
        content="{}", pubkey=by.public_key.hex(), created_at=at, kind=kind,
        tags=[[name, value] for name, value in said.items() if name != without],
    )  # fmt: skip
    event.sign(by.hex())
    return dict(event.to_dict())

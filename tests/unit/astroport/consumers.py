"""Those who read what is laid, as bash programs of our own (`consumers/*.sh`), and stations for them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dragon.astroport.facts import StationFacts
from dragon.registry.entry import NodeView, State, Trust
from registry_schema import Manifest, Offer, make_offer
from tests.unit.registry_schema.samples import NOW_MS, minimal

SCRIPTS = Path(__file__).with_name("consumers")
NOW = NOW_MS / 1000

STATION: Mapping[str, str | int] = {
    "hex": "a" * 64,
    "captain_hex": "b" * 64,
    "captain": "cap@example.org",
    "relay": "ws://127.0.0.1:7777",
    "uspot": "http://127.0.0.1:54321",
    "uplanet": "g1" + "x" * 47,
    "paf": 14,
    "ncard": 1,
    "zcard": 4,
    "power_score": 42,
    "value_ratio": "1.5",
    "ssh_user": "frd",
    "latitude": "43.60",
    "longitude": "1.44",
    "channel": "k51qzi5uqu5dh71qgwangrt6r0nd4094i88nsady6qgd1dhjcyfsaz7zpc0pn9",
}
"""What a station says in its manifest."""

USUAL = {"comfyui": 8188, "ollama": 11434, "ssh": 22, "strfry": 7777}
SCHEMES = {"comfyui": "http", "ollama": "http", "ssh": "ssh", "strfry": "ws"}


def offers_of(node_id: str, *slugs: str) -> tuple[Offer, ...]:
    return tuple(make_offer(slug, node_id, USUAL[slug], scheme=SCHEMES[slug]) for slug in sorted(slugs))


def seen(
    manifest: Manifest, *, state: State = "live", trust: Trust = "signed", last_seen: float = 3.0, **other: Any
) -> NodeView:
    """A node as the view shows it."""
    fields: dict[str, Any] = {"known": True, "is_self": False, **other}
    return NodeView(
        node_id=manifest.node, alias=manifest.alias, state=state, trust=trust, last_seen=last_seen, sequence=manifest.sequence,
        source="pubsub", manifest=manifest, reason="", equivocated=False, **fields,
    )  # fmt: skip


def station(node_id: str, *slugs: str, alias: str = "owl", **fields: str | int) -> NodeView:
    """A station that offers `slugs`; `fields` over those of `STATION`."""
    return seen(minimal(node_id, alias=alias, offers=offers_of(node_id, *slugs), station={**STATION, **fields}))


def facts(node_id: str, **fields: Any) -> StationFacts:
    """Facts of a station in use; `fields` override."""
    return StationFacts(
        **{
            "node_id": node_id, "hostname": "owl", "user": "frd", "hex": "a" * 64, "captain": "cap@example.org",
            "captain_hex": "b" * 64, "channel": str(STATION["channel"]), "power_score": 42, "latitude": "43.60",
            "longitude": "1.44", "addresses": ("/ip4/192.0.2.7/tcp/4001",), **fields,
        }
    )  # fmt: skip


def ask(
    consumer: str, zen: Path, *words: str, path: str = "", variables: Mapping[str, str] | None = None
) -> tuple[int, list[str]]:
    """Run a consumer on `zen` and return its exit code and what it printed; whatever it says on stderr fails the test.

    `path`: a folder that comes before the usual ones on its PATH.
    """
    environ = {
        "PATH": os.pathsep.join(filter(None, (path, os.environ["PATH"]))),
        "ZEN_HOME": str(zen),
        "HOME": str(zen.parent),
        "NOW": str(int(NOW)),
        "LC_ALL": "C.UTF-8",
        **(variables or {}),
    }
    command = ["bash", str(SCRIPTS / f"{consumer}.sh"), *words]
    done = subprocess.run(command, env=environ, cwd="/", capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()

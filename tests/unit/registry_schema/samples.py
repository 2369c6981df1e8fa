"""A few manifests by hand, for tests and vectors."""

from __future__ import annotations

from typing import Any

from registry_schema import Agent, Manifest, make_offer
from tests.unit.registry_schema.identities import ALICE

NOW_MS = 1_800_000_000_000
SWARM = "dragon"


def minimal(node_id: str = ALICE.node_id, **fields: Any) -> Manifest:
    """The least a node can say; `fields` override."""
    defaults: dict[str, Any] = {
        "node": node_id,
        "swarm": SWARM,
        "sequence": NOW_MS,
        "ttl": 90,
        "alias": "station-1",
        "version": "0.1.0",
        "offers": (),
        "labels": {},
        "capacity": {},
        "load": 0,
        "agents": (),
        "digest": (),
        "station": {},
        "leaving": False,
    }
    return Manifest(**{**defaults, **fields})


def usual(node_id: str = ALICE.node_id, **fields: Any) -> Manifest:
    """What a station of the mission says: three offers, labels, capacity, a digest."""
    return minimal(
        node_id,
        **{
            "offers": (
                make_offer("comfyui", node_id, 8188, scheme="http", sticky=True, labels={"gpu": "NVIDIA GeForce RTX 4090"}),
                make_offer("ollama", node_id, 11434, scheme="http", labels={"model": "llama3.2:latest", "model.2": "phi4:14b"}),
                make_offer("ssh", node_id, 22, scheme="ssh"),
            ),
            "labels": {"city": "Toulouse"},
            "capacity": {"cores": 16, "memory_mb": 65536, "gpu_vram_mb": 24564},
            "load": 125,
            "digest": tuple(bytes([bucket]) * 8 for bucket in range(16)),
            **fields,
        },
    )


def full(node_id: str = ALICE.node_id) -> Manifest:
    """Every field in use."""
    return usual(
        node_id,
        agents=(Agent(name="bro", role="answers questions", labels={"lang": "fr"}),),
        station={
            "hex": "a" * 64,
            "captain_hex": "b" * 64,
            "captain": "captain@example.org",
            "relay": "wss://relay.example.org/?a=1&b=2",
            "uplanet": "EnfinLibre",
            "uspot": "http://127.0.0.1:54321",
            "paf": 14,
            "ncard": 3,
            "zcard": 1,
            "power_score": 42,
            "value_ratio": "1.5",
            "veteran_days": 12,
            "tier": "brain",
            "ssh_pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAtest captain@station",
            "ssh_user": "station",
            "level": "Y",
            "latitude": "43.60",
            "longitude": "-1.44",
            "g1pub": "5fTwfemRLAXcdATYwNpvhUKnYaGQkXCBKcAEBDWNm8Pn",
            "channel": "k51qzi5uqu5dh71qgwangrt6r0nd4094i88nsady6qgd1dhjcyfsaz7zpc0pn9",
        },
    )

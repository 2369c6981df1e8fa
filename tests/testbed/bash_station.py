"""What a station that only runs the Bash scripts lays into its balise, written from the facts (ASTROPORT 1.6, 2.2, 2.3)."""

from __future__ import annotations

import json
from typing import Any

from dragon.connect.station_port import station_port

CHANNEL = "k51qzi5uqu5dkkciu33khkzbcmxtyhn2hgdqyp6rv7s5egjlsdj6a2xpz9lxvz"


def script(node_id: str, slug: str, native: int, *, user: str = "", more: str = "") -> str:
    """Return an x_<slug>.sh: literal lines first, then what a shell would do with them."""
    remote = f'REMOTE_USER="{user}"\n' if user else ""
    return f"""#!/bin/bash
########################################################################
# Connexion au service {slug} : « tunnel » P2P
NODE_ID="{node_id}"
PROTO="/x/{slug}-{node_id}"
{remote}NATIVE_PORT="{native}"
ALT_PORT="{station_port(node_id, slug)}"
{more}
[[ "$NATIVE_PORT" -lt 1024 ]] && LPORT="$ALT_PORT" || LPORT="$NATIVE_PORT"
export LPORT
ipfs --timeout=5s ping -n 2 "/p2p/$NODE_ID" >/dev/null || {{ echo "ERREUR : Station injoignable."; exit 1; }}
ipfs p2p forward "$PROTO" "/ip4/127.0.0.1/tcp/$LPORT" "/p2p/$NODE_ID"
"""


def document(node_id: str, created: int, slugs: str = "", **changes: Any) -> dict[str, Any]:
    """Return a 12345.json: nearly all values are texts, numbers too."""
    return {
        "version": "12345.0.2",
        "created": str(created),
        "hostname": "vm.localhost",
        "myIP": "10.77.0.1",
        "myASTROPORT": "http://127.0.0.1:12345",
        "myIPFS": "http://127.0.0.1:8080",
        "myRELAY": "ws://127.0.0.1:7777",
        "uSPOT": "http://127.0.0.1:54321",
        "ipfsnodeid": node_id,
        "g1station": f"http://127.0.0.1:8080/ipns/{node_id}",
        "g1swarm": f"http://127.0.0.1:8080/ipns/{CHANNEL}",
        "captain": "captain+vm@example.org",
        "captainHEX": "ab" * 32,
        "SSHPUB": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBVZ0m1J1c9dYH0hA8mOeZ0Jt2KcX9m6vYb1M3tQ2nXk captain@vm",
        "NODEHEX": "cd" * 32,
        "NODEG1PUB": "g1" + "K" * 46,
        "STATION_LAT": "43.60",
        "STATION_LON": "1.44",
        "UPLANETG1PUB": "g1" + "U" * 46,
        "PAF": "9",
        "NCARD": "1",
        "ZCARD": "4",
        "dragon_services": slugs,
        "boots": [],
        "economy": {"multipass_count": 2, "risk_level": "GREEN"},
        "capacities": {"power_score": 41.5, "provider_tier": "brain-gpu", "gpu": {"detected": True, "vram_gb": 8}},
        **changes,
    }


def balise(
    node_id: str, at: int, services: dict[str, int] | None = None, *, user: str = "pi", **changes: Any
) -> dict[str, bytes]:
    """Return file name → bytes of a station's directory; `at` in Unix seconds, `services` slug → native port."""
    offered = {"ssh": 22, "ollama": 11434} if services is None else services
    files = {
        "_MySwarm.moats": f"{at}\n",
        "_MySwarm.staom": "Fri Nov 27 03:00:00 UTC 2026\n",
        "_MySwarm.vm.html": f'<meta http-equiv="refresh" content="0; url=/ipns/{CHANNEL}">\n',
        "myIPFS.txt": f"/ip4/10.77.0.1/udp/4001/p2p/{node_id}\n",
        "12345.json": json.dumps(document(node_id, at, ",".join(offered), **changes)),
        "y_ssh.pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBVZ0m1J1c9dYH0hA8mOeZ0Jt2KcX9m6vYb1M3tQ2nXk captain@vm\n",
    }
    for slug, port in offered.items():
        files[f"x_{slug}.sh"] = script(node_id, slug, port, user=user if slug == "ssh" else "")
    return {name: text.encode() for name, text in files.items()}

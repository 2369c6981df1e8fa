"""The configuration of a managed daemon. Pure: Kubo's config in, Kubo's config out; applied at each start.

Three networks: *public* is what `ipfs init` chooses; *closed* (a swarm key) has no public servers of any kind and speaks TCP
only, since QUIC knows no private networks; *isolated* also listens on loopback only and looks for nobody by itself.
All keys that differ between them are always written, so that a repo can change from one to another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from dragon.errors import ConfigError
from dragon.kubo.types import loopback_target, tcp_port

Network = Literal["public", "closed", "isolated"]

SWARM_KEY_HEAD = "/key/swarm/psk/1.0.0/"
"""First line of every swarm.key file."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where the daemon listens: its API on loopback, libp2p on TCP (and UDP where the network allows)."""

    api: int
    swarm: int


def ports_of(config: Mapping[str, Any]) -> Ports | None:
    """Return the ports that a config of ours already names, None for a fresh one.

    A fresh one names Kubo's well-known ports: those are left to a Kubo that people start themselves, now or later.
    """
    addresses = config.get("Addresses", {})
    if addresses.get("Gateway") != []:  # every config of ours closes it
        return None
    swarm = addresses.get("Swarm") or [""]
    api, tcp = tcp_port(str(addresses.get("API", ""))), tcp_port(str(swarm[0]))
    return Ports(api, tcp) if api and tcp else None


def network_of(*, isolated: bool, closed: bool) -> Network:
    return "isolated" if isolated else "closed" if closed else "public"


def configured(config: Mapping[str, Any], ports: Ports, network: Network) -> dict[str, Any]:
    """Return `config` with everything a Dragon needs switched on, for this network; what we do not name stays as it was."""
    public = network == "public"
    changes: dict[str, Any] = {
        "Experimental": {"Libp2pStreamMounting": True},
        "Pubsub": {"Enabled": True},
        "Ipns": {"UsePubsub": True, "DelegatedPublishers": ["auto"] if public else []},
        "Addresses": {"API": loopback_target(ports.api), "Gateway": [], "Swarm": swarm_addresses(ports.swarm, network)},
        "Bootstrap": ["auto"] if public else [],
        "AutoConf": {"Enabled": public},
        "AutoTLS": {"Enabled": False},  # it would register a public DNS name for the node
        "DNS": {"Resolvers": {".": "auto"} if public else {}},
        "Routing": {
            "Type": {"public": "auto", "closed": "dht", "isolated": "dhtserver"}[network],
            "DelegatedRouters": ["auto"] if public else [],
            "LoopbackAddressesOnLanDHT": network == "isolated",
        },
        "HTTPRetrieval": {"Enabled": public},
        "Discovery": {"MDNS": {"Enabled": network != "isolated"}},
        "Swarm": {
            "RelayClient": {"Enabled": network != "isolated"},
            "EnableHolePunching": network != "isolated",  # needs the relay client
            "DisableNatPortMap": network == "isolated",
        },
        "Plugins": {"Plugins": {"telemetry": {"Config": {"Mode": "off"}}}},
    }
    return _laid_over(config, changes)


def swarm_addresses(port: int, network: Network) -> list[str]:
    """Return the multiaddrs to listen on, TCP on IPv4 first."""
    if network == "isolated":
        return [loopback_target(port)]
    tcp = [f"/ip4/0.0.0.0/tcp/{port}", f"/ip6/::/tcp/{port}"]
    udp = [f"/ip4/0.0.0.0/udp/{port}/quic-v1", f"/ip6/::/udp/{port}/quic-v1"]
    return tcp + udp if network == "public" else tcp


def check_swarm_key(text: str, source: object) -> str:
    """Return the text of a swarm.key file; `ConfigError` when it is none."""
    lines = text.split()
    encodings = {"/base16/": 64, "/base64/": 44, "/bin/": 32}
    if len(lines) != 3 or lines[0] != SWARM_KEY_HEAD or len(lines[2]) != encodings.get(lines[1]):
        raise ConfigError(
            f"{source} is not a Kubo swarm key",
            f"three lines are expected: {SWARM_KEY_HEAD}, /base16/ and 64 hex digits",
        )
    return "\n".join(lines) + "\n"


def _laid_over(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(config)
    for key, value in changes.items():
        before = result.get(key)
        if isinstance(value, Mapping) and key != "Resolvers":  # an empty table of resolvers means none, not "as it was"
            value = _laid_over(before if isinstance(before, Mapping) else {}, value)
        result[key] = value
    return result

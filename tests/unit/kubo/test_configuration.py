"""What a managed daemon's config says for each kind of network."""

from __future__ import annotations

from typing import Any

import pytest

from dragon.errors import ConfigError
from dragon.kubo.configuration import Network, Ports, check_swarm_key, configured, network_of, ports_of

FRESH: dict[str, Any] = {
    "Identity": {"PeerID": "12D3KooWx", "PrivKey": "secret"},
    "Addresses": {"API": "/ip4/127.0.0.1/tcp/5001", "Swarm": [], "Announce": []},
    "Bootstrap": ["auto"],
    "DNS": {"Resolvers": {".": "auto"}},
    "Routing": {"DelegatedRouters": ["auto"]},
    "Swarm": {"ConnMgr": {"HighWater": 40}, "RelayClient": {}},
    "Plugins": {"Plugins": None},
}
PORTS = Ports(5101, 4101)
NETWORKS: list[Network] = ["public", "closed", "isolated"]


def texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("network", NETWORKS)
def test_what_every_network_has(network: Network) -> None:
    config = configured(FRESH, PORTS, network)
    assert config["Experimental"]["Libp2pStreamMounting"]
    assert config["Pubsub"]["Enabled"]
    assert config["Ipns"]["UsePubsub"]
    assert config["Addresses"]["API"] == "/ip4/127.0.0.1/tcp/5101"
    assert config["Addresses"]["Gateway"] == []
    assert config["Plugins"]["Plugins"]["telemetry"]["Config"]["Mode"] == "off"
    assert config["Identity"] == FRESH["Identity"]
    assert config["Swarm"]["ConnMgr"] == {"HighWater": 40}
    assert ports_of(config) == PORTS
    assert configured(config, PORTS, network) == config
    assert FRESH["Plugins"] == {"Plugins": None}


@pytest.mark.parametrize("before", NETWORKS)
@pytest.mark.parametrize("after", NETWORKS)
def test_a_repo_can_change_its_network(before: Network, after: Network) -> None:
    assert configured(configured(FRESH, PORTS, before), PORTS, after) == configured(FRESH, PORTS, after)


def test_the_isolated_one_knows_nobody_and_listens_on_loopback() -> None:
    config = configured(FRESH, PORTS, "isolated")
    assert config["Addresses"]["Swarm"] == ["/ip4/127.0.0.1/tcp/4101"]
    assert "auto" not in texts(config)
    assert (config["Bootstrap"], config["DNS"]["Resolvers"], config["Routing"]["DelegatedRouters"]) == ([], {}, [])
    assert not config["AutoConf"]["Enabled"]
    assert not config["Discovery"]["MDNS"]["Enabled"]
    assert not config["HTTPRetrieval"]["Enabled"]
    assert not config["Swarm"]["RelayClient"]["Enabled"]


def test_the_closed_one_uses_no_public_server_and_no_quic() -> None:
    config = configured(FRESH, PORTS, "closed")
    assert "auto" not in texts(config)
    assert not any("udp" in address for address in config["Addresses"]["Swarm"])
    assert config["Discovery"]["MDNS"]["Enabled"]


def test_the_public_one_is_as_kubo_ships_it() -> None:
    config = configured(FRESH, PORTS, "public")
    assert config["Bootstrap"] == ["auto"]
    assert config["DNS"]["Resolvers"] == {".": "auto"}
    assert "/ip4/0.0.0.0/udp/4101/quic-v1" in config["Addresses"]["Swarm"]


def test_networks() -> None:
    assert network_of(isolated=True, closed=True) == "isolated"
    assert network_of(isolated=False, closed=True) == "closed"
    assert network_of(isolated=False, closed=False) == "public"
    assert ports_of({}) is None
    fresh = {"API": "/ip4/127.0.0.1/tcp/5001", "Gateway": "/ip4/127.0.0.1/tcp/8080", "Swarm": ["/ip4/0.0.0.0/tcp/4001"]}
    assert ports_of({"Addresses": fresh}) is None  # Kubo's well-known ports are left to people's own daemons
    assert ports_of({"Addresses": {"API": [], "Swarm": []}}) is None


@pytest.mark.parametrize("text", ["", "/key/swarm/psk/1.0.0/\n/base16/\nabc\n", "/key/swarm/psk/1.0.0/\n/rot13/\n" + "a" * 64])
def test_swarm_keys(text: str) -> None:
    good = "/key/swarm/psk/1.0.0/\n/base16/\n" + "0f" * 32
    assert check_swarm_key(good, "swarm.key") == good + "\n"
    with pytest.raises(ConfigError, match=r"swarm\.key is not a Kubo swarm key"):
        check_swarm_key(text, "swarm.key")

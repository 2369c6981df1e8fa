"""What a caller's environment asks for: ports, switches, where its station lies. Pure: variables in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from dragon.astroport.services import Service
from dragon.astroport.zen import zen_home
from dragon.errors import UsageError

_OFF = frozenset({"false", "0", "no", "off"})
_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True)
class Environment:
    """`port`: the local port that callers will look at, where that is not the usual one; `p2p_port`: only of a P2P connection.

    `p2p`, `discovery`, `balance`: IPFS_P2P_ENABLED, SWARM_DISCOVERY_ENABLED, LOAD_BALANCING_ENABLED.
    """

    zen: Path
    port: int | None = None
    p2p_port: int | None = None
    p2p: bool = True
    discovery: bool = True
    balance: bool = True

    @property
    def without_p2p(self) -> str:
        """Return the variable that keeps us from the swarm, "" when nothing does."""
        if not self.p2p:
            return "IPFS_P2P_ENABLED=false"
        return "" if self.discovery else "SWARM_DISCOVERY_ENABLED=false"


def read(variables: Mapping[str, str], service: Service) -> Environment:
    """Return what `variables` ask for `service`. Raises `UsageError` naming the variable that is off."""
    port = next((found for name in service.port_variables if (found := _port(variables, name))), None)
    if port is None and service.url_variable:
        port = _port_of_url(variables, service.url_variable)
    p2p_port = _port(variables, service.p2p_port_variable)
    return Environment(
        zen=zen_home(variables),
        port=None if port == service.usual_port else port,
        p2p_port=None if p2p_port == service.usual_port else p2p_port,
        p2p=_switch(variables, "IPFS_P2P_ENABLED"),
        discovery=_switch(variables, "SWARM_DISCOVERY_ENABLED"),
        balance=_switch(variables, "LOAD_BALANCING_ENABLED"),
    )


def _switch(variables: Mapping[str, str], name: str) -> bool:
    return variables.get(name, "").strip().lower() not in _OFF


def _port(variables: Mapping[str, str], name: str) -> int | None:
    text = variables.get(name, "").strip()
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 65535:
        return int(text)
    raise UsageError(f"{name}={text!r} is no port", "a port is a number from 1 to 65535; unset it to take the usual one")


def _port_of_url(variables: Mapping[str, str], name: str) -> int | None:
    """Return the port of a URL of this machine. One of another machine is none of our connections, so it asks nothing of us."""
    text = variables.get(name, "").strip()
    try:
        parts = urlsplit(text)
        return parts.port if parts.hostname in _HERE else None
    except ValueError:
        raise UsageError(
            f"{name}={text!r} is no URL", "for example http://127.0.0.1:8188; unset it to take the usual one"
        ) from None

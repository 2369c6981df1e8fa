"""Under which addresses a node is best reached: for `myIPFS.txt`, which other stations dial. Pure. Source: ASTROPORT D33."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable

_ADDRESS = re.compile(r"(?P<bare>/ip[46]/(?P<ip>[0-9a-f.:]+)/(?P<transport>tcp/\d{1,5}|udp/\d{1,5}/quic-v1))(?:/p2p/\w+)?")


def best_first(addresses: Iterable[str]) -> tuple[str, ...]:
    """Return Kubo's addresses without `/p2p/…`: public before private before loopback, IPv4 before IPv6, TCP before QUIC.

    TCP first because a private network (swarm.key) has nothing else. What leads through a relay, or is no plain address (a
    name, WebTransport, WebRTC), is left out: scripts of others cannot use it.
    """
    ranked = []
    for address in addresses:
        if match := _ADDRESS.fullmatch(address):
            try:
                ip = ipaddress.ip_address(match["ip"])
            except ValueError:
                continue
            ranked.append((not ip.is_global, ip.is_loopback, ip.version, "udp" in match["transport"], match["bare"]))
    return tuple(dict.fromkeys(each[-1] for each in sorted(ranked)))

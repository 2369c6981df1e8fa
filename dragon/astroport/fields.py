"""What of a station's facts goes into its manifest, for everybody: an allow-list, without addresses. Pure.

A relay or page is named only where its name is public or means "through the tunnel" (a loopback address); the address of a
machine in somebody's house is not (THREATS 24). What does not fit the manifest's grammar is left out.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from dragon.astroport.beacon import PRICES
from dragon.astroport.facts import StationFacts
from dragon.astroport.scripts import is_login
from registry_schema.limits import MAX_NUMBER
from registry_schema.manifest import STATION_FIELDS
from registry_schema.texts import clean_text


def manifest_fields(facts: StationFacts, *, captain: bool) -> dict[str, str | int]:
    """Return the `station` map of the manifest; the captain's mail address only with `captain`."""
    said: dict[str, str | int | None] = {
        "hex": facts.hex,
        "captain_hex": facts.captain_hex,
        "captain": facts.captain if captain else "",
        "relay": _public(facts.relay),
        "uspot": _public(facts.uspot),
        "uplanet": facts.uplanet,
        "paf": _whole(facts.paf or PRICES["PAF"]),  # as its own 12345.json says
        "ncard": _whole(facts.ncard or PRICES["NCARD"]),
        "zcard": _whole(facts.zcard or PRICES["ZCARD"]),
        "power_score": facts.power_score,
        "value_ratio": facts.value_ratio,
        "veteran_days": facts.veteran_days,
        "tier": facts.tier,
        "ssh_pub": " ".join(facts.keys.best.split(" ")[:2]),  # the key; its comment names a person and a machine
        "ssh_user": facts.user if is_login(facts.user) else "",
        "level": facts.keys.level or "",
        "latitude": facts.latitude,
        "longitude": facts.longitude,
        "g1pub": facts.g1pub,
        "channel": facts.channel,
    }
    return {key: value for key, value in said.items() if value is not None and value != "" and _fits(key, value)}


def _fits(key: str, value: str | int) -> bool:
    if type(value) is not STATION_FIELDS.get(key):
        return False
    return clean_text(value) == value if isinstance(value, str) else abs(value) <= MAX_NUMBER


def _whole(number: str) -> int:
    """Return a price as a whole number: the manifest has no fractions."""
    return round(float(number))


def _public(url: str) -> str:
    """Return `url` where its host is a public name or this machine, "" where it is anybody's address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return ""
    if parts.username or parts.password or parts.scheme not in ("http", "https", "ws", "wss"):
        return ""
    try:
        return url if ipaddress.ip_address(host).is_loopback else ""
    except ValueError:
        is_local = host == "localhost"
        return url if is_local or ("." in host and not host.endswith((".local", ".lan", ".home", ".internal"))) else ""

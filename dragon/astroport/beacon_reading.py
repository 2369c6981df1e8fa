"""What a foreign 12345.json may say: a bounded parse, an allow-list of keys, a grammar for each value. Pure. THREATS 19.

Source: ASTROPORT facts 2.3. Most values are texts, also the numbers; what does not fit is dropped and named, never repaired.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from dragon.astroport.reading import Unreadable, is_slug, text_of
from registry_schema.ids import is_node_id
from registry_schema.limits import MAX_NUMBER, MAX_OFFERS
from registry_schema.texts import clean_text

MAX_BEACON: Final = 128 * 1024
"""Bytes of a 12345.json: full ones have some ten thousand."""

MAX_DEPTH: Final = 16
"""Nesting in a 12345.json: full ones have four levels."""

_STRUCTURE = re.compile(r'[\[\]{}"\\]')
_HEX = re.compile(r"[0-9a-f]{64}")
_MAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}")
_G1 = re.compile(r"g1[1-9A-HJ-NP-Za-km-z]{40,60}|[1-9A-HJ-NP-Za-km-z]{43,44}")
_WS = re.compile(r"wss?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]{0,253}(?:/[A-Za-z0-9._/-]{0,128})?")
_HTTP = re.compile(r"https?://[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]{0,253}(?:/[A-Za-z0-9._/-]{0,128})?")
_CHANNEL = re.compile(r"(?:[A-Za-z0-9.:/\[\]-]{0,255}/ipns/)?(k51[a-z0-9]{40,80}|12D3KooW[1-9A-HJ-NP-Za-km-z]{44})")
_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_SSH = re.compile(
    r"((?:ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)) [A-Za-z0-9+/]{16,980}={0,2})(?: [^\x00-\x1f\x7f]{0,256})?"
)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]{0,31}")
_TIERS = frozenset({"light", "standard", "brain-cpu", "brain-gpu"})


@dataclass(frozen=True, slots=True)
class Beacon:
    """What a 12345.json says, as far as it fits. `station` uses the manifest's own names (`STATION_FIELDS`)."""

    node_id: str
    hostname: str = ""
    version: str = ""
    slugs: tuple[str, ...] = ()
    """`dragon_services`, ascending, each once."""
    station: Mapping[str, str | int] = field(default_factory=dict)
    dropped: tuple[str, ...] = ()
    """Keys whose values were outside their grammar."""


def read_beacon(data: bytes) -> Beacon:
    """Return what a 12345.json says. Values outside their grammar are dropped and named; keys beyond the list do not count."""
    if len(data) > MAX_BEACON:
        raise Unreadable("beacon-large", f"a 12345.json of more than {MAX_BEACON} bytes")
    text = text_of(data, "beacon")
    if _is_deep(text):
        raise Unreadable("beacon-deep", f"a 12345.json of more than {MAX_DEPTH} levels")
    try:
        document = json.loads(text)
    except ValueError:  # also a number of thousands of digits
        raise Unreadable("beacon-json", "the 12345.json is not JSON") from None
    node_id = document.get("ipfsnodeid") if isinstance(document, dict) else None
    if not isinstance(node_id, str) or not is_node_id(node_id):
        raise Unreadable("beacon-id", "the 12345.json names no node")
    station: dict[str, str | int] = {}
    dropped: list[str] = []
    capacities = document.get("capacities")
    for source, table in ((document, _FIELDS), (capacities if isinstance(capacities, dict) else {}, _CAPACITIES)):
        for key, (name, read) in table.items():
            given = source.get(key)
            if given is None or given == "":
                continue
            value = read(given)
            if value is None:
                dropped.append(key)
            else:
                station[name] = value
    slugs, is_clean = _slugs(document.get("dragon_services"))
    if not is_clean:
        dropped.append("dragon_services")
    hostname, version = _matching(_HOST)(document.get("hostname")), _matching(_VERSION)(document.get("version"))
    return Beacon(node_id, hostname or "", version or "", slugs, station, tuple(dropped))


def _is_deep(text: str) -> bool:
    """Tell whether JSON nests beyond `MAX_DEPTH`, in time that grows with its length only."""
    depth, is_quoted, escaped = 0, False, -1
    for match in _STRUCTURE.finditer(text):
        mark = match.group()
        if match.start() == escaped:
            continue
        if mark == "\\":
            escaped = match.end()
        elif mark == '"':
            is_quoted = not is_quoted
        elif not is_quoted:
            depth += 1 if mark in "[{" else -1
            if depth > MAX_DEPTH:
                return True
    return False


def _slugs(value: object) -> tuple[tuple[str, ...], bool]:
    """Return the slugs of a comma list, and whether it held nothing else."""
    if value is None or value == "":
        return (), True
    if not isinstance(value, str):
        return (), False
    words = [word.strip() for word in value.split(",")]
    slugs = sorted({word for word in words if is_slug(word)})
    return tuple(slugs[:MAX_OFFERS]), all(is_slug(word) for word in words if word)


def _matching(pattern: re.Pattern[str], group: int = 0) -> Callable[[object], str | None]:
    def read(value: object) -> str | None:
        match = pattern.fullmatch(value) if isinstance(value, str) else None
        return match[group] if match and clean_text(match[group]) == match[group] else None

    return read


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if _NUMBER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if abs(value) <= MAX_NUMBER and math.isfinite(value) else None


def _whole(value: object) -> int | None:
    """Return a number, also one in text, as a whole one: the manifest has no fractions."""
    number = _number(value)
    return None if number is None else round(number)


def _digits(value: object) -> str | None:
    """Return a number as the text that it is written with."""
    number = _number(value)
    if number is None:
        return None
    return value if isinstance(value, str) else f"{number:g}"


def _tier(value: object) -> str | None:
    return value if isinstance(value, str) and value in _TIERS else None


_Reader = Callable[[Any], str | int | None]
_FIELDS: Final[Mapping[str, tuple[str, _Reader]]] = {
    "NODEHEX": ("hex", _matching(_HEX)),
    "captainHEX": ("captain_hex", _matching(_HEX)),
    "captain": ("captain", _matching(_MAIL)),
    "myRELAY": ("relay", _matching(_WS)),
    "UPLANETG1PUB": ("uplanet", _matching(_G1)),
    "uSPOT": ("uspot", _matching(_HTTP)),
    "PAF": ("paf", _whole),
    "NCARD": ("ncard", _whole),
    "ZCARD": ("zcard", _whole),
    "SSHPUB": ("ssh_pub", _matching(_SSH, 1)),
    "STATION_LAT": ("latitude", _digits),
    "STATION_LON": ("longitude", _digits),
    "NODEG1PUB": ("g1pub", _matching(_G1)),
    "g1swarm": ("channel", _matching(_CHANNEL, 1)),
}
"""Key of the document → field of the manifest, and what its value must be."""

_CAPACITIES: Final[Mapping[str, tuple[str, _Reader]]] = {
    "power_score": ("power_score", _whole),
    "value_ratio": ("value_ratio", _digits),
    "qdrant_veteran_days": ("veteran_days", _whole),
    "provider_tier": ("tier", _tier),
}
"""The same of its `capacities`."""

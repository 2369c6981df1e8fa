"""12345.json: what a station says of itself to the scripts of others. Pure. Source: ASTROPORT facts 2.3.

On a station whose `_12345.sh` runs, the document is that program's: only what it leaves open is filled in, and what Dragon
alone knows is kept right. A document of ours is known by its `publisher`. Documents of other nodes are made from what their
signed manifests say, over what lies there of the same node and is harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from dragon.astroport.facts import OWN_PUBLISHER, StationFacts, host_word
from registry_schema import Manifest

VERSION: Final = "12345.0.2"
"""The form of document that is followed."""

PRICES: Final = {"PAF": "9", "NCARD": "1", "ZCARD": "4"}
"""What a station asks where nothing is set: the defaults of its scripts."""

VOLATILE: Final = frozenset({"created", "date"})
"""Keys that change with the clock alone."""

_UNTAMED = re.compile(r"[\x00-\x1f\x7f`\\]|\$[({]|\[[^\]]*[$`]")
_MAIL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,63}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}|")
_URL = re.compile(r"(?:https?|wss?)://[A-Za-z0-9\[][A-Za-z0-9.:\[\]-]{0,253}(?:/[A-Za-z0-9._/-]{0,128})?|")
_HEX = re.compile(r"[0-9a-f]{64}|")
_WORD = re.compile(r"[A-Za-z0-9]{0,64}")
_NUMBER = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?")
_KEY = re.compile(r"(?:ssh|ecdsa)-[a-z0-9-]{3,24} [A-Za-z0-9+/]{16,980}={0,2}(?: [A-Za-z0-9_.@+-]*)?|")
_TIER = re.compile(r"[a-z][a-z-]{0,31}")

_TEXTS: Final[Mapping[str, tuple[str, re.Pattern[str], str]]] = {
    "captain": ("captain", _MAIL, ""),
    "myRELAY": ("relay", _URL, "ws://127.0.0.1:7777"),  # what sends a reader to x_strfry.sh
    "uSPOT": ("uspot", _URL, ""),
    "captainHEX": ("captain_hex", _HEX, ""),
    "NODEHEX": ("hex", _HEX, ""),
    "UPLANETG1PUB": ("uplanet", _WORD, ""),
    "NODEG1PUB": ("g1pub", _WORD, ""),
    "STATION_LAT": ("latitude", _NUMBER, "0"),
    "STATION_LON": ("longitude", _NUMBER, "0"),
    "SSHPUB": ("ssh_pub", _KEY, ""),
    "PAF": ("paf", _NUMBER, "0"),
    "NCARD": ("ncard", _NUMBER, "0"),
    "ZCARD": ("zcard", _NUMBER, "0"),
}
"""Key of a document → field of the manifest, what its text must be, and the text where nobody says any (readers want one)."""

_NUMBERS: Final = {"power_score": "power_score", "qdrant_veteran_days": "veteran_days", "value_ratio": "value_ratio"}
"""Key of `capacities` → field of the manifest."""

_GATEWAY: Final = "http://127.0.0.1:8080"


def own_document(
    facts: StationFacts, slugs: Iterable[str], now: float, previous: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return this station's document. `slugs`: of every x_*.sh that lies beside it; `now`: seconds since the epoch.

    `previous` is what lies there: another program's stays, what we know better and what is missing excepted.
    """
    there = dict(previous or {})
    ours = _fresh(facts.node_id, sorted(set(slugs)), now) | _of_facts(facts)
    if not there or there.get("publisher") == OWN_PUBLISHER:
        document = ours | {"publisher": OWN_PUBLISHER}
    else:
        document = ours | {key: value for key, value in there.items() if value is not None and value != ""}
        document |= {key: ours[key] for key in ("ipfsnodeid", "dragon_services", "created", "date")}
    # Also in a document of ours, heartbox_analysis and 20h12.process.sh write what they found under these two.
    document["services"] = _object(there.get("services")) | ours["services"]
    document["capacities"] = ours["capacities"] | _object(there.get("capacities"))
    return document


def document_of(
    manifest: Manifest, created: float, previous: Mapping[str, Any] | None = None, also: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the document of another node from its verified `manifest`. `created`: when it was last heard, epoch seconds.

    `also`: slugs of scripts beside ours, which its own station's DRAGON published.

    `previous`: the document that lies in its folder, kept as far as the manifest does not say it and nothing in it could be
    taken for a command by a careless shell.
    """
    kept = _kept(manifest.node, previous)
    slugs = sorted({*also, *(offer.slug for offer in manifest.offers)})
    station = manifest.station
    texts = {key: str(station[field]) for key, (field, _, _) in _TEXTS.items() if field in station}
    said = {key: text for key, text in texts.items() if _TEXTS[key][1].fullmatch(text)}
    channel = str(station.get("channel", ""))
    document = {key: default for key, (_, _, default) in _TEXTS.items()} | kept | said | _fresh(manifest.node, slugs, created)
    document["hostname"] = host_word(manifest.alias)
    document["g1station"] = f"{_GATEWAY}/ipns/{manifest.node}"
    document["g1swarm"] = f"{_GATEWAY}/ipns/{channel}" if _WORD.fullmatch(channel) and channel else kept.get("g1swarm", "")
    capacities: dict[str, Any] = {
        key: number for key, field in _NUMBERS.items() if (number := _number(station.get(field))) is not None
    }
    if _TIER.fullmatch(tier := str(station.get("tier", ""))):
        capacities["provider_tier"] = tier
    document["capacities"] = _object(kept.get("capacities")) | capacities
    document["services"] = _object(kept.get("services")) | _object(document["services"])
    return document


def same_but_for_time(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Tell whether two documents say the same of everything but when."""
    return {key: value for key, value in one.items() if key not in VOLATILE} == {
        key: value for key, value in other.items() if key not in VOLATILE
    }


def is_tame(value: object) -> bool:
    """Tell whether no text in `value` has a control character or what a shell would run inside quotes or arithmetic."""
    if isinstance(value, str):
        return _UNTAMED.search(value) is None
    if isinstance(value, Mapping):
        return all(is_tame(key) and is_tame(each) for key, each in value.items())
    return all(is_tame(each) for each in value) if isinstance(value, list) else True


def _fresh(node_id: str, slugs: list[str], at: float) -> dict[str, Any]:
    """Return what is true of any node: who it is, when, what it offers."""
    return {
        "version": VERSION,
        "created": str(int(at)),
        "date": datetime.fromtimestamp(at, UTC).strftime("%a %b %e %H:%M:%S UTC %Y"),
        "ipfsnodeid": node_id,
        "dragon_services": ",".join(slugs),
        "services": {"ipfs_p2p_services": [f"x_{slug}.sh" for slug in slugs]},
    }


def _of_facts(facts: StationFacts) -> dict[str, Any]:
    capacities: dict[str, Any] = {
        "power_score": facts.power_score,
        "value_ratio": _number(facts.value_ratio or None),
        "qdrant_veteran_days": facts.veteran_days,
        "provider_tier": facts.tier or None,
    }
    ip = facts.my_ip or next(filter(None, map(_ipv4_of, facts.addresses)), "127.0.0.1")
    return {
        "hostname": facts.hostname,
        "myIP": ip,
        "myASTROPORT": "http://127.0.0.1:12345",
        "myIPFS": facts.my_ipfs,
        "myRELAY": facts.relay,
        "uSPOT": facts.uspot,
        "astroport": f"http://{ip}:12345",
        "g1station": f"{facts.my_ipfs}/ipns/{facts.node_id}",
        "g1swarm": f"{facts.my_ipfs}/ipns/{facts.channel}" if facts.channel else "",
        "captain": facts.captain,
        "captainHEX": facts.captain_hex,
        "SSHPUB": facts.keys.best,
        "NODEHEX": facts.hex,
        "NODEG1PUB": facts.g1pub,
        "STATION_LAT": facts.latitude or "0",
        "STATION_LON": facts.longitude or "0",
        "UPLANETG1PUB": facts.uplanet,
        "PAF": facts.paf or PRICES["PAF"],
        "NCARD": facts.ncard or PRICES["NCARD"],
        "ZCARD": facts.zcard or PRICES["ZCARD"],
        "boots": [],
        "economy": {"multipass_count": facts.multipass_count, "zencard_count": facts.zencard_count},
        "capacities": {key: value for key, value in capacities.items() if value is not None},
    }


def _ipv4_of(address: str) -> str:
    """Return the IPv4 address of a multiaddress, "" of another one. The station's own cache of it goes with the daily wipe."""
    return address.split("/")[2] if address.startswith("/ip4/") else ""


def _kept(node_id: str, previous: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what of a document found in the node's folder may stay: one of the node itself, and tame."""
    if not previous or previous.get("ipfsnodeid") != node_id:
        return {}
    return {key: value for key, value in previous.items() if is_tame(key) and is_tame(value) and _is_right(key, value)}


def _is_right(key: str, value: object) -> bool:
    """Tell whether a value is what its key is for, as far as we know the key."""
    return key not in _TEXTS or (isinstance(value, str) and _TEXTS[key][1].fullmatch(value) is not None)


def _object(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _number(value: object) -> int | float | None:
    """Return the number that a field holds, whole where it is whole; None for anything else."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    if not abs(number) < 1e15:
        return None
    return int(number) if number == int(number) else number

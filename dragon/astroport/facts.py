"""What a station's files say of it, read as data with bounds. Sources: ASTROPORT facts 1.2, 2.1 to 2.3, 2.7, 4.2.

Nothing is run or sourced, nothing secret is taken: of the node's NOSTR file only the public HEX. Files of another shape, links
that lead nowhere, pipes and folders of that name say nothing.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from dragon.astroport.levels import NO_KEYS, PublicKeys, exported_by_gpg, sorted_keys
from dragon.astroport.power import Machine, this_machine
from dragon.astroport.remote import read_env
from dragon.astroport.veteran import days, stamp_of
from dragon.astroport.zen import Zen
from registry_schema.ids import is_node_id

MAX_FACT: Final = 64 * 1024
"""Bytes of a file with one fact in it."""

MAX_DOCUMENT: Final = 1 << 20
"""Bytes of a 12345.json: full ones have some ten thousand."""

MAX_DEPTH: Final = 16
"""Nesting in a 12345.json: full ones have four levels."""

MAX_PEOPLE: Final = 10_000
"""Folders of people that are counted; a station has dozens."""

_HEX = re.compile(r"(?<![A-Za-z0-9_])HEX=[\"']?([0-9a-fA-F]{64})(?![0-9a-fA-F])")
_PLAIN_HEX = re.compile(r"[0-9a-fA-F]{64}")
_MAIL = re.compile(r"[^\s@/\x00-\x1f\x7f\"'`$\\<>;|&]{1,64}@[A-Za-z0-9][A-Za-z0-9.-]{0,253}")
_G1 = re.compile(r"g1[1-9A-HJ-NP-Za-km-z]{40,60}|[1-9A-HJ-NP-Za-km-z]{43,44}")
_CHANNEL = re.compile(r"/ipns/(k51[a-z0-9]{40,80}|12D3KooW[1-9A-HJ-NP-Za-km-z]{44})(?![a-zA-Z0-9])")
_NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,9})?")
_COORDINATE = re.compile(r"(?<![A-Za-z0-9_])(LAT|LON)=[\"']?(-?\d{1,3}(?:\.\d{1,9})?)(?![A-Za-z0-9.])")
_IPV4 = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_TIER = re.compile(r"[a-z][a-z-]{0,31}")
_HOST_WORD = re.compile(r"[^A-Za-z0-9-]+")

OWN_PUBLISHER: Final = "dragon"
"""Value of `publisher` in a 12345.json that is wholly Dragon's."""

DEFAULT_IPFS: Final = "http://127.0.0.1:8080"
"""myIPFS of a station that says nothing else: its own Kubo's gateway."""


@dataclass(frozen=True, slots=True)
class StationFacts:
    """What a station says of itself. Empty texts and None where it says nothing."""

    node_id: str
    hostname: str = "station"
    """One word of letters, digits and dashes: it stands in a file name."""
    user: str = ""
    """Login name of whoever runs the services, as visitors by SSH need it."""
    hex: str = ""
    """The node's NOSTR key, 64 hex digits."""
    captain: str = ""
    captain_hex: str = ""
    keys: PublicKeys = NO_KEYS
    my_ip: str = ""
    my_ipfs: str = DEFAULT_IPFS
    relay: str = "ws://127.0.0.1:7777"
    uspot: str = "http://127.0.0.1:54321"
    uplanet: str = ""
    """UPLANETG1PUB: the public name of the station's UPlanet. Its secret name (UPLANETNAME) is never read."""
    g1pub: str = ""
    paf: str = ""
    ncard: str = ""
    zcard: str = ""
    """Prices in Ẑ, as numbers in text."""
    latitude: str = ""
    longitude: str = ""
    power_score: int | None = None
    value_ratio: str = ""
    veteran_days: int | None = None
    tier: str = ""
    channel: str = ""
    """Name of the station's map of its swarm: the key `MySwarm_<node id>` (CHAN)."""
    multipass_count: int = 0
    zencard_count: int = 0
    private: frozenset[str] = frozenset()
    """DRAGON_PRIVATE_SERVICES of the station's `.env`."""
    addresses: tuple[str, ...] = ()
    """Multiaddresses without `/p2p/…` under which this node is reached, best first; whoever asks Kubo puts them here."""
    document: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """The 12345.json that lies there, whoever wrote it: no fact of its own, so equality leaves it out."""


def read_facts(
    zen: Zen,
    environ: Mapping[str, str],
    node_id: str,
    *,
    export: Callable[[str], str] = exported_by_gpg,
    measure: Callable[[], Machine] = this_machine,
) -> StationFacts:
    """Return what the files of `zen` say; blocks for milliseconds, the first time for at most 15 seconds (gpg, nvidia-smi).

    `environ`: the process's variables; those of the station's `.env` win, as they do for its scripts. Never raises for what
    files hold.
    """
    said = {**environ, **read_env(zen.env_file)}
    found = read_document(zen.balise(node_id) / "12345.json")
    # What Dragon itself filled in there for want of a fact is none; capacities are written in place by heartbox_analysis.
    document = {} if found.get("publisher") == OWN_PUBLISHER else found
    mail = _matching(_MAIL, read_text(zen.game / "players" / ".current" / ".player")) or _matching(
        _MAIL, said.get("CAPTAINEMAIL", "")
    )
    ip = read_text(zen.tmp / "my_ip_cache").split(" ")[0] or read_text(zen.root / "♥Box")
    my_ipfs = said.get("myIPFS") or _text(document, "myIPFS") or DEFAULT_IPFS
    place, gps = _place(zen.root / "GPS"), read_document(zen.balise(node_id) / "GPS.json")
    latitude = place.get("LAT") or _number(gps.get("lat")) or _number(document.get("STATION_LAT"))
    longitude = place.get("LON") or _number(gps.get("lon")) or _number(document.get("STATION_LON"))
    capacities = measured if isinstance(measured := found.get("capacities"), dict) else {}
    power, machine = _whole(capacities.get("power_score")), measure()
    veteran = days(read_text(stamp_of(zen.root)), time.time())
    home = Path(environ.get("HOME") or Path.home())
    return StationFacts(
        node_id=node_id,
        hostname=host_word(socket.gethostname()),
        user=_user(environ),
        hex=_hex_of(zen, node_id, document),
        captain=mail,
        captain_hex=_captain_hex(zen, mail, document),
        keys=_keys(zen, home, node_id, mail, export),
        my_ip=_matching(_IPV4, ip),
        my_ipfs=my_ipfs,
        relay=said.get("myRELAY") or _derived(my_ipfs, "ws", "relay", 7777),
        uspot=said.get("uSPOT") or _derived(my_ipfs, "http", "u", 54321),
        uplanet=_uplanet(zen, said, document),
        g1pub=_matching(_G1, said.get("NODEG1PUB", "")) or _matching(_G1, _text(document, "NODEG1PUB")),
        paf=_number(said.get("PAF")) or _number(document.get("PAF")),
        ncard=_number(said.get("NCARD")) or _number(document.get("NCARD")),
        zcard=_number(said.get("ZCARD")) or _number(document.get("ZCARD")),
        latitude=latitude if longitude else "",
        longitude=longitude if latitude else "",
        power_score=machine.score if power is None else power,
        value_ratio=_number(capacities.get("value_ratio")),
        veteran_days=_whole(capacities.get("qdrant_veteran_days")) if veteran is None else veteran,
        tier=_matching(_TIER, _text(capacities, "provider_tier")) or machine.tier,
        channel=_channel(zen, node_id, document),
        multipass_count=_people(zen.game / "nostr"),
        zencard_count=_people(zen.game / "players"),
        private=frozenset(re.split(r"[\s,]+", said.get("DRAGON_PRIVATE_SERVICES", "").lower().strip())) - {""},
        document=found,
    )


def read_text(file: Path, limit: int = MAX_FACT) -> str:
    """Return the text of a regular file (also through a link), without the space around it; "" where there is none."""
    return read_data(file, limit).decode("utf-8", "replace").strip()


def read_data(file: Path, limit: int) -> bytes:
    """Return the bytes of a regular file (also through a link); none where there is no such file of at most `limit` bytes."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return b""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(limit + 1)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
    return data if len(data) <= limit else b""


def read_document(file: Path) -> dict[str, Any]:
    """Return the JSON object in `file`; an empty one where there is none, or one that is no JSON or too long."""
    return parse_document(read_text(file, MAX_DOCUMENT))


def parse_document(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that `text` is, an empty one when it is none: too long, too deep, or with what JSON has not."""
    if len(text) > MAX_DOCUMENT:
        return {}
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) and _is_sound(document, MAX_DEPTH) else {}


def _is_sound(value: object, depth: int) -> bool:
    """Tell whether `value` nests at most `depth` deep and can be written as JSON again."""
    if isinstance(value, float):
        return math.isfinite(value)
    if not isinstance(value, dict | list):
        return True
    return depth > 0 and all(_is_sound(each, depth - 1) for each in (value.values() if isinstance(value, dict) else value))


def host_word(name: str) -> str:
    """Return the first label of a host's name as one word for a file name."""
    return _HOST_WORD.sub("-", name.split(".", 1)[0])[:63].strip("-") or "station"


def _matching(grammar: re.Pattern[str], text: str) -> str:
    stripped = text.strip()
    return stripped if grammar.fullmatch(stripped) else ""


def _text(document: Mapping[str, Any], key: str) -> str:
    value = document.get(key)
    return value if isinstance(value, str) else ""


def _number(value: object) -> str:
    """Return a number's text, also of one that JSON wrote without quotes; "" for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return _matching(_NUMBER, str(value))


def _whole(value: object) -> int | None:
    text = _number(value)
    return int(float(text)) if text and not text.startswith("-") else None


def _user(environ: Mapping[str, str]) -> str:
    if name := environ.get("USER") or environ.get("LOGNAME"):
        return name
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""


def _uplanet(zen: Zen, said: Mapping[str, str], document: Mapping[str, Any]) -> str:
    """Return the name of the station's UPlanet: what is set, else what its scripts keep of it, else what they published."""
    for text in (said.get("UPLANETG1PUB", ""), read_text(zen.tmp / "UPLANETG1PUB"), _text(document, "UPLANETG1PUB")):
        if found := _matching(_G1, text):
            return found
    return ""


def _place(file: Path) -> dict[str, str]:
    """Return the LAT and LON that the station's scripts keep and source (one line or two, with comments); nothing of half."""
    lines = (line.partition("#")[0] for line in read_text(file).splitlines())
    place = dict(_COORDINATE.findall("\n".join(lines)))
    return place if len(place) == 2 else {}


def _hex_of(zen: Zen, node_id: str, document: Mapping[str, Any]) -> str:
    """Return the node's NOSTR key: of the node's own file, else what its balise says."""
    match = _HEX.search(read_text(zen.game / "secret.nostr"))
    told = match[1] if match else ""
    for text in (told, read_text(zen.balise(node_id) / "HEX"), _text(document, "NODEHEX")):
        if found := _matching(_PLAIN_HEX, text):
            return found.lower()
    return ""


def _captain_hex(zen: Zen, mail: str, document: Mapping[str, Any]) -> str:
    own = read_text(zen.game / "nostr" / mail / "HEX") if mail and mail not in (".", "..") else ""
    for text in (own, _text(document, "captainHEX")):
        if found := _matching(_PLAIN_HEX, text):
            return found.lower()
    return ""


def _keys(zen: Zen, home: Path, node_id: str, mail: str, export: Callable[[str], str]) -> PublicKeys:
    captains = read_text(zen.balise(node_id) / "z_ssh.pub") or (export(mail) if mail else "")
    return sorted_keys(read_text(home / ".ssh" / "id_ed25519.pub"), captains, node_id)


def _derived(my_ipfs: str, scheme: str, name: str, port: int) -> str:
    """Return the address of another service of the station, as its scripts derive it from that of its gateway.

    http://HOST:8080 → scheme://HOST:port; https://ipfs.DOMAIN → secure scheme, name.DOMAIN.
    """
    try:
        parts = urlsplit(my_ipfs)
        host = parts.hostname or "127.0.0.1"
    except ValueError:
        return f"{scheme}://127.0.0.1:{port}"
    if parts.scheme == "https" and host.startswith("ipfs."):
        return f"{scheme}s://{name}.{host.removeprefix('ipfs.')}"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}:{port}"


def _channel(zen: Zen, node_id: str, document: Mapping[str, Any]) -> str:
    """Return CHAN: from 12345.json, else from the page that leads there."""
    pages: list[str] = []
    try:
        pages = [read_text(page) for page in sorted(zen.balise(node_id).glob("_MySwarm.*.html"))[:4]]
    except OSError:
        pages = []
    for text in (_text(document, "g1swarm"), *pages):
        match = _CHANNEL.search(text)
        if match and match[1] != node_id:  # a page of ours leads to the balise where no map is known
            return match[1] if not match[1].startswith("12D3") or is_node_id(match[1]) else ""
    return ""


def _people(folder: Path) -> int:
    """Return how many people's folders there are: those named by a mail address."""
    count = 0
    try:
        with os.scandir(folder) as entries:
            for n, entry in enumerate(entries):
                if n >= MAX_PEOPLE:
                    break
                count += "@" in entry.name and entry.is_dir()
    except OSError:
        return 0
    return count

"""From the files of a station that signs nothing to the manifest that it would have signed. Pure.

Every file is read by its own grammar. One that is off costs what it would have said, and is counted; only what says *whose*
and *of when* the files are is indispensable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from dragon.astroport.beacon_reading import MAX_BEACON, Beacon, read_beacon
from dragon.astroport.reading import (
    BARE,
    BEACON,
    MAX_MOATS,
    MAX_SCRIPT,
    MOATS,
    Listing,
    Script,
    Unreadable,
    read_moats,
    read_script,
)
from dragon.probe.catalogue import Catalogue
from dragon.probe.entry import CatalogueEntry
from registry_schema import Manifest, Offer, clean_alias, make_offer
from registry_schema.limits import MAX_OFFERS, MAX_TTL

MISSING = "script-missing"
"""Reason: a file is named and could not be had."""

VERSION = "bash"
"""Said of a station whose 12345.json names no version."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a balise says. `refused`: why something in it did not count, a reason for each."""

    manifest: Manifest
    refused: tuple[str, ...]

    @property
    def channel(self) -> str:
        """The IPNS name of the station's swarm map, "" where it says none."""
        return str(self.manifest.station.get("channel", ""))

    @property
    def is_whole(self) -> bool:
        """Whether every file that the listing names could be had: what is missing now may be had later."""
        return MISSING not in self.refused


def wanted(listing: Listing) -> dict[str, int]:
    """Return the files that are worth reading, with how many bytes of each: one more than any may have."""
    files = {MOATS: MAX_MOATS + 1, **{_script(slug): MAX_SCRIPT + 1 for slug in listing.slugs}}
    return files | ({BEACON: MAX_BEACON + 1} if listing.has_beacon else {})


def understand(node_id: str, listing: Listing, files: Mapping[str, bytes], *, swarm: str, catalogue: Catalogue) -> Heard:
    """Return what the balise of `node_id` says. Its `sequence` is the time in its moats, in milliseconds.

    `files` holds what of `wanted` could be had. Raises `Unreadable` without good moats, with a 12345.json of another node, and
    for a node that signs: its manifest counts, not the files beside it.
    """
    if listing.has_manifest:
        raise Unreadable("signs", f"{node_id} publishes a signed manifest")
    if MOATS not in files:
        raise Unreadable("no-moats", f"no moats of {node_id}")
    spoken = read_moats(files[MOATS])
    refused = ["script-name"] * listing.dropped
    beacon = _beacon(node_id, files.get(BEACON), refused)
    scripts, spoilt = _scripts(node_id, listing, files, refused)
    ports = {slug: script.native_port for slug, script in scripts.items()}
    for slug in beacon.slugs:
        if slug not in ports and slug not in spoilt and slug in catalogue:
            ports[slug] = catalogue.get(slug).port
    station = dict(beacon.station)
    if listing.level:
        station["level"] = listing.level
    if (ssh := scripts.get("ssh")) is not None and ssh.remote_user:
        station["ssh_user"] = ssh.remote_user
    offers = (_offer(slug, node_id, ports[slug], catalogue) for slug in sorted(ports)[:MAX_OFFERS])
    try:
        manifest = Manifest(
            node=node_id,
            swarm=swarm,
            sequence=max(spoken, 1),
            ttl=MAX_TTL,
            alias=clean_alias(beacon.hostname or listing.hostname, f"station-{node_id[-6:]}"),
            version=beacon.version or VERSION,
            offers=tuple(offers),
            labels={},
            capacity={},
            load=0,
            agents=(),
            digest=(),
            station=station,
            leaving=False,
        )
    except ValidationError as error:  # the grammars above are meant to be the stricter ones
        raise Unreadable("manifest", f"no manifest can say what {node_id} says: {error.error_count()} fields") from None
    return Heard(manifest, tuple(refused))


def _beacon(node_id: str, data: bytes | None, refused: list[str]) -> Beacon:
    if data is None:
        return Beacon(node_id)
    try:
        beacon = read_beacon(data)
    except Unreadable as error:
        refused.append(error.reason)
        return Beacon(node_id)
    if beacon.node_id != node_id:
        raise Unreadable("foreign-id", f"{node_id} publishes the 12345.json of {beacon.node_id}")
    refused += ["beacon-field"] * len(beacon.dropped)
    return beacon


def _scripts(
    node_id: str, listing: Listing, files: Mapping[str, bytes], refused: list[str]
) -> tuple[dict[str, Script], set[str]]:
    """Return the scripts that are what their names and their place say, by slug, and the slugs of those that are not."""
    found: dict[str, Script] = {}
    spoilt: set[str] = set()
    for slug in listing.slugs:
        data = files.get(_script(slug))
        if data is None:
            refused.append(MISSING)
            spoilt.add(slug)
            continue
        try:
            script = read_script(data)
        except Unreadable as error:
            refused.append(error.reason)
            if error.reason != BARE:
                spoilt.add(slug)
            continue
        if script.node_id != node_id or script.slug != slug:
            refused.append("script-foreign")
            spoilt.add(slug)
            continue
        found[slug] = script
    return found, spoilt


def _script(slug: str) -> str:
    return f"x_{slug}.sh"


def _offer(slug: str, node_id: str, port: int, catalogue: Catalogue) -> Offer:
    """Return an offer of what only its name and port are known of; the rest is what such a service usually is."""
    entry = catalogue.get(slug) if slug in catalogue else CatalogueEntry(slug, port)
    return make_offer(slug, node_id, port, health="unknown", scheme=entry.scheme, sticky=entry.sticky)

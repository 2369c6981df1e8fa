"""The lines of a station's sync log that others count by: marker lines and `SYNC_…` lines, made from a report. Pure.

`SYNC_STATS` stands once, for the whole run: the stations' reader takes the last one it finds. Source: ASTROPORT facts 4.6, 4.8.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dragon.constellation.figures import summed
from dragon.constellation.journal import Level
from dragon.constellation.names import stats
from dragon.constellation.text import peer_facts, reasons

STARTED = "Starting Astroport constellation backfill process"
COMPLETED = "Backfill process completed"

Line = tuple[Level, str]
Document = Mapping[str, Any]


def beginning(authors: int, days: float, peers: list[str]) -> Iterator[Line]:
    """Yield what is known when a run begins."""
    yield "INFO", STARTED
    yield "INFO", f"Backfilling {days:g} day(s) of events"
    yield "INFO", f"SYNC_HEX: count={authors}"
    yield "INFO", f"Targeting {authors} pubkeys"
    yield "INFO", f"Found {len(peers)} constellation peers"
    for peer in peers:
        yield "INFO", f"  - {peer}"


def ending(document: Document) -> Iterator[Line]:
    """Yield what a run did, peer by peer and in sum."""
    for peer in document["peers"]:
        yield "INFO", f"Processing peer: {peer['alias']} ({peer['id']})"
        if peer["state"] == "ok":
            yield "INFO", f"Collected {peer['received']} events"
            yield "INFO", f"WebSocket backfill successful for {peer['id']}: {', '.join(peer_facts(peer))}"
        else:
            yield "ERROR", f"WebSocket backfill failed for {peer['id']}: {peer['error'] or peer['state']}"
        if summed(peer["rejected"]):
            yield "WARN", f"rejected events of {peer['id']}: {reasons(peer['rejected'])}"
    counted = stats({int(kind): number for kind, number in document["by_kind"].items()})
    yield "INFO", "SYNC_STATS: " + " ".join(f"{name}={number}" for name, number in counted.items())
    yield "INFO", f"SYNC_IMPORT: events={document['stored']} mode=verified"
    yield "INFO", f"SYNC_PROFILES: found={document['profiles_found']} missing={document['profiles_missing']}"
    yield "INFO", f"SYNC_PEERS: success={document['peers_ok']} total={document['peers_total']}"
    if document["error"]:
        yield "ERROR", str(document["error"])
    if document["state"] == "timeout":
        yield "WARN", "Backfill timeout: stopped in order, what came until then is kept"
    yield "INFO", COMPLETED

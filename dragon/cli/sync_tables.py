"""Reports, runs and needs of the sync as tables for people. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dragon.cli.output import LONGEST_SENTENCE, Cell, Table
from dragon.cli.tables import short_id
from dragon.constellation.figures import METHODS, count, moment, size, span, summed, verdict
from dragon.constellation.progress import Progress
from dragon.constellation.text import summary

Document = Mapping[str, Any]

STATES = {
    "ok": "green",
    "partial": "yellow",
    "timeout": "yellow",
    "cancelled": "yellow",
    "failed": "bold red",
    "nothing": "dim",
}
_PEERS = {"ok": "green", "failed": "bold red"}


def report(document: Document) -> Table:
    rows = [[Cell(name, "bold"), Cell(value, longest=LONGEST_SENTENCE)] for name, value in summary(document)]
    return Table(("", ""), rows, "")


def peers(document: Document) -> Table:
    compared = any(peer["lacking"] is not None for peer in document["peers"])
    rows = [
        [
            Cell(str(peer["alias"]), "bold"),
            Cell(short_id(peer["id"])),
            Cell(str(peer["state"]), _PEERS.get(str(peer["state"]), "yellow")),
            Cell(METHODS.get(str(peer["method"]), "")),
            Cell("" if peer["missing"] is None else count(peer["missing"])),
            *([Cell("" if peer["lacking"] is None else count(peer["lacking"]))] if compared else []),
            Cell(count(peer["new"])),
            Cell(count(peer["duplicate"])),
            Cell(count(summed(peer["rejected"]) + summed(peer["refused"]))),
            Cell(size(peer["bytes_in"])),
            Cell(span(peer["seconds"])),
            Cell(str(peer["error"]), longest=LONGEST_SENTENCE),
        ]
        for peer in document["peers"]
    ]
    columns = ("peer", "id", "state", "read as", "missing", *(["it lacks"] if compared else []), "new", "known", "bad",
               "traffic", "time", "")  # fmt: skip
    return Table(columns, rows, "nobody was asked")


def history(documents: Sequence[Document]) -> Table:
    rows = [
        [
            Cell(str(number)),
            Cell(moment(document["started"])),
            Cell(str(document["mode"])),
            Cell(verdict(document), STATES.get(str(document["state"]), "")),
            Cell(f"{document['peers_ok']}/{document['peers_total']}"),
            Cell(count(document["received"])),
            Cell(count(document["stored"])),
            Cell(count(summed(document["rejected"]) + summed(document["refused"]))),
            Cell(size(document["bytes_in"])),
            Cell(span(document["seconds"])),
            Cell(str(document["error"]), longest=LONGEST_SENTENCE),
        ]
        for number, document in enumerate(documents, 1)
    ]
    columns = ("n", "started", "mode", "ended", "peers", "collected", "new", "bad", "traffic", "time", "")
    return Table(columns, rows, "no run yet: dragon sync")


def needs(documents: Sequence[Document]) -> Table:
    rows = [
        [_mark(need), Cell(str(need["name"])), Cell(str(need["detail"]), longest=LONGEST_SENTENCE),
         Cell(str(need["how"]), longest=LONGEST_SENTENCE)]
        for need in documents
    ]  # fmt: skip
    return Table(("", "need", "finding", "how to get it"), rows, "nothing was checked")


def _mark(need: Document) -> Cell:
    if need["ok"]:
        return Cell("ok", "green")
    return Cell("MISSING", "bold red") if need["essential"] else Cell("note", "yellow")


def status(document: Document) -> Table:
    rows: list[tuple[str, str]] = [("state", str(document["state"]))]
    rows += [(name, _going_on(document[name])) for name in ("run", "follow") if document[name]]
    if last := document["last"]:
        new = f"{count(last['stored'])} new of {count(last['received'])}"
        rows.append(("last", f"{moment(last['started'])}: {verdict(last)}, {new}, {span(last['seconds'])}"))
    return Table(("", ""), [[Cell(name, "bold"), Cell(value, longest=LONGEST_SENTENCE)] for name, value in rows], "")


def _going_on(going: Document) -> str:
    if "phase" not in going:
        peers = ", ".join(f"{peer['alias']} {peer['state']}" for peer in going.get("peers", ()))
        counts = f", {count(going['stored'])} new of {count(going['received'])}" if "stored" in going else ""
        return f"pid {going['pid']} since {moment(going['started'])}{counts}{f'; {peers}' if peers else ''}"
    busy = ", ".join(str(alias) for alias in going["busy"])
    counts = f"{count(going['received'])} collected, {count(going['stored'])} new, {size(going['bytes_in'])}"
    peers = f"{going['peers_done']} of {going['peers_total']} peers"
    reading = f"; reading {busy}" if busy else ""
    return f"pid {going['pid']}: {going['phase']}, {peers}, {counts}, {span(going['seconds'])}{reading}"


def stats(document: Document) -> Table:
    authors = document["authors"]
    nodes = [
        (f"of {node['alias']}", " ".join(part for part in (count(node["count"]), str(node["error"])) if part))
        for node in authors["nodes"]
    ]
    events = "unknown" if document["events"] is None else count(document["events"])
    rows = [
        ("authors", f"{count(authors['total'])}, {count(authors['own'])} of this node"),
        *nodes,
        ("peers", " ".join(str(peer["alias"]) for peer in document["peers"]) or "none"),
        ("relay", str(document["local"]["url"] or "none")),
        ("events", events),
    ]
    return Table(("", ""), [[Cell(name, "bold"), Cell(value, longest=LONGEST_SENTENCE)] for name, value in rows], "")


def counts_of(progress: Progress) -> str:
    peers = f"{progress.peers_done}/{progress.peers_total} peers"
    return f"{peers}, {count(progress.received)} collected, {count(progress.stored)} new, {size(progress.bytes_in)}"


def moment_of(progress: Progress) -> str:
    busy = ", ".join(progress.busy)
    return f"{span(progress.seconds)}: {progress.phase}, {counts_of(progress)}{f'; reading {busy}' if busy else ''}"

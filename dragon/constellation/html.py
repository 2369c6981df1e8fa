"""A report as a page: self-contained, light and dark by the reader's choice, nothing fetched, every text escaped. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from dragon.constellation.charts import bar, escaped, ring, timeline
from dragon.constellation.figures import METHODS, count, missing_here, moment, size, span, summed, verdict, window
from dragon.constellation.names import kind_name
from dragon.constellation.text import ranked
from dragon.text import counted

Document = Mapping[str, Any]

TONES: Mapping[str, str] = {"ok": "good", "partial": "fair", "timeout": "fair", "cancelled": "fair", "failed": "bad"}
"""State of a run → colour of its verdict; neutral for the rest."""

MOST_KINDS = 16
"""Bars of kinds: beyond them the smallest are one bar."""

MOST_PEERS = 200
"""Lines of the table of peers: a page must open at once; the JSON has them all."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for this page: nothing but the style within it, whatever a text should smuggle in."""


def page(document: Document) -> str:
    """Return the report as one HTML document."""
    title = f"Constellation sync: {verdict(document)}"
    parts = (_head(document), _cards(document), _what_came(document), _time(document), _kinds(document), _peers(document),
             _reasons(document), _facts(document))  # fmt: skip
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{escaped(title)}</title><style>{_style()}</style></head>\n<body><main>\n{''.join(parts)}</main></body></html>\n"
    )


@cache
def _style() -> str:
    return resources.files(__package__).joinpath("report.css").read_text()


def _head(document: Document) -> str:
    tone = TONES.get(str(document["state"]), "plain")
    where = " · ".join(
        part for part in (str(document["alias"]), f"swarm {document['swarm']}" if document["swarm"] else "") if part
    )
    error = f'<p class="error">{escaped(document["error"])}</p>' if document["error"] else ""
    return (
        f'<header class="{tone}"><div><p class="over">Constellation sync</p><h1>{escaped(_headline(document))}</h1>'
        f"<p>{escaped(where)}</p><p>{escaped(moment(document['started']))} · {escaped(span(document['seconds']))}</p></div>"
        f'<span class="verdict">{escaped(verdict(document))}</span></header>{error}\n'
    )


def _headline(document: Document) -> str:
    if document["dry_run"] or document["verify"]:
        missing = sum(peer["missing"] or 0 for peer in document["peers"])
        return missing_here(missing).capitalize()
    if stored := document["stored"]:
        return counted(stored, "new event")
    return "Nothing new"


def _cards(document: Document) -> str:
    cards = (
        ("Peers", f"{document['peers_ok']} of {document['peers_total']}", _failed(document)),
        ("Events collected", count(document["received"]), f"{count(document['duplicate'])} were here already"),
        ("Public keys", count(document["pubkeys"]), f"{count(document['people'])} of this node"),
        ("Traffic", size(document["bytes_in"]), f"{size(document['bytes_out'])} sent"),
        ("Time", span(document["seconds"]), _rate(document)),
    )
    return f'<section class="cards">{"".join(_card(*card) for card in cards)}</section>\n'


def _card(name: str, value: str, below: str) -> str:
    return f'<div class="card"><h3>{escaped(name)}</h3><p>{escaped(value)}</p><small>{escaped(below)}</small></div>'


def _failed(document: Document) -> str:
    failed = document["peers_failed"]
    return f"{failed} failed" if failed else "none failed"


def _rate(document: Document) -> str:
    seconds, stored = document["seconds"], document["stored"]
    return f"{count(round(stored / seconds))} events stored per second" if stored and seconds >= 0.1 else ""


def _what_came(document: Document) -> str:
    parts = [
        ("new", "new here", document["stored"]),
        ("duplicate", "here already", document["duplicate"]),
        ("rejected", "rejected", summed(document["rejected"])),
        ("refused", "refused by our relay", summed(document["refused"])),
    ]
    legend = "".join(
        f'<li><i class="{name}"></i><span>{escaped(label)}</span><b>{count(number)}</b></li>' for name, label, number in parts
    )
    chart = ring(parts, count(document["received"]), "collected")
    split = f'<div class="split">{chart}<ul class="legend">{legend}</ul></div>'
    return f"<section><h2>What became of the events</h2>{split}</section>\n"


def _time(document: Document) -> str:
    chart = timeline(document.get("timeline", []))
    legend = '<p class="key"><i class="received"></i>collected <i class="new"></i>stored</p>'
    return f"<section><h2>As it went</h2>{chart}{legend}</section>\n" if chart else ""


def _kinds(document: Document) -> str:
    kinds = [(f"{kind_name(int(kind))}", kind, number) for kind, number in ranked(document["by_kind"])]
    if not kinds:
        return ""
    rest = sum(number for _, _, number in kinds[MOST_KINDS:])
    shown = kinds[:MOST_KINDS] + ([("others", "", rest)] if rest else [])
    most = max(number for _, _, number in shown)
    rows = "".join(
        _line(f"{escaped(name)} <small>{escaped(kind)}</small>", "new", number, most) for name, kind, number in shown
    )
    return f'<section><h2>By kind</h2><ul class="bars">{rows}</ul></section>\n'


def _line(name: str, colour: str, number: int, most: int) -> str:
    return f"<li><span>{name}</span>{bar([(colour, number)], most)}<b>{count(number)}</b></li>"


def _peers(document: Document) -> str:
    peers = sorted(document["peers"], key=lambda peer: (peer["state"] == "ok", -peer["received"], str(peer["alias"])))
    if not peers:
        return ""
    most = max(peer["received"] for peer in peers)
    compared = bool(document["dry_run"] or document["verify"])
    rows = "".join(_peer(peer, most, compared) for peer in peers[:MOST_PEERS])
    more = f"<p>and {count(len(peers) - MOST_PEERS)} more</p>" if len(peers) > MOST_PEERS else ""
    head = "".join(f"<th{mark}>{name}</th>" for name, mark in _COLUMNS)
    return (
        f'<section><h2>By peer</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{more}</section>\n"
    )


_NUMBER = ' class="number"'
_COLUMNS = (("Peer", ""), ("", ' class="wide"'), ("New", _NUMBER), ("Known", _NUMBER), ("Bad", _NUMBER), ("Traffic", _NUMBER),
            ("Time", _NUMBER), ("Read as", ""))  # fmt: skip


def _peer(peer: Document, most: int, compared: bool) -> str:
    rejected, refused = summed(peer["rejected"]), summed(peer["refused"])
    pieces = [("new", peer["new"]), ("duplicate", peer["duplicate"]), ("rejected", rejected), ("refused", refused)]
    state = str(peer["state"])
    dot = {"ok": "good", "failed": "bad"}.get(state, "fair")
    said = peer["error"] or {"waiting": "its turn never came", "cut": "the run ended first"}.get(state, "")
    error = f'<span class="why">{escaped(said)}</span>' if said else ""
    words = (("missing", "missing here"), ("lacking", "that it lacks"))
    found = ", ".join(f"{count(peer[name])} {text}" for name, text in words if peer[name] is not None) if compared else ""
    note = f"<small>{escaped(found)}</small>" if found else ""
    numbers = (
        count(peer["new"]),
        count(peer["duplicate"]),
        count(rejected + refused),
        size(peer["bytes_in"]),
        span(peer["seconds"]),
    )
    who = f"<b>{escaped(peer['alias'])}</b> <small>…{escaped(str(peer['id'])[-8:])}</small>{error}"
    cells = "".join(f"<td{_NUMBER}>{escaped(number)}</td>" for number in numbers)
    read_as = escaped(METHODS.get(peer["method"], ""))
    return f'<tr><td><i class="dot {dot}"></i>{who}</td><td>{bar(pieces, most)}{note}</td>{cells}<td>{read_as}</td></tr>'


def _reasons(document: Document) -> str:
    tables = []
    for title, name in (("Rejected before storing", "rejected"), ("Refused by our own relay", "refused")):
        if counts := ranked(document[name]):
            most = counts[0][1]
            rows = "".join(_line(escaped(reason), name, number, most) for reason, number in counts[:MOST_KINDS])
            tables.append(f'<section><h2>{title}</h2><ul class="bars">{rows}</ul></section>\n')
    return "".join(tables)


def _facts(document: Document) -> str:
    facts = (
        ("Run", f"{document['run']} ({document['mode']})"),
        ("Node", document["node"]),
        ("Window", window(document)),
        ("Kinds", " ".join(str(kind) for kind in document["kinds"])),
        ("Stored by", document["tool"] or document["relay"]),
        ("Sent to peers", count(document["sent"]) if document["sent"] else ""),
        ("Left out", _left_out(document)),
        ("Profiles", _profiles(document)),
        *(("Note", note) for note in document.get("notes", [])),
        ("Made by", f"Dragon {document['dragon']}"),
    )  # fmt: skip
    rows = "".join(f"<dt>{escaped(name)}</dt><dd>{escaped(value)}</dd>" for name, value in facts if value)
    return f"<footer><dl>{rows}</dl></footer>\n"


def _left_out(document: Document) -> str:
    deleted, replaced = document["deletions"], document["superseded"]
    return f"{count(deleted)} deleted by their authors, {count(replaced)} replaced by newer ones" if deleted or replaced else ""


def _profiles(document: Document) -> str:
    found, missing = document["profiles_found"], document["profiles_missing"]
    return f"{count(found)} found that were missing, {count(missing)} that nobody has" if found or missing else ""

"""A report as plain text: for mails, logs and pipes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dragon.constellation.figures import METHODS, count, missing_here, moment, size, span, summed, verdict, window
from dragon.constellation.names import kind_name
from dragon.text import clean, counted

Document = Mapping[str, Any]


def summary(document: Document) -> list[tuple[str, str]]:
    """Return the report's facts as pairs of name and value, the most important ones first."""
    rejected, refused = summed(document["rejected"]), summed(document["refused"])
    facts = [
        ("run", f"{document['run']}: {verdict(document)}" + (f" ({document['error']})" if document["error"] else "")),
        ("took", f"{span(document['seconds'])}, from {moment(document['started'])}"),
        ("window", window(document)),
        ("authors", f"{counted(document['pubkeys'], 'public key')}, {count(document['people'])} of them this node's own"),
        ("peers", _peers(document)),
        ("events", f"{count(document['received'])} collected: {count(document['stored'])} new, "
                   f"{count(document['duplicate'])} known already, {count(rejected)} rejected, {count(refused)} refused"),
        ("missing", _missing(document)),
        ("sent", f"{counted(document['sent'], 'event')} to peers" if document["sent"] else ""),
        ("rejected", reasons(document["rejected"])),
        ("refused", reasons(document["refused"])),
        ("kinds", ", ".join(f"{kind_name(int(kind))} {count(number)}" for kind, number in ranked(document["by_kind"]))),
        ("profiles", _profiles(document)),
        ("traffic", f"{size(document['bytes_in'])} received, {size(document['bytes_out'])} sent"),
        *(("note", note) for note in document.get("notes", [])),
    ]  # fmt: skip
    return [(name, clean(value)) for name, value in facts if value]


def plain(document: Document) -> Iterator[str]:
    """Yield the lines of the whole report."""
    for name, value in summary(document):
        yield f"{name:9}  {value}"
    for peer in document["peers"]:
        yield ""
        yield f"{clean(peer['alias'])} ({clean(peer['id'])}): {clean(peer['state'])} {clean(peer['error'])}".rstrip()
        yield "  " + ", ".join(peer_facts(peer))


def peer_facts(peer: Document) -> list[str]:
    """Return what one peer gave, in short words."""
    facts = [counted(peer["received"], "event"), f"{count(peer['new'])} new", f"{count(peer['duplicate'])} known already"]
    for name, counts in (("rejected", peer["rejected"]), ("refused", peer["refused"])):
        if number := summed(counts):
            facts.append(f"{count(number)} {name} ({reasons(counts)})")
    compared = (("missing", "missing here"), ("lacking", "that it lacks"))
    facts += [f"{count(peer[name])} {words}" for name, words in compared if peer[name] is not None]
    if peer["sent"]:
        facts.append(f"{count(peer['sent'])} sent")
    read = METHODS.get(peer["method"])
    return [*facts, f"{size(peer['bytes_in'])} in {span(peer['seconds'])}", *([f"read as {read}"] if read else [])]


def reasons(counts: Mapping[str, int]) -> str:
    """Return `reason 12, other 3`, the most frequent first."""
    return ", ".join(f"{clean(reason, 60)} {count(number)}" for reason, number in ranked(counts))


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(((str(name), int(number)) for name, number in counts.items() if number), key=lambda pair: (-pair[1], pair[0]))


def _missing(document: Document) -> str:
    """Return what a comparison found; a run that fetches has it in `events`."""
    if not (document["dry_run"] or document["verify"]):
        return ""
    here, there = (sum(peer[name] or 0 for peer in document["peers"]) for name in ("missing", "lacking"))
    return missing_here(here) + (f"; {count(there)} of ours {'is' if there == 1 else 'are'} missing there" if there else "")


def _peers(document: Document) -> str:
    total, done, failed = document["peers_total"], document["peers_ok"], document["peers_failed"]
    rest = total - done - failed
    return f"{total}: {done} successful, {failed} failed" + (f", {rest} not asked to the end" if rest else "")


def _profiles(document: Document) -> str:
    found, missing = document["profiles_found"], document["profiles_missing"]
    return f"{count(found)} found that were missing here, {count(missing)} that nobody has" if found or missing else ""

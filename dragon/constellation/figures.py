"""Numbers and moments as people read them, the same in the text, the page and the log. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from dragon.text import apart, counted

VERDICTS: Mapping[str, str] = {
    "ok": "complete",
    "partial": "partly done",
    "failed": "failed",
    "timeout": "out of time",
    "cancelled": "stopped",
    "nothing": "nothing to do",
}
"""State of a run → what a reader is told."""

METHODS: Mapping[str, str] = {"nip77": "differences", "req": "everything"}
"""How a peer was read: NIP-77 found what was missing, REQ had to fetch the whole window."""


def count(value: Any) -> str:
    """Return a number with its thousands apart; anything else as text."""
    return apart(value) if isinstance(value, int) else str(value)


def missing_here(number: int) -> str:
    """Return what a comparison found that the peers have and we lack."""
    if not number:
        return "nothing is missing here"
    return f"{counted(number, 'event')} of the peers {'is' if number == 1 else 'are'} missing here"


def size(value: float) -> str:
    """Return an amount of bytes: 12 B, 3.4 kB, 120 MB."""
    amount, unit = float(value), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if amount < 999.5:
            break
        amount, unit = amount / 1000, larger
    return f"{amount:.1f} {unit}" if unit != "B" and amount < 10 else f"{amount:.0f} {unit}"


def span(seconds: float) -> str:
    """Return a time that something took: 240 ms, 3.2 s, 4 min 05 s, 2 h 10 min."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"


def moment(at: float) -> str:
    """Return a time of the wall clock in this machine's zone: 2026-11-27 03:04:05."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def window(document: Mapping[str, Any]) -> str:
    """Return the time whose events a run looked at; "" where it never came to that."""
    since, until = document["since"], document["until"]
    if not until:
        return ""
    return f"{moment(since)} to {moment(until)}" if since else f"everything until {moment(until)}"


def summed(counts: Any) -> int:
    return sum(value for value in counts.values() if isinstance(value, int)) if isinstance(counts, Mapping) else 0


def verdict(document: Mapping[str, Any]) -> str:
    """Return in a word or two how a run ended."""
    return VERDICTS.get(str(document.get("state")), str(document.get("state")))

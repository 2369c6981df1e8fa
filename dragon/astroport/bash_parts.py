"""What of the Bash side is on this machine: looked at, never run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dragon.astroport.zen import Zen

Part = Literal["original", "dragon", "absent"]

HEAD = 4096
"""Bytes of a script that are looked at: Dragon's own stand-ins are shorter."""

_MARKS = (b"# Dragon stands in for", b" me ", b" sync --as ")


@dataclass(frozen=True, slots=True)
class BashParts:
    """`publishes`: the station's _12345.sh runs, which publishes its directory. `managers`: originals among the *.me.sh."""

    dragon_script: Part
    managers: int
    stand_ins: int
    publishes: bool

    def document(self) -> dict[str, Any]:
        return asdict(self)


def bash_parts(zen: Zen) -> BashParts:
    """Return what lies and runs there. Reads /proc: call it in a thread from async code."""
    found = [_part(path) for path in sorted(zen.services.glob("*.me.sh"))] if zen.services.is_dir() else []
    return BashParts(
        dragon_script=_part(zen.dragon_script),
        managers=found.count("original"),
        stand_ins=found.count("dragon"),
        publishes=is_publishing(_command_lines()),
    )


def is_publishing(command_lines: Iterable[list[bytes]]) -> bool:
    """Whether one of these processes is a shell that runs `_12345.sh`. Pure."""
    return any(
        Path(words[0].decode(errors="replace")).name in ("bash", "sh", "dash", "_12345.sh")
        and any(word.rpartition(b"/")[2] == b"_12345.sh" for word in words[:3])
        for words in command_lines
        if words
    )


def _part(path: Path) -> Part:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return "absent"
    ours = len(head) < HEAD and head.startswith(b"#!/bin/sh\n") and any(mark in head for mark in _MARKS) and b"dragon" in head
    return "dragon" if ours else "original"


def _command_lines() -> Iterator[list[bytes]]:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        yield [word for word in words if word]

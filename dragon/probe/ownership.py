"""Whose port is it? A port that is itself the near end of a tunnel is never offered again (DESIGN §7, rule 3).

Tunnels are known by who holds the listening socket: Kubo (`ipfs`), a Dragon, an ssh client (`-L`, `-D`) or the session of an
ssh server (`-R`). Where the kernel does not tell us who holds a socket (another user's, without privileges), the names, users
and command lines of all processes, which anybody may read, are the second best.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

from dragon import sockdiag
from dragon.probe.evidence import CannotTell, process

_TUNNELERS: Final = frozenset({"ipfs", "kubo", "dragon", "ssh", "autossh", "sshd-session"})

_WATCHDOGS: Final = ("[priv]", "[net]", "[accepted]", "[preauth]")
"""What ends the titles of an ssh server's processes that never hold a forward: the privileged half of each session (the half of
its user does), and those that nobody has logged in to yet."""

_FORWARD_FLAG: Final = re.compile(r"-[A-Za-z0-9]*?[LDR]")
"""`-L`, or behind other flags as in `-fNL`; its specification follows in the same word or the next."""
_LOCAL: Final = re.compile(r"(?:.*:)?(\d+):(?:(?:\[[^\]]+\]|[^:/\[\]]*):\d+|/.+)")
_DYNAMIC: Final = re.compile(r"(?:.*:)?(\d+)")


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds, or might hold, a listening socket."""

    pid: int
    name: str
    uid: int
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who holds one listening socket."""

    socket: sockdiag.Socket
    holders: tuple[Holder, ...] | None
    """None where that cannot be read; then `suspects` are all tunnel-making processes of the socket's user."""
    suspects: tuple[Holder, ...] = ()


def is_tunneler(holder: Holder) -> bool:
    """Return whether listening sockets of this process are near ends of tunnels."""
    title = holder.arguments[0] if holder.arguments else ""
    if holder.name in ("sshd", "sshd-session") and title.endswith(_WATCHDOGS):
        return False
    if holder.name in _TUNNELERS or _is_dragon(holder.arguments):
        return True
    # Before OpenSSH 9.8 a session's process is an `sshd` as well; only its title tells it from the server itself.
    return holder.name == "sshd" and title.startswith("sshd: ") and "[listener]" not in title


def refusal(ownership: Ownership, own_pids: Collection[int], *, is_specific: bool) -> str | None:
    """Return why a socket must not be offered, or None. `is_specific`: the evidence names the service, not just its port."""
    port = ownership.socket.local_port
    if ownership.holders is not None:
        for holder in ownership.holders:
            if holder.pid in own_pids:
                return f"port {port} is our own"
            if is_tunneler(holder):
                return f"port {port} is a tunnel (held by {holder.name}, pid {holder.pid})"
        return None
    for suspect in ownership.suspects:
        if port in forwarded_ports(suspect.arguments):
            return f"port {port} is a tunnel (named by {suspect.name}, pid {suspect.pid})"
    if ownership.suspects and not is_specific:
        suspect = ownership.suspects[0]
        return f"port {port} may be a tunnel of {suspect.name} (pid {suspect.pid}): who holds it cannot be read"
    return None


def forwarded_ports(arguments: Sequence[str]) -> set[int]:
    """Return the ports on which an ssh with this command line listens (ssh(1): `-L`, `-D`; what `-R` names is elsewhere)."""
    ports: set[int] = set()
    for before, argument in pairwise(("", *arguments)):
        joined = _FORWARD_FLAG.match(argument)
        apart = _FORWARD_FLAG.fullmatch(before)
        if (flag := joined or apart) is None:
            continue
        spec = argument[joined.end() :] if joined else argument
        grammar = {"L": _LOCAL, "D": _DYNAMIC}.get(flag[0][-1])
        if grammar is not None and (found := grammar.fullmatch(spec)):
            ports.add(int(found[1]))
    return ports


def read_owners(sockets: Collection[sockdiag.Socket], known: Mapping[int, Ownership]) -> dict[int, Ownership]:
    """Return inode → ownership of `sockets`, asking the system only for those not in `known`. Call it in a thread."""
    owned = {each.inode: known[each.inode] for each in sockets if each.inode in known}
    missing = [each for each in sockets if each.inode not in owned]
    if not missing:
        return owned
    found, complete = sockdiag.owners({each.inode for each in missing})
    suspects: list[Holder] | None = None
    for each in missing:
        if found[each.inode] or complete:
            holders = tuple(holder for pid in sorted(found[each.inode]) if (holder := read_holder(pid)) is not None)
            owned[each.inode] = Ownership(each, holders)
        else:
            suspects = _tunnelers() if suspects is None else suspects
            same_user = tuple(one for one in suspects if each.uid in (one.uid, -1))
            owned[each.inode] = Ownership(each, None, same_user)
    return owned


def read_holder(pid: int) -> Holder | None:
    """Return what /proc says of a process, None when it ended."""
    folder = Path(f"/proc/{pid}")
    try:
        command = (folder / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        name = (folder / "comm").read_text(errors="replace").rstrip("\n")
        return Holder(pid, name, folder.stat().st_uid, tuple(word.decode("utf-8", "replace") for word in command))
    except OSError:
        return None


def unreadable(owned: Iterable[Ownership]) -> list[str]:
    """Return the statement for `doctor` on sockets whose owner cannot be read; empty when all can."""
    ports = sorted({each.socket.local_port for each in owned if each.holders is None})
    if not ports:
        return []
    return [
        f"who holds port {', '.join(map(str, ports))} cannot be read without privileges: a tunnel of another user behind it is "
        "recognised by process names and command lines only (run the node as root, as the services' user, or with "
        "CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH, to be sure)"
    ]


def _is_dragon(arguments: tuple[str, ...]) -> bool:
    """True for `dragon …`, `python …/bin/dragon …`, `python -m dragon.… …`."""
    words = arguments[:4]
    script = any(os.path.basename(word) == "dragon" for word in words[:2])  # noqa: PTH119  # a string of another process
    module = any(flag == "-m" and (name == "dragon" or name.startswith("dragon.")) for flag, name in pairwise(words))
    return script or module


def _tunnelers(running: Callable[[], list[process.Process]] = process.running) -> list[Holder]:
    try:
        everybody = running()
    except CannotTell:
        return []
    candidates = (
        read_holder(each.pid) for each in everybody if each.name in _TUNNELERS or each.name.startswith(("python", "sshd"))
    )
    return [holder for holder in candidates if holder is not None and is_tunneler(holder)]

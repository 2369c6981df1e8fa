"""Kubo's words → our one line with a hint: for answers of its API and for what it wrote into its log before it ended."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dragon.errors import KuboRefused, KuboUnreachable

_DOCTOR = "run `dragon doctor`; it names the commands that switch on what is missing"

_REFUSALS: tuple[tuple[str, str], ...] = (
    (
        "libp2p stream mounting not enabled",
        "ipfs config --json Experimental.Libp2pStreamMounting true, then restart the daemon",
    ),
    ("experimental pubsub feature not enabled", "ipfs config --json Pubsub.Enabled true, then restart the daemon"),
    ("pubsub is not enabled", "ipfs config --json Pubsub.Enabled true, then restart the daemon"),
    ("listener already registered", "another program listens under this name: see `ipfs p2p ls`"),
    ("address already in use", "another program has this port: choose another one"),
    ("validation ignored", "two publications of this node met; it is sent again with the next beat"),
    ("failed to find any peer in table", "no peer is connected yet: see `ipfs swarm peers`"),
    ("can't publish while offline", "the daemon runs offline: start it without --offline"),
)

_ENDINGS: tuple[tuple[str, str, str], ...] = (
    # pattern in the log, what it means, what to do; the first that matches, read from the last line upwards
    (
        r"someone else has the lock|repo\.lock.*(?:already|held)",
        "the Kubo repo is in use by another process",
        "stop that daemon",
    ),
    (
        r"listen tcp\S* \S*:(\d+): bind: address already in use|address already in use",
        "a port of Kubo is taken",
        "it chooses others at the next start",
    ),
    (
        r"Your programs version \(\d+\) is lower than your repos|repo version .* newer",
        "the Kubo repo was written by a newer Kubo",
        "use that newer Kubo ([kubo] binary = …)",
    ),
    (r"[Nn]o space left on device", "the disk is full", "free some space, then start again"),
    (r"permission denied", "Kubo may not read or write its repo", "give the folder to the user that runs Dragon"),
    (
        r"private networking|swarm key|LIBP2P_FORCE_PNET|private network",
        "Kubo does not accept the swarm key",
        "check the file of [kubo] swarm_key",
    ),
    (
        r"(?:invalid character|failure to decode config|cannot unmarshal)",
        "Kubo cannot read its config",
        "see the log for where",
    ),
)


def refused(message: str, status: int = 500) -> KuboRefused:
    """Return the error for an answer of the API that says no, with Kubo's own words and a hint where we know one."""
    message = " ".join(message.split()) or f"Kubo answered with status {status}"
    if status in (401, 403):
        return KuboRefused(
            f"Kubo refuses this client: {message}", "set [kubo] auth to a secret of API.Authorizations in Kubo's config"
        )
    if status == 404:
        return KuboRefused(f"Kubo does not know this call: {message}", _DOCTOR)
    for words, hint in _REFUSALS:
        if words in message:
            return KuboRefused(message, hint)
    return KuboRefused(message)


def unreachable(address: object, why: str) -> KuboUnreachable:
    """Return the error for a daemon that does not answer at `address`."""
    return KuboUnreachable(f"Kubo does not answer at {address}: {why}", "start the daemon, or check [kubo] api in the config")


def ending(lines: Sequence[str], log: object) -> tuple[str, str]:
    """Return (what happened, what to do) for a daemon that ended, from the last lines it wrote; `log` is where they are."""
    for line in reversed(lines):
        for pattern, meaning, hint in _ENDINGS:
            if re.search(pattern, line):
                return meaning, f"{hint} (log: {log})"
    said = next((line.strip() for line in reversed(lines) if "error" in line.lower()), "")
    return f"Kubo ended{': ' + said.removeprefix('Error: ') if said else ' without a word'}", f"see {log}"

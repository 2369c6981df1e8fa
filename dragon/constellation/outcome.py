"""What a run of the sync did: counted while it runs, written down whichever way it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

Method = Literal["nip77", "req", ""]
PeerState = Literal["waiting", "ok", "failed", "cut"]
RunState = Literal["ok", "partial", "failed", "timeout", "cancelled", "nothing"]


@dataclass(slots=True)
class PeerOutcome:
    """What one peer gave and took in this run."""

    node_id: str
    alias: str
    address: str = ""
    """The ws:// URL of our end of the tunnel; empty until it was opened."""
    method: Method = ""
    """`nip77`: only differences crossed the wire; `req`: everything in the window did; empty: it never came to that."""
    state: PeerState = "waiting"
    """`waiting`: its turn never came; `ok`: asked to the end, also where nothing was new; `failed`: see `error`; `cut`: the run
    ended first."""
    error: str = ""
    received: int = 0
    """Events that came, of whatever quality; the sum of `duplicate`, `rejected` and what was handed to the store."""
    new: int = 0
    """Events that the local store took."""
    duplicate: int = 0
    """Events that were here already, or came from another peer in the same run."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Events that were not even offered to the store, by reason (`bad id`, `bad signature`, `unrequested`, `deleted`, …)."""
    refused: Counter[str] = field(default_factory=Counter)
    """Events that the local store did not want, by its reason (`blocked`, `invalid`, …)."""
    sent: int = 0
    """Events that the peer took from us (`--dir both`)."""
    declined: Counter[str] = field(default_factory=Counter)
    """Events that the peer did not want from us, by its reason."""
    by_kind: Counter[int] = field(default_factory=Counter)
    """Verified events of this peer that were offered to the store, by kind."""
    missing: int | None = None
    """Events that the peer has and we lacked when it was asked; None where that was not compared."""
    lacking: int | None = None
    """Events that we have and the peer lacked; only compared by `--verify` and `--dir both`."""
    bytes_in: int = 0
    bytes_out: int = 0
    """What crossed the wire to and from this peer: the payload of WebSocket messages."""
    undelivered: int = 0
    """Events that the peer named and did not give when asked for them."""
    overfull: int = 0
    """Seconds in which one author has more events of one kind than the peer gives at once: some may be missing."""
    round_trips: int = 0
    """NIP-77 messages that were answered by the peer."""
    seconds: float = 0.0

    def document(self) -> dict[str, Any]:
        """Return the outcome as a JSON object; counters become maps, kinds become words."""
        return {
            "id": self.node_id,
            "alias": self.alias,
            "address": self.address,
            "method": self.method,
            "state": self.state,
            "error": self.error,
            "received": self.received,
            "new": self.new,
            "duplicate": self.duplicate,
            "rejected": dict(self.rejected),
            "refused": dict(self.refused),
            "sent": self.sent,
            "declined": dict(self.declined),
            "by_kind": _kinds(self.by_kind),
            "missing": self.missing,
            "lacking": self.lacking,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "undelivered": self.undelivered,
            "overfull": self.overfull,
            "round_trips": self.round_trips,
            "seconds": round(self.seconds, 3),
        }


@dataclass(slots=True)
class Outcome:
    """What the whole run did."""

    started: float
    """Unix seconds."""
    ended: float = 0.0
    """Unix seconds; 0 while it runs."""
    state: RunState = "nothing"
    """`ok`: every peer was asked to the end; `partial`: some were; `failed`: none, or our own store or relay failed (`error`);
    `nothing`: there was no peer or no author."""
    error: str = ""
    peers: list[PeerOutcome] = field(default_factory=list)
    stored: int = 0
    """Events that the local store took: the sum of `new` over the peers."""
    refused: Counter[str] = field(default_factory=Counter)
    """Events that the local store did not want, by its reason."""
    authors: int = 0
    kinds: tuple[int, ...] = ()
    since: int = 0
    until: int = 0
    dry_run: bool = False
    verify: bool = False
    profiles_found: int = 0
    """Authors without a profile (kind 0) here, for whom a peer had one."""
    profiles_missing: int = 0
    """Authors for whom nobody had one."""
    deletions: int = 0
    """Events that were left out because a fetched or local kind 5 of their author names them."""
    superseded: int = 0
    """Events that were left out because a newer one replaces them (NIP-01)."""

    @property
    def seconds(self) -> float:
        return max(self.ended - self.started, 0.0)

    @property
    def by_kind(self) -> Counter[int]:
        """Verified events that were offered to the store, by kind, over all peers."""
        return sum((peer.by_kind for peer in self.peers), Counter())

    @property
    def rejected(self) -> Counter[str]:
        """Events that were not offered to the store, by reason, over all peers."""
        return sum((peer.rejected for peer in self.peers), Counter())

    @property
    def received(self) -> int:
        return sum(peer.received for peer in self.peers)

    @property
    def duplicate(self) -> int:
        return sum(peer.duplicate for peer in self.peers)

    @property
    def succeeded(self) -> int:
        """Peers that were asked to the end."""
        return sum(peer.state == "ok" for peer in self.peers)

    def document(self) -> dict[str, Any]:
        """Return the run as a JSON object: what `dragon sync --json` prints and the history keeps."""
        return {
            "state": self.state,
            "error": self.error,
            "started": self.started,
            "ended": self.ended,
            "seconds": round(self.seconds, 3),
            "peers_total": len(self.peers),
            "peers_ok": self.succeeded,
            "peers_failed": sum(peer.state == "failed" for peer in self.peers),
            "received": self.received,
            "stored": self.stored,
            "duplicate": self.duplicate,
            "rejected": dict(self.rejected),
            "refused": dict(self.refused),
            "sent": sum(peer.sent for peer in self.peers),
            "by_kind": _kinds(self.by_kind),
            "deletions": self.deletions,
            "superseded": self.superseded,
            "authors": self.authors,
            "kinds": list(self.kinds),
            "since": self.since,
            "until": self.until,
            "dry_run": self.dry_run,
            "verify": self.verify,
            "profiles_found": self.profiles_found,
            "profiles_missing": self.profiles_missing,
            "bytes_in": sum(peer.bytes_in for peer in self.peers),
            "bytes_out": sum(peer.bytes_out for peer in self.peers),
            "peers": [peer.document() for peer in self.peers],
        }


def _kinds(counts: Counter[int]) -> dict[str, int]:
    return {str(kind): count for kind, count in sorted(counts.items())}

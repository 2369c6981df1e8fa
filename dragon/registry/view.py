"""The view: the newest valid manifest of every node of the swarm. A value with rules: no clock, no socket, no I/O.

    bytes ──► admission (`admitting`) ──► who is in which state (`roster`) ──► what is asked, compared and relayed (here)

What is held merges by the rank `(sequence, hash)` alone, so views that heard the same envelopes hold the same manifests, in
whatever order and however often they came. What differs between nodes is only time: each counts leases on its own monotonic
clock.

`at` and `heard_at` are seconds on that clock; `now_ms` is the wall clock, which only ever bounds sequences.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from dragon.registry.admitting import Admitting
from dragon.registry.digest import Digest, differing
from dragon.registry.entry import Entry, NodeView, Provider, State, Trust
from dragon.registry.index import Providers, self_last
from dragon.registry.members import Crowd, Members
from dragon.registry.policy import Policy
from dragon.registry.roster import Roster
from dragon.registry.unsigned import Unsigned, merged
from dragon.registry.verdict import Admitted, Change, Duplicate, Kind, Rejected, Source, Verdict
from registry_schema import Manifest, Parsed, Rank, parse

__all__ = ["Admitted", "Change", "Duplicate", "NodeView", "Policy", "Provider", "Rejected", "State", "Trust", "Verdict", "View"]


class View:
    """What this node holds of everybody, itself included (`source="self"`)."""

    def __init__(
        self,
        self_id: str,
        swarm: str,
        policy: Policy,
        marks: Mapping[str, Rank],
        rng: random.Random,
        *,
        read: Callable[[bytes], Parsed] = parse,
        verify: Callable[[Parsed], object] = Parsed.verify,
    ) -> None:
        """`marks`: the ranks that the store remembers; nothing below them is news.

        `read` and `verify` do what their defaults do; a simulator of a thousand views does it once for all of them.
        """
        self.self_id = self_id
        self.swarm = swarm
        self.policy = policy
        self.counters: Counter[str] = Counter()
        """Duplicates, and rejections by reason."""
        known = Crowd(policy.known_capacity, policy.known_bytes)
        unknown = Crowd(policy.unknown_capacity, policy.unknown_bytes)
        self._roster = Roster(self_id, policy, Members(known, unknown, rng), dict(marks), self.counters)
        self._entries = self._roster.entries
        # Draws of its own: what nobody signed must not even decide which random number a choice gets.
        self._unsigned = Unsigned(policy.keep, self._note_unsigned, random.Random(self_id))  # noqa: S311
        self._admitting = Admitting(
            self_id, swarm, policy, self._roster, self._unsigned, self.counters, read=read, verify=verify
        )

    # -- what comes in --------------------------------------------------------------------------------------------------

    def admit(self, data: bytes, *, carrier: str, source: Source, heard_at: float, now_ms: int, age: float = 0.0) -> Verdict:
        """Take in one envelope and say what became of it; never raises for what a peer sent.

        `carrier` is the node id that brought it, as Kubo verified it; `age` the seconds since it was first heard anywhere, as
        the carrier claims.
        """
        return self._admitting.admit(data, carrier=carrier, source=source, heard_at=heard_at, now_ms=now_ms, age=age)

    def restore(self, data: bytes, *, age: float, at: float) -> bool:
        """Take in an envelope from the store, heard `age` seconds before `at`: silent until somebody confirms or renews it.

        Returns False for what no longer holds: kept too long, of another swarm, below its mark, or damaged.
        """
        return self._admitting.restore(data, age=age, at=at)

    def learn(self, manifest: Manifest, *, at: float, now_ms: int, usable: bool) -> Admitted | Rejected:
        """Take in what a node says without a signature, as read from the files under its IPNS name.

        Its `sequence` is the time that stands in them, in milliseconds. `usable`: whether the operator admits such nodes as
        providers and members; they rank behind every signed one, and nothing of them is stored, compared or relayed.
        """
        self._expire(at)
        node_id = manifest.node
        verdict: Admitted | Rejected
        if node_id == self.self_id or not self._admitting.is_allowed(node_id):
            verdict = Rejected("unsigned-not-admitted", f"{node_id} is this node or not on this swarm's list")
        else:
            verdict = self._unsigned.learn(manifest, self._entries.get(node_id), at=at, now_ms=now_ms, usable=usable)
        if isinstance(verdict, Rejected):
            self.counters[verdict.reason] += 1
        self._roster.tell()
        return verdict

    def unlearn(self, node_id: str) -> None:
        """Forget what was learnt of a node without a signature; what it signed stays."""
        self._unsigned.unlearn(node_id)
        self._roster.tell()

    def note_connected(self, node_id: str) -> None:
        """We hold a direct connection to `node_id`: it is known, now or from its first envelope on."""
        self._roster.vouch(node_id)
        self._roster.tell()

    def note_answered(self, node_id: str) -> None:
        """`node_id` answered an exchange: it is known."""
        self.note_connected(node_id)

    def tick(self, at: float) -> list[Change]:
        """End the leases that are over at `at`, tell the subscribers, and return what changed."""
        self._expire(at)
        return self._roster.tell()

    def subscribe(self, callback: Callable[[Change], None]) -> None:
        """Call `callback` with every change, when the step that made it is complete."""
        self._roster.subscribe(callback)

    # -- what is asked --------------------------------------------------------------------------------------------------

    def nodes(self, at: float) -> list[NodeView]:
        """Return every node, this one included, ascending by id."""
        self._expire(at)
        node_ids = self._entries.keys() | self._unsigned.entries.keys()
        return [self._shown(entry, at) for node_id in sorted(node_ids) if (entry := self._entry(node_id)) is not None]

    def node(self, node_id: str, at: float) -> NodeView | None:
        self._expire(at)
        entry = self._entry(node_id)
        return None if entry is None else self._shown(entry, at)

    def providers(
        self, slug: str, *, where: Mapping[str, str] | None = None, at: float, signed_only: bool = False
    ) -> Sequence[Provider]:
        """Return the live offers of `slug` whose labels meet `where`, ascending by node id, this node last.

        Costs microseconds whatever the swarm's size (and some for each unsigned node among them, unless `signed_only`); each
        `Provider` is made when it is looked at.
        """
        self._expire(at)
        own = self._entries.get(self.self_id)
        found = self._roster.index.find(slug, where)
        if self._unsigned.members and not signed_only:
            found = merged(found, self._unsigned.index.find(slug, where))
        return Providers(self_last(found, own.listed.get(slug) if own else None), self.self_id, at)

    def slugs(self, at: float) -> dict[str, int]:
        """Return every slug that is offered, ascending, with the number of live nodes that offer it."""
        self._expire(at)
        counts = self._roster.index.counts()
        if self._unsigned.members:
            both = Counter(counts) + Counter(self._unsigned.index.counts())
            return dict(sorted(both.items()))
        return counts

    def members(self, at: float) -> frozenset[str]:
        """Return the ids of all live nodes, except those that are only shown."""
        self._expire(at)
        return frozenset(self._roster.live | self._unsigned.members)

    def is_member(self, node_id: str, at: float) -> bool:
        """Tell whether `node_id` is live: what the gate asks for each caller (which is connected by calling, hence known)."""
        self._expire(at)
        return node_id in self._roster.live or node_id in self._unsigned.members

    def live_count(self, at: float) -> int:
        """Return how many nodes are live and beat, this one included: what `stretch` goes by."""
        self._roster.expire(at)
        return len(self._roster.live)

    def is_known(self, node_id: str) -> bool:
        return self._roster.members.is_known(node_id)

    def mark(self, node_id: str) -> Rank | None:
        """Return the highest rank that was ever admitted of `node_id`."""
        return self._roster.marks.get(node_id)

    def envelope(self, node_id: str) -> bytes | None:
        """Return the envelope held of `node_id`, whatever its state."""
        entry = self._entries.get(node_id)
        return (entry.data or None) if entry else None

    def age(self, node_id: str, at: float) -> float | None:
        """Return the seconds for which that envelope has been heard, None where there is none."""
        entry = self._entries.get(node_id)
        return max(at - entry.heard, 0.0) if entry and entry.data else None

    def proof(self, node_id: str) -> tuple[bytes, bytes] | None:
        """Return two envelopes that `node_id` signed under one sequence, if it ever did."""
        entry = self._entries.get(node_id)
        return entry.proof if entry else None

    @property
    def own_clock_suspect(self) -> bool:
        """True when several signers look skewed and they are most of those heard: then our own clock is the suspect."""
        skewed, live = len(self._roster.skewed), len(self._roster.live - {self.self_id})
        return skewed >= self.policy.signers_for_suspicion and skewed > live

    def __len__(self) -> int:
        return len(self._entries)

    # -- what is compared and relayed -----------------------------------------------------------------------------------

    def digest(self, at: float) -> Digest:
        """Return 16 hashes of 8 bytes over who is live with what content."""
        self._roster.expire(at)
        return self._roster.digest.value()

    def differing(self, theirs: Sequence[bytes], at: float) -> tuple[int, ...]:
        """Return the numbers of the buckets in which a peer's digest differs from ours; none when it has no digest."""
        return differing(self.digest(at), tuple(theirs))

    def bucket(self, numbers: Iterable[int], at: float) -> Iterator[tuple[bytes, float]]:
        """Yield `(envelope, age in seconds)` of these buckets: who is live, and who left within a lease.

        Exhaust it before the view changes.
        """
        self._roster.expire(at)
        for number in numbers:
            for entry in self._roster.relayable(number, at):
                yield entry.data, max(at - entry.heard, 0.0)

    def _expire(self, at: float) -> None:
        self._roster.expire(at)
        self._unsigned.expire(at)

    def _note_unsigned(self, entry: Entry, kind: Kind) -> None:
        """Tell what happened to an unsigned node; "gone" would make the store forget what was signed in its name."""
        self._roster.note(entry, "silent" if kind == "gone" and entry.node_id in self._roster.marks else kind)

    def _entry(self, node_id: str) -> Entry | None:
        """Return what is shown of a node: its signed word, unless that has ended and an unsigned one is live."""
        signed, unsigned = self._entries.get(node_id), self._unsigned.entries.get(node_id)
        return unsigned if signed is None or (unsigned is not None and unsigned.state == "live") else signed

    def _shown(self, entry: Entry, at: float) -> NodeView:
        is_self = entry.node_id == self.self_id
        return entry.shown(at, known=is_self or self.is_known(entry.node_id), is_self=is_self)

"""The view: the newest valid manifest of every node of the swarm. A value with rules: no clock, no socket, no I/O.

    bytes ──► seen lately? ──► rate of the carrier ──► size, shape ──► whose, which swarm ──► sequence ──► signature ──► held
              (duplicate)      (who brought it)        (parse)         (carrier, admit)       (mark, time)

Cheap steps come before dear ones (DESIGN §5). What is held merges by the rank `(sequence, hash)` alone, so views that heard the
same envelopes hold the same manifests, in whatever order and however often they came. What differs between nodes is only time:
each counts leases on its own monotonic clock (`roster`).

`at` and `heard_at` are seconds on that clock; `now_ms` is the wall clock, which only ever bounds sequences.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal

from dragon.registry.admission import Fingerprint, Lags, Rates, Seen, fingerprint
from dragon.registry.digest import Digest, differing
from dragon.registry.entry import Entry, NodeView, Provider, State, Trust
from dragon.registry.index import Providers, self_last
from dragon.registry.lease import clock_reason, relayed_age, spell_seconds
from dragon.registry.members import Crowd, Members
from dragon.registry.policy import Policy
from dragon.registry.roster import Roster
from dragon.registry.unsigned import Unsigned, merged
from dragon.registry.verdict import Admitted, Change, Duplicate, Hearing, Kind, Rejected, Source, Verdict
from registry_schema import FromTheFuture, Manifest, Parsed, Rank, Rejection, check_bounds, equivocates, parse

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
        self._max_skew_ms = round(policy.max_skew * 1000)
        self._read = read
        self._verify = verify
        self._marks = dict(marks)
        self._seen = Seen(policy.seen_capacity)
        self._rates = Rates(policy)
        self._lags = Lags(policy.signers_for_lag)
        known = Crowd(policy.known_capacity, policy.known_bytes)
        unknown = Crowd(policy.unknown_capacity, policy.unknown_bytes)
        self._roster = Roster(self_id, policy, Members(known, unknown, rng), self._marks, self.counters)
        self._entries = self._roster.entries
        # Draws of its own: what nobody signed must not even decide which random number a choice gets.
        self._unsigned = Unsigned(policy.keep, self._note_unsigned, random.Random(self_id))  # noqa: S311

    # -- what comes in --------------------------------------------------------------------------------------------------

    def admit(self, data: bytes, *, carrier: str, source: Source, heard_at: float, now_ms: int, age: float = 0.0) -> Verdict:
        """Take in one envelope and say what became of it; never raises for what a peer sent.

        `carrier` is the node id that brought it, as Kubo verified it; `age` the seconds since it was first heard anywhere, as
        the carrier claims.
        """
        key = fingerprint(data)
        owner = self._seen.get(key)
        if owner is not None:
            self.counters["duplicate"] += 1
            return self._seen_again(owner, key, carrier, source, heard_at, now_ms, age)
        known = self._roster.members.is_known(carrier)
        if source != "self" and not self._rates.take(carrier, source == "exchange", known, heard_at):
            return self._refuse("rate", f"too many envelopes from {carrier}")
        try:
            # The node itself speaks, mostly to say the same again.
            entry = self._entries.get(carrier) if source == "pubsub" and self._read is parse else None
            parsed = (entry.repeated(data) if entry is not None else None) or self._read(data)
        except Rejection as error:
            return self._refuse_for_good(key, error)
        verdict = self._admit(parsed, key, Hearing(carrier, source, heard_at, now_ms, max(age, 0.0)))
        self._roster.tell()
        return verdict

    def restore(self, data: bytes, *, age: float, at: float) -> bool:
        """Take in an envelope from the store, heard `age` seconds before `at`: silent until somebody confirms or renews it.

        Returns False for what no longer holds: kept too long, of another swarm, below its mark, or damaged.
        """
        try:
            parsed = self._read(data)
            self._verify(parsed)
        except Rejection as error:
            self._refuse(error.reason, str(error))
            return False
        node_id, heard = parsed.manifest.node, at - max(age, 0.0)
        if node_id == self.self_id or node_id in self._entries or not self._is_allowed(node_id):
            return False
        if parsed.manifest.swarm != self.swarm or heard + self.policy.keep <= at:
            return False
        if self._marks.setdefault(node_id, parsed.rank) > parsed.rank:
            return False
        self._seen.add(fingerprint(data), node_id)
        entry = self._roster.enter(parsed.manifest, len(data))
        entry.hold(parsed)
        entry.source, entry.heard, entry.confirmed = "store", heard, False
        self._roster.settle(entry, at)
        self._roster.tell()
        return True

    def learn(self, manifest: Manifest, *, at: float, now_ms: int, usable: bool) -> Admitted | Rejected:
        """Take in what a node says without a signature, as read from the files under its IPNS name.

        Its `sequence` is the time that stands in them, in milliseconds. `usable`: whether the operator admits such nodes as
        providers and members; they rank behind every signed one, and nothing of them is stored, compared or relayed.
        """
        self._expire(at)
        node_id = manifest.node
        verdict: Admitted | Rejected
        if node_id == self.self_id or not self._is_allowed(node_id):
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
        return self._marks.get(node_id)

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

    # -- admission, step by step ----------------------------------------------------------------------------------------

    def _admit(self, parsed: Parsed, key: Fingerprint, hearing: Hearing) -> Verdict:
        node_id, rank = parsed.manifest.node, parsed.rank
        if hearing.source == "pubsub" and hearing.carrier != node_id:
            # Not remembered as seen: the same bytes may still come from the node itself.
            return self._refuse("carrier", f"{hearing.carrier} published an envelope of {node_id}")
        if not self._is_allowed(node_id):
            return self._refuse("not-admitted", f"{node_id} is not on this swarm's list")
        entry, mark = self._entries.get(node_id), self._marks.get(node_id)
        try:
            check_bounds(parsed.manifest, swarm=self.swarm, now_ms=hearing.now_ms, max_skew_ms=self._max_skew_ms)
            if mark is not None and rank <= mark and (rank < mark or entry is not None):
                return self._not_above(mark, parsed, key, entry, hearing)
            self._verify(parsed)
        except FromTheFuture as error:
            return self._from_the_future(error, parsed, entry, hearing)
        except Rejection as error:
            return self._refuse_for_good(key, error)
        heard = hearing.at - self._believed_age(node_id, entry, parsed.manifest.sequence, hearing)
        if entry is not None and entry.data and entry.confirmed:
            heard = max(heard, min(entry.heard, hearing.at))  # a node's newer word is not older than its last one
        if heard + self.policy.keep <= hearing.at:
            return self._refuse("expired", f"{node_id} spoke {spell_seconds(hearing.at - heard)} ago")
        self._seen.add(key, node_id)
        return Admitted(node_id, self._hold(parsed, entry, heard, hearing), rank)

    def _hold(
        self, parsed: Parsed, entry: Entry | None, heard: float, hearing: Hearing
    ) -> Literal["new", "content", "beat", "left", "back"]:
        """Put a verified envelope above the mark in its place and name what it changed."""
        firsthand = hearing.is_firsthand(parsed.manifest.node)
        before = entry.state if entry else None
        if entry is None:
            entry = self._roster.enter(parsed.manifest, len(parsed.data))
        else:
            if entry.data and equivocates(parsed.rank, entry.rank):
                self._equivocated(entry, parsed)
            entry.heard_before = entry.heard if entry.confirmed and entry.data else float("-inf")
            if len(parsed.data) != len(entry.data):
                self._roster.resize(entry, len(parsed.data))
        same = entry.hold(parsed)
        entry.source, entry.heard, entry.firsthand, entry.confirmed = hearing.source, heard, firsthand, True
        self._marks[entry.node_id] = parsed.rank
        if firsthand and hearing.source != "self":
            self._measure(entry, hearing)
            self._count_beat(entry, hearing.at)
        else:
            entry.reason = clock_reason(entry.lag or 0.0, self.policy.max_skew)
        self._roster.settle(entry, hearing.at)
        self._unsigned.yield_to(entry)
        if entry.state == before == "live":
            self._roster.note(entry, "beat" if same else "changed")
        if entry.state == "left":
            return "left"
        if before is None:
            return "new"
        if entry.state == "live" and before != "live":
            return "back"
        return "beat" if same else "content"

    def _not_above(self, mark: Rank, parsed: Parsed, key: Fingerprint, entry: Entry | None, hearing: Hearing) -> Verdict:
        """Handle what is not news: held already, outdated, or the second body of a sequence."""
        node_id, rank = parsed.manifest.node, parsed.rank
        if entry is not None and rank == mark:
            self.counters["duplicate"] += 1
            return self._heard_again(entry, hearing)
        if entry is not None and equivocates(rank, mark) and not entry.equivocated:
            self._verify(parsed)
            self._seen.add(key, node_id)
            self._equivocated(entry, parsed)
            return self._refuse("equivocation", f"{node_id} signed two bodies under sequence {rank[0]}")
        self._seen.add(key, node_id)
        return self._refuse("stale", f"{node_id}: sequence {rank[0]} is not above {mark[0]}")

    def _seen_again(
        self, owner: str, key: Fingerprint, carrier: str, source: Source, heard_at: float, now_ms: int, age: float
    ) -> Verdict:
        """Bytes seen lately: at most their age and their way are news, and only while they are what is held."""
        entry = self._entries.get(owner)
        if entry is None or (entry.confirmed and entry.firsthand) or (source == "pubsub" and carrier != owner):
            return Duplicate(owner)
        if fingerprint(entry.data) != key:
            return Duplicate(owner)
        verdict = self._heard_again(entry, Hearing(carrier, source, heard_at, now_ms, max(age, 0.0)))
        self._roster.tell()
        return verdict

    def _heard_again(self, entry: Entry, hearing: Hearing) -> Verdict:
        """What is held came once more: its earliest hearing counts, so this never extends a lease.

        After a restart the first hearing of a restored envelope confirms it, which may bring its node back within its lease.
        """
        if entry.confirmed and entry.firsthand:
            return Duplicate(entry.node_id)
        before, firsthand = entry.state, hearing.is_firsthand(entry.node_id)
        if not entry.confirmed or not firsthand:
            heard = hearing.at - self._believed_age(entry.node_id, entry, entry.rank[0], hearing)
            entry.heard = max(min(entry.heard, heard), entry.heard_before)
        if firsthand or not entry.confirmed:
            entry.source = hearing.source
        if firsthand:
            self._measure(entry, hearing)
        entry.firsthand, entry.confirmed = firsthand, True
        self._roster.settle(entry, hearing.at)
        self._unsigned.yield_to(entry)
        if entry.state == "live" and before != "live":
            return Admitted(entry.node_id, "back", entry.rank)
        return Duplicate(entry.node_id)

    def _from_the_future(self, error: FromTheFuture, parsed: Parsed, entry: Entry | None, hearing: Hearing) -> Verdict:
        """Show who speaks from the future as skewed, if it says so itself or is not heard otherwise; its mark stays."""
        node_id, sequence = parsed.manifest.node, parsed.manifest.sequence
        unheard = entry is None or entry.state == "silent"
        if hearing.source == "self" or not (unheard or hearing.is_firsthand(node_id)):
            return self._refuse(error.reason, str(error))
        if entry is not None and entry.state == "skewed" and sequence <= entry.manifest.sequence:
            return self._refuse(error.reason, str(error))
        try:
            self._verify(parsed)
        except Rejection as forged:
            return self._refuse(forged.reason, str(forged))
        if entry is None:
            entry = self._roster.enter(parsed.manifest, len(parsed.data))
        entry.manifest, entry.source, entry.heard, entry.confirmed = parsed.manifest, hearing.source, hearing.at, True
        entry.plain, entry.pattern = False, None  # what is shown is no longer what is held
        entry.reason = clock_reason(hearing.lag(sequence), self.policy.max_skew)
        self._roster.settle(entry, hearing.at)
        self._unsigned.yield_to(entry)
        return self._refuse(error.reason, str(error))

    def _believed_age(self, node_id: str, entry: Entry | None, sequence: int, hearing: Hearing) -> float:
        if hearing.is_firsthand(node_id):
            return hearing.age
        lag = entry.lag if entry is not None and entry.lag is not None else self._lags.usual
        behind, policy = (hearing.now_ms - sequence) / 1000, self.policy
        return relayed_age(hearing.age, behind=behind, allowance=lag + policy.heartbeat, max_skew=policy.max_skew)

    def _measure(self, entry: Entry, hearing: Hearing) -> None:
        """Note how far the clock of a node that speaks for itself is behind ours."""
        entry.lag = hearing.lag(entry.rank[0])
        entry.reason = clock_reason(entry.lag, self.policy.max_skew)
        self._lags.add(entry.lag)

    def _count_beat(self, entry: Entry, at: float) -> None:
        if at - entry.counted_at >= self.policy.beat_spacing and entry.beats < self.policy.beats_to_be_known:
            entry.beats += 1
            entry.counted_at = at
            if entry.beats == self.policy.beats_to_be_known:
                self._roster.vouch(entry.node_id)

    def _equivocated(self, entry: Entry, parsed: Parsed) -> None:
        if not entry.equivocated:
            entry.equivocated = True
            entry.proof = (entry.data, parsed.data)
            self.counters["equivocating-nodes"] += 1
            self._roster.note(entry, "equivocated")

    def _is_allowed(self, node_id: str) -> bool:
        return self.policy.admit is None or node_id in self.policy.admit or node_id == self.self_id

    def _refuse(self, reason: str, detail: str) -> Rejected:
        self.counters[reason] += 1
        return Rejected(reason, detail)

    def _refuse_for_good(self, key: Fingerprint, error: Rejection) -> Rejected:
        """Refuse bytes that can never be admitted, whoever brings them: the next time costs no more than a duplicate."""
        self._seen.add(key, "")
        return self._refuse(error.reason, str(error))

    def _expire(self, at: float) -> None:
        self._roster.expire(at)
        self._unsigned.expire(at)

    def _note_unsigned(self, entry: Entry, kind: Kind) -> None:
        """Tell what happened to an unsigned node; "gone" would make the store forget what was signed in its name."""
        self._roster.note(entry, "silent" if kind == "gone" and entry.node_id in self._marks else kind)

    def _entry(self, node_id: str) -> Entry | None:
        """Return what is shown of a node: its signed word, unless that has ended and an unsigned one is live."""
        signed, unsigned = self._entries.get(node_id), self._unsigned.entries.get(node_id)
        return unsigned if signed is None or (unsigned is not None and unsigned.state == "live") else signed

    def _shown(self, entry: Entry, at: float) -> NodeView:
        is_self = entry.node_id == self.self_id
        return entry.shown(at, known=is_self or self.is_known(entry.node_id), is_self=is_self)

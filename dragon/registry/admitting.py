"""Admission: from bytes that somebody brought to a verdict, and to a place in the roster where it is good. Pure.

    bytes ──► seen lately? ──► rate of the carrier ──► size, shape ──► whose, which swarm ──► sequence ──► signature ──► held
              (duplicate)      (who brought it)        (parse)         (carrier, admit)       (mark, time)

Cheap steps come before dear ones (DESIGN §5).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

from dragon.registry.admission import Fingerprint, Lags, Rates, Seen, fingerprint
from dragon.registry.entry import Entry
from dragon.registry.lease import clock_reason, relayed_age, spell_seconds
from dragon.registry.policy import Policy
from dragon.registry.roster import Roster
from dragon.registry.unsigned import Unsigned
from dragon.registry.verdict import Admitted, Duplicate, Hearing, Rejected, Source, Verdict
from registry_schema import FromTheFuture, Parsed, Rank, Rejection, check_bounds, equivocates, parse


class Admitting:
    """What decides about every envelope. `admit` and `restore` are `View`'s, which says what they promise."""

    def __init__(
        self,
        self_id: str,
        swarm: str,
        policy: Policy,
        roster: Roster,
        unsigned: Unsigned,
        counters: Counter[str],
        *,
        read: Callable[[bytes], Parsed],
        verify: Callable[[Parsed], object],
    ) -> None:
        self._self_id = self_id
        self._swarm = swarm
        self._policy = policy
        self._max_skew_ms = round(policy.max_skew * 1000)
        self._roster = roster
        self._entries = roster.entries
        self._marks = roster.marks
        self._unsigned = unsigned
        self._counters = counters
        self._read = read
        self._verify = verify
        self._seen = Seen(policy.seen_capacity)
        self._rates = Rates(policy)
        self._lags = Lags(policy.signers_for_suspicion)

    @property
    def remembered(self) -> tuple[int, int]:
        """How many envelopes are remembered as seen, and how many carriers have a rate: both are bounded."""
        return len(self._seen), len(self._rates)

    def is_allowed(self, node_id: str) -> bool:
        """Tell whether the operator's list, where there is one, has this node."""
        return self._policy.admit is None or node_id in self._policy.admit or node_id == self._self_id

    def admit(self, data: bytes, *, carrier: str, source: Source, heard_at: float, now_ms: int, age: float = 0.0) -> Verdict:
        key = fingerprint(data)
        owner = self._seen.get(key)
        if owner is not None:
            self._counters["duplicate"] += 1
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
        try:
            parsed = self._read(data)
            self._verify(parsed)
        except Rejection as error:
            self._refuse(error.reason, str(error))
            return False
        node_id, heard = parsed.manifest.node, at - max(age, 0.0)
        if node_id == self._self_id or node_id in self._entries or not self.is_allowed(node_id):
            return False
        if parsed.manifest.swarm != self._swarm or heard + self._policy.keep <= at:
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

    # -- step by step ---------------------------------------------------------------------------------------------------

    def _admit(self, parsed: Parsed, key: Fingerprint, hearing: Hearing) -> Verdict:
        node_id, rank = parsed.manifest.node, parsed.rank
        if hearing.source == "pubsub" and hearing.carrier != node_id:
            # Not remembered as seen: the same bytes may still come from the node itself.
            return self._refuse("carrier", f"{hearing.carrier} published an envelope of {node_id}")
        if not self.is_allowed(node_id):
            return self._refuse("not-admitted", f"{node_id} is not on this swarm's list")
        entry, mark = self._entries.get(node_id), self._marks.get(node_id)
        try:
            check_bounds(parsed.manifest, swarm=self._swarm, now_ms=hearing.now_ms, max_skew_ms=self._max_skew_ms)
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
        if heard + self._policy.keep <= hearing.at:
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
            entry.reason = clock_reason(entry.lag or 0.0, self._policy.max_skew)
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
            self._counters["duplicate"] += 1
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
        entry.reason = clock_reason(hearing.lag(sequence), self._policy.max_skew)
        self._roster.settle(entry, hearing.at)
        self._unsigned.yield_to(entry)
        return self._refuse(error.reason, str(error))

    def _believed_age(self, node_id: str, entry: Entry | None, sequence: int, hearing: Hearing) -> float:
        if hearing.is_firsthand(node_id):
            return hearing.age
        lag = entry.lag if entry is not None and entry.lag is not None else self._lags.usual
        behind, policy = (hearing.now_ms - sequence) / 1000, self._policy
        return relayed_age(hearing.age, behind=behind, allowance=lag + policy.heartbeat, max_skew=policy.max_skew)

    def _measure(self, entry: Entry, hearing: Hearing) -> None:
        """Note how far the clock of a node that speaks for itself is behind ours."""
        entry.lag = hearing.lag(entry.rank[0])
        entry.reason = clock_reason(entry.lag, self._policy.max_skew)
        if not entry.reason:  # a clock that is off says nothing about ours
            self._lags.add(entry.node_id, entry.lag)

    def _count_beat(self, entry: Entry, at: float) -> None:
        if at - entry.counted_at >= self._policy.beat_spacing and entry.beats < self._policy.beats_to_be_known:
            entry.beats += 1
            entry.counted_at = at
            if entry.beats == self._policy.beats_to_be_known:
                self._roster.vouch(entry.node_id)

    def _equivocated(self, entry: Entry, parsed: Parsed) -> None:
        if not entry.equivocated:
            entry.equivocated = True
            entry.proof = (entry.data, parsed.data)
            self._counters["equivocating-nodes"] += 1
            self._roster.note(entry, "equivocated")

    def _refuse(self, reason: str, detail: str) -> Rejected:
        self._counters[reason] += 1
        return Rejected(reason, detail)

    def _refuse_for_good(self, key: Fingerprint, error: Rejection) -> Rejected:
        """Refuse bytes that can never be admitted, whoever brings them: the next time costs no more than a duplicate."""
        self._seen.add(key, "")
        return self._refuse(error.reason, str(error))

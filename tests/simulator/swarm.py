"""A deterministic swarm: virtual time, seeds, loss, delay, duplication, partitions and clock errors around the real pure code.

Every simulated node is the real `View`, `Beat`, `AntiEntropy`, `MuteWatch` and `next_sequence`; only Kubo, the disk and the
clock are played. Envelopes are really signed; each is parsed and verified once for all views.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable, Iterable

from dragon.registry.antientropy import AntiEntropy, Ask
from dragon.registry.beat import Beat
from dragon.registry.mute import MuteWatch
from dragon.registry.policy import Policy
from dragon.registry.verdict import Source
from dragon.registry.view import Admitted, View
from dragon.store import next_sequence
from registry_schema import Parsed, Rank, Rejection, parse
from tests.simulator.signers import NOW_MS, SWARM, Signer

DELAYS = (0.005, 1.0)
"""Seconds that a message takes, evenly spread: a mesh over several hops with gossip's own repair of lost hops."""


class Node:
    """One simulated node. An observer has a view; one that only speaks stands for the many that fill others' views."""

    def __init__(self, swarm: Swarm, number: int, *, speaks_only: bool = False) -> None:
        self.swarm = swarm
        self.signer = Signer(f"{swarm.seed}-{number}")
        self.node_id = self.signer.node_id
        self.rng = random.Random(f"{swarm.seed} {number}")
        self.speaks_only = speaks_only
        self.skew = 0.0
        """Seconds by which its wall clock is ahead."""
        self.muted = False
        """Kubo takes its messages and nobody hears them."""
        self.alive = False
        self.slugs: tuple[str, ...] = ("ollama",)
        self.durable: dict[str, tuple[Rank, bytes, int]] = {}
        self.last_sequence: int | None = None
        self.life = 0
        self.boot = self.rng.uniform(0, 1e6)
        self.heard_differing = 0
        self.heard_beats = 0

    # -- life -------------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin, or begin again after a crash, with what is on disk."""
        self.life += 1
        self.alive = True
        self.boot = self.rng.uniform(0, 1e6)  # another monotonic clock
        marks = {node_id: rank for node_id, (rank, _, _) in self.durable.items()}
        self.view = View(
            self.node_id, SWARM, self.swarm.policy, marks, self.rng, read=self.swarm.read, verify=self.swarm.verify
        )
        for _, data, heard_ms in self.durable.values():
            self.view.restore(data, age=max(self.now_ms() - heard_ms, 0) / 1000, at=self.at())
        self.beat = Beat(self.swarm.policy.heartbeat, self.rng)
        self.pace = AntiEntropy(self.swarm.policy.heartbeat / 10, self.rng)
        self.watch = MuteWatch()
        self._later(self.rng.uniform(0, self.swarm.policy.heartbeat), self.speak)

    def crash(self) -> None:
        """Vanish without a word; what was stored is kept."""
        self.alive = False

    def change(self, *slugs: str) -> None:
        """Offer something else, and say so."""
        self.slugs = tuple(sorted(slugs))
        self.beat.changed(self.at())
        self._later(0.01, self._speak_if_due)

    def at(self) -> float:
        return self.swarm.at + self.boot

    def now_ms(self) -> int:
        return NOW_MS + round((self.swarm.at + self.skew) * 1000)

    # -- speaking ---------------------------------------------------------------------------------------------------------

    def speak(self) -> None:
        """Publish the present state; then again at the next beat."""
        self.last_sequence = next_sequence(self.now_ms(), self.last_sequence)
        live, digest = len(self.swarm.nodes), tuple[bytes, ...]()
        if not self.speaks_only:
            live, digest = len(self.view.members(self.at())), self.view.digest(self.at())
        data = self.signer.envelope(self.last_sequence, self.slugs, digest=digest)
        if not self.speaks_only:
            # Our own word is never from the future to us, whatever our clock did since the last one.
            self.admit(data, self.node_id, "self", now_ms=max(self.now_ms(), self.last_sequence))
        self.beat.published(self.at(), live)
        self.swarm.publish(self, data)
        self.watch.sent(self.last_sequence, self.at())
        if self.watch.due() and not self.speaks_only:
            self._later(0.1, self._question)
        self._later(self.beat.due_at - self.at(), self._speak_if_due)

    def _speak_if_due(self) -> None:
        if self.beat.due_at <= self.at() + 1e-6:
            self.speak()

    def _question(self) -> None:
        peer = self.rng.choice(self.swarm.reachable(self) or [self])
        held = peer.view.node(self.node_id, peer.at())
        if peer is not self:
            self.watch.judge(held.sequence if held else 0, held.source if held else "", self.at())

    # -- hearing ----------------------------------------------------------------------------------------------------------

    def hear(self, sender: str, data: bytes) -> None:
        """A pubsub message arrives."""
        verdict = self.admit(data, sender, "pubsub")
        if isinstance(verdict, Admitted) and verdict.change == "beat":
            theirs = self.swarm.read(data).manifest.digest
            if theirs:
                ours = self.view.digest(self.at())
                self.heard_beats += 1
                self.heard_differing += theirs != ours
                self.pace.heard(sender, theirs, ours)
                self._exchange_if_due()

    def admit(self, data: bytes, carrier: str, source: Source, age: float = 0.0, now_ms: int | None = None) -> object:
        """Bring `data` to the view, and to the disk at once: what may be lost between the two is `test_replay`'s business."""
        now_ms = self.now_ms() if now_ms is None else now_ms
        verdict = self.view.admit(data, carrier=carrier, source=source, heard_at=self.at(), now_ms=now_ms, age=age)
        if isinstance(verdict, Admitted):
            self.durable[verdict.node_id] = (verdict.rank, data, self.now_ms() - round(age * 1000))
        return verdict

    # -- exchanging -------------------------------------------------------------------------------------------------------

    def _exchange_if_due(self) -> None:
        ask = self.pace.next(self.at(), self.pace.wanted)
        if ask is not None:
            self.swarm.counters["exchanges"] += 1
            self._later(self.rng.uniform(0.02, 0.3), lambda: self._exchange(ask))

    def _exchange(self, ask: Ask) -> None:
        partner = self.swarm.by_id[ask.partner]
        answered = partner in self.swarm.reachable(self)
        learned = self.reconcile(partner) if answered else 0
        self.pace.finished(self.at(), answered=answered, learned=learned, ours=self.view.digest(self.at()))

    def reconcile(self, partner: Node) -> int:
        """Take what differs from `partner` and give it what it lacks, as `Exchange.reconcile` does; return what was news."""
        self.view.note_answered(partner.node_id)
        numbers = self.view.differing(partner.view.digest(partner.at()), self.at())
        taken = list(partner.hand_out(numbers))
        learned = sum(isinstance(self.admit(data, partner.node_id, "exchange", age), Admitted) for data, age in taken)
        known = {data for data, _ in taken}
        for data, age in list(self.hand_out(numbers)):
            if data not in known:
                partner.admit(data, self.node_id, "exchange", age)
        self.swarm.counters["exchanged envelopes"] += len(taken)
        return learned

    def hand_out(self, numbers: Iterable[int]) -> Iterable[tuple[bytes, float]]:
        """What it tells others; a liar overrides this."""
        return list(self.view.bucket(numbers, self.at()))

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        life = self.life
        self.swarm.later(max(seconds, 0.0), lambda: action() if self.alive and self.life == life else None)


class Swarm:
    """`size` nodes on one topic. `observers`: how many of them have views (all, if not said). Drive it with `run`."""

    def __init__(
        self, size: int, seed: int, *, observers: int | None = None, policy: Policy | None = None, kind: type[Node] = Node
    ) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.policy = policy or Policy()
        self.at = 0.0
        self.loss = 0.0
        self.duplicates = 0.0
        self.sides: Callable[[Node], int] = lambda node: 0
        """Nodes on different sides do not hear or reach one another."""
        self.counters: Counter[str] = Counter()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._parsed: dict[bytes, Parsed] = {}
        self._verified: set[bytes] = set()
        count = size if observers is None else observers
        self.nodes = [kind(self, number, speaks_only=number >= count) for number in range(size)]
        self.by_id = {node.node_id: node for node in self.nodes}
        self.observers = self.nodes[:count]
        for node in self.nodes:
            node.start()

    def run(self, seconds: float) -> None:
        """Let virtual time pass."""
        until = self.at + seconds
        while self._events and self._events[0][0] <= until:
            self.at, _, action = heapq.heappop(self._events)
            action()
        self.at = until
        self._parsed.clear()  # what is older than a run is hardly heard again, and parsed anew if it is

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (self.at + seconds, self._order, action))

    def publish(self, sender: Node, data: bytes) -> None:
        """Deliver to every live observer on the sender's side, each with its own delay and luck."""
        self.counters["publications"] += 1
        if sender.muted:
            return
        for node in self.observers:
            if node is sender:
                continue
            copies = 2 if self.rng.random() < self.duplicates else 1
            for _ in range(copies):
                if self.rng.random() >= self.loss:
                    self.later(self.rng.uniform(*DELAYS), self._delivery(sender, node, data))

    def _delivery(self, sender: Node, node: Node, data: bytes) -> Callable[[], None]:
        def deliver() -> None:
            if node.alive and self.sides(node) == self.sides(sender):
                node.hear(sender.node_id, data)

        return deliver

    def reachable(self, node: Node) -> list[Node]:
        """Return the live observers on the side of `node`."""
        return [one for one in self.observers if one is not node and one.alive and self.sides(one) == self.sides(node)]

    def read(self, data: bytes) -> Parsed:
        parsed = self._parsed.get(data)
        if parsed is None:
            parsed = self._parsed[data] = parse(data)
        return parsed

    def verify(self, parsed: Parsed) -> None:
        if parsed.data not in self._verified:
            try:
                parsed.verify()
            except Rejection:
                self.counters["forged"] += 1
                raise
            self._verified.add(parsed.data)

    # -- what is asked of it ----------------------------------------------------------------------------------------------

    def views(self) -> list[dict[str, bytes]]:
        """Return for each live observer who is live in its view, with what content."""
        return [
            {
                shown.node_id: self.read(node.view.envelope(shown.node_id) or b"").content_hash
                for shown in node.view.nodes(node.at())
                if shown.state == "live"
            }
            for node in self.observers
            if node.alive
        ]

    def agree(self) -> bool:
        """Tell whether all live observers hold the same of all live nodes, and nobody else for live."""
        views = self.views()
        return all(view == views[0] for view in views) and set(views[0]) == {node.node_id for node in self.nodes if node.alive}

    def mismatches(self) -> float:
        """Return the share of heard beats whose digest differed from the hearer's, and begin counting anew."""
        heard = sum(node.heard_beats for node in self.observers)
        differing = sum(node.heard_differing for node in self.observers)
        for node in self.observers:
            node.heard_beats = node.heard_differing = 0
        return differing / max(heard, 1)

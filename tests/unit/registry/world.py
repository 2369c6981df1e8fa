"""A view under test with a clock that stands still until it is moved."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

from dragon.registry.policy import Policy
from dragon.registry.verdict import Change, Source
from dragon.registry.view import Verdict, View
from registry_schema import Rank, parse
from tests.simulator.signers import NOW_MS, SWARM, Signer


class World:
    """`hear` brings envelopes to `view`; `at` is our monotonic clock, `now_ms` our wall clock (they run together)."""

    def __init__(self, marks: Mapping[str, Rank] | None = None, seed: int = 1, **policy: Any) -> None:
        self.me = Signer("me")
        self.view = View(self.me.node_id, SWARM, Policy(**policy), marks or {}, random.Random(seed))
        self.at = 1000.0
        self.now_ms = NOW_MS
        self.changes: list[Change] = []
        self.view.subscribe(self.changes.append)

    def wait(self, seconds: float) -> None:
        self.at += seconds
        self.now_ms += round(seconds * 1000)
        self.view.tick(self.at)

    def hear(self, data: bytes, source: Source = "pubsub", carrier: str | None = None, age: float = 0.0) -> Verdict:
        """Bring `data` to the view; by default its own node does."""
        carrier = parse(data).manifest.node if carrier is None else carrier
        return self.view.admit(data, carrier=carrier, source=source, heard_at=self.at, now_ms=self.now_ms, age=age)

    def beat(self, signer: Signer, **fields: Any) -> Verdict:
        """Hear a fresh beat of `signer` over pubsub."""
        return self.hear(signer.envelope(self.now_ms, **fields))

    def state(self, signer: Signer) -> str | None:
        """The state of `signer` in the view, None when it is not held."""
        shown = self.view.node(signer.node_id, self.at)
        return None if shown is None else shown.state

    def kinds(self) -> list[str]:
        """What the view told its subscribers since the last call."""
        kinds: list[str] = [change.kind for change in self.changes]
        self.changes.clear()
        return kinds

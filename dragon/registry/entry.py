"""One node as the view holds it, and the two values that are shown of it: `NodeView` and `Provider`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from dragon.registry.verdict import Source
from registry_schema import Manifest, Offer, Parsed, Rank
from registry_schema.repeat import Pattern

State: TypeAlias = Literal["live", "silent", "left", "skewed"]
Trust: TypeAlias = Literal["signed", "ipns"]


@dataclass(slots=True, eq=False)
class Listed:
    """One live offer in the index. `offer` is replaced in place while its labels stay the same."""

    entry: Entry
    offer: Offer


@dataclass(slots=True, eq=False)
class Entry:
    """What the view holds of one node. Times are seconds on our monotonic clock."""

    node_id: str
    bucket: int
    manifest: Manifest
    """The newest word, for showing: of a node whose clock runs ahead it is one that was not admitted."""
    data: bytes = b""
    """The admitted envelope; empty for a node of which only words from the future are known."""
    rank: Rank = (0, b"")
    content_hash: bytes = b""
    plain: bool = False
    """There is nothing in the envelope beside what `manifest` holds."""
    pattern: Pattern | None = None
    """How beats of this content look; made when the first one comes."""
    state: State | None = None
    """None only while it enters."""
    trust: Trust = "signed"
    """`ipns`: made out of the files under its name; nothing of it was signed (`unsigned`)."""
    usable: bool = True
    """False for an unsigned node that the operator wants to see, not to use."""
    source: Source = "pubsub"
    heard: float = 0.0
    """When this envelope was first heard anywhere, as far as we may believe it."""
    heard_before: float = float("-inf")
    """The same of the envelope before it: this one cannot be older."""
    firsthand: bool = False
    """The node itself brought it: what relays say about its age no longer counts."""
    confirmed: bool = True
    """False after a restart, until somebody brings the same envelope or a newer one."""
    lag: float | None = None
    """Seconds by which its clock seemed to be behind ours when it last spoke to us itself."""
    reason: str = ""
    equivocated: bool = False
    proof: tuple[bytes, bytes] | None = None
    """Two envelopes that the node signed under one sequence."""
    beats: int = 0
    counted_at: float = float("-inf")
    watched: float = float("inf")
    """When the roster looks at it next."""
    listed: dict[str, Listed] = field(default_factory=dict)
    """Its offers in the index, by slug; empty unless live."""

    def hold(self, parsed: Parsed) -> bool:
        """Hold a verified envelope, and tell whether its content is the one that was held: a beat."""
        same = self.content_hash == parsed.content_hash
        self.data, self.manifest, self.rank = parsed.data, parsed.manifest, parsed.rank
        self.plain, self.content_hash = parsed.plain, parsed.content_hash
        if not same:
            self.pattern = None
        return same

    def repeated(self, data: bytes) -> Parsed | None:
        """Return `data` parsed, if it is no more than a beat of what is held."""
        if self.pattern is None:
            if not self.plain:
                return None
            self.pattern = Pattern.of(self.manifest, self.content_hash)
        return self.pattern.read(data)

    def shown(self, at: float, *, known: bool, is_self: bool) -> NodeView:
        assert self.state is not None
        return NodeView(
            node_id=self.node_id,
            alias=self.manifest.alias,
            state=self.state,
            trust=self.trust,
            last_seen=max(at - self.heard, 0.0),
            sequence=self.rank[0],
            source=self.source,
            manifest=self.manifest,
            reason=self.reason if self.state == "skewed" else "",
            equivocated=self.equivocated,
            known=known,
            is_self=is_self,
            usable=self.usable,
        )


@dataclass(frozen=True, slots=True)
class NodeView:
    """One node as it is shown. `last_seen` in seconds before the question; `reason` says why it is skewed, else empty.

    `usable` is False for a node that is only shown: one that signs nothing, where the operator does not admit such.
    """

    node_id: str
    alias: str
    state: State
    trust: Trust
    last_seen: float
    sequence: int
    source: Source
    manifest: Manifest
    reason: str
    equivocated: bool
    known: bool
    is_self: bool
    usable: bool = True


class Provider(NamedTuple):
    """One live offer. `last_seen` in seconds before the lookup. A tuple: popular slugs have thousands, made anew per lookup."""

    node_id: str
    alias: str
    offer: Offer
    state: State
    trust: Trust
    is_self: bool
    last_seen: float

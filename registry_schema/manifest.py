"""The manifest: everything a node says about itself, as immutable values.

A manifest has exactly one encoding. Therefore every field of this version is always present, sequences that have no order of
their own are sorted, and there are no floats, no nulls and no alternative spellings. Fields of newer versions are ignored when
reading (they stay in the signed bytes that are relayed). Fields are an allow-list: there is no place for addresses, and a mail
address appears only where the operator put it (`station.captain`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, FailFast, Field, ValidationError, model_validator

from registry_schema import limits
from registry_schema.errors import InvalidField
from registry_schema.ids import is_node_id
from registry_schema.texts import (
    ALIAS_PATTERN,
    LABEL_KEY_PATTERN,
    SLUG_PATTERN,
    TEXT_PATTERN,
    Alias,
    LabelKey,
    LabelValue,
    Slug,
    StationText,
    SwarmName,
    Version,
)

__all__ = [
    "ALIAS_PATTERN",
    "LABEL_KEY_PATTERN",
    "SLUG_PATTERN",
    "STATION_FIELDS",
    "TEXT_PATTERN",
    "Agent",
    "Alias",
    "Bucket",
    "Health",
    "LabelKey",
    "LabelValue",
    "Labels",
    "Manifest",
    "NodeId",
    "Offer",
    "Port",
    "Scheme",
    "Slug",
    "StationText",
    "SwarmName",
    "Thousandths",
    "Version",
    "make_offer",
    "protocol_name",
]

Thousandths: TypeAlias = Annotated[int, Field(ge=0, le=1000)]
Port: TypeAlias = Annotated[int, Field(ge=1, le=65535)]
Health: TypeAlias = Literal["passing", "warning", "critical", "unknown"]
Scheme: TypeAlias = Literal["http", "https", "ws", "wss", "ssh", "tcp"]
Bucket: TypeAlias = Annotated[bytes, Field(min_length=limits.DIGEST_BYTES, max_length=limits.DIGEST_BYTES)]


def _node_id(text: str) -> str:
    if not is_node_id(text):
        raise ValueError("not a libp2p peer id that can be verified (12D3KooW… or Qm…)")
    return text


_SHOWN = 40  # characters of a peer's key in an error: enough to recognise one of ours

NodeId: TypeAlias = Annotated[str, AfterValidator(_node_id)]
Labels: TypeAlias = Annotated[dict[LabelKey, LabelValue], Field(max_length=limits.MAX_LABELS)]


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


class Offer(_Value):
    """One service of one node."""

    slug: Slug
    protocol: Annotated[str, Field(max_length=128)]
    """`/x/<slug>-<node id>`, derived; carried so that a reader needs no rule, and refused when it is anything else."""
    port: Port
    """The service's usual port: a hint for the consumer's local port, never dialled."""
    transport: Literal["tcp"]
    scheme: Scheme
    labels: Labels
    health: Health
    load: Thousandths
    """Thousandths of what the provider can carry at once."""
    sticky: bool
    """True when a client must stay on one provider (a ComfyUI session)."""


class Agent(_Value):
    """One program of a node that answers messages for somebody."""

    name: Slug
    role: LabelValue
    labels: Labels


STATION_FIELDS: Mapping[str, type] = {
    "hex": str,
    "captain_hex": str,
    "captain": str,
    "relay": str,
    "uplanet": str,
    "uspot": str,
    "paf": int,
    "ncard": int,
    "zcard": int,
    "power_score": int,
    "value_ratio": str,
    "veteran_days": int,
    "tier": str,
    "ssh_pub": str,
    "ssh_user": str,
    "level": str,
    "latitude": str,
    "longitude": str,
    "g1pub": str,
    "channel": str,
}
"""What an Astroport may say of itself under `station`, with its type. Further keys are ignored by this version."""

StationNumber: TypeAlias = Annotated[int, Field(ge=-limits.MAX_NUMBER, le=limits.MAX_NUMBER)]


class Manifest(_Value):
    """Everything one node says about itself at one `sequence`."""

    node: NodeId
    swarm: SwarmName
    sequence: Annotated[int, Field(ge=1, le=limits.MAX_SEQUENCE)]
    """Order and time in one number: milliseconds since the epoch, never repeated, never lower than before."""
    ttl: Annotated[int, Field(ge=limits.MIN_TTL, le=limits.MAX_TTL)]
    """Seconds that the node asks to be believed without a new beat; the receiver caps it."""
    alias: Alias
    version: Version
    offers: Annotated[tuple[Offer, ...], Field(max_length=limits.MAX_OFFERS, strict=False), FailFast()]
    """Ascending by slug, each slug once."""
    labels: Labels
    capacity: Annotated[
        dict[LabelKey, Annotated[int, Field(ge=0, le=limits.MAX_NUMBER)]], Field(max_length=limits.MAX_CAPACITIES)
    ]
    """What the machine has: `cores`, `memory_mb`, `gpu_vram_mb` …"""
    load: Thousandths
    agents: Annotated[tuple[Agent, ...], Field(max_length=limits.MAX_AGENTS, strict=False), FailFast()]
    """Ascending by name, each name once."""
    digest: Annotated[tuple[Bucket, ...], Field(max_length=limits.DIGEST_BUCKETS, strict=False), FailFast()]
    """What the node holds of everybody: one hash per id-prefix bucket, or empty when it does not say."""
    station: dict[str, StationText | StationNumber]
    """An Astroport's own fields (`STATION_FIELDS`); empty elsewhere."""
    leaving: bool
    """True in the last word of a clean stop."""

    @model_validator(mode="before")
    @classmethod
    def _known_station_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(station := data.get("station"), dict) and station:
            return {**data, "station": {key: value for key, value in station.items() if key in STATION_FIELDS}}
        return data

    @model_validator(mode="after")
    def _one_spelling(self) -> Manifest:
        previous, ending = "", f"-{self.node}"
        for offer in self.offers:
            if offer.slug <= previous:
                raise ValueError("offers must be ascending by slug, each slug once")
            if offer.protocol != f"/x/{offer.slug}{ending}":
                raise ValueError(f"offer {offer.slug}: the protocol must be {protocol_name(offer.slug, self.node)}")
            previous = offer.slug
        names = [agent.name for agent in self.agents]
        if names != sorted(set(names)):
            raise ValueError("agents must be ascending by name, each name once")
        if len(self.digest) not in (0, limits.DIGEST_BUCKETS):
            raise ValueError(f"a digest has {limits.DIGEST_BUCKETS} buckets or none")
        for key, value in self.station.items():
            if type(value) is not STATION_FIELDS[key]:
                raise ValueError(f"station.{key} must be {STATION_FIELDS[key].__name__}")
        return self

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> Manifest:
        """Return the manifest in decoded `fields`; `InvalidField` names the first field that is off and why."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            # Keys of a map are the peer's words and may hold anything: escaped and cut before they reach a log.
            place = ".".join(ascii(str(part)[:_SHOWN])[1:-1] for part in first["loc"]) or "manifest"
            raise InvalidField(f"{place}: {first['msg']}") from None

    def says_all(self, raw: Mapping[str, Any]) -> bool:
        """Tell whether `raw`, from which this was read, holds only what this version knows, every key in canonical order.

        False also where looking closer would cost more than it saves (agents, station).
        """
        return (
            tuple(raw) == _FIELDS
            and not self.agents
            and not raw["station"]
            and _ascends(raw["labels"])
            and _ascends(raw["capacity"])
            and all(tuple(offer) == _OFFER_FIELDS and _ascends(offer["labels"]) for offer in raw["offers"])
        )

    def fields(self) -> dict[str, Any]:
        """Return the fields as plain values for the codec, sequences as lists."""
        return self.model_dump()


_FIELDS = tuple(sorted(Manifest.model_fields))
_OFFER_FIELDS = tuple(sorted(Offer.model_fields))


def _ascends(labels: Mapping[str, Any]) -> bool:
    return len(labels) < 2 or list(labels) == sorted(labels)


def protocol_name(slug: str, node_id: str) -> str:
    """Return the libp2p protocol under which `node_id` offers `slug` (the channel name of the Astroport scripts)."""
    return f"/x/{slug}-{node_id}"


def make_offer(slug: str, node_id: str, port: int, **fields: Any) -> Offer:
    """Return an offer of `node_id` with the derived protocol and the usual defaults; `fields` override them."""
    defaults: dict[str, Any] = {
        "transport": "tcp",
        "scheme": "tcp",
        "labels": {},
        "health": "passing",
        "load": 0,
        "sticky": False,
    }
    return Offer(**{**defaults, **fields, "slug": slug, "port": port, "protocol": protocol_name(slug, node_id)})

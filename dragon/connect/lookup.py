"""From the words of a request to nodes: slugs, the target grammar, and why nobody was found. Pure.

    target = auto | N | alias | id part

`N` is up to four digits: the 1-based number that `services` prints (by id, self last). Otherwise an alias, or at least four
characters out of a node id (every Ed25519 id begins `12D3KooW`, so parts are looked for anywhere).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon.errors import AmbiguousNode, NoProvider, UnknownService, UsageError
from dragon.text import counted
from registry_schema.labels import labels_match

if TYPE_CHECKING:
    from dragon.probe import Catalogue
    from dragon.registry.entry import NodeView, Provider

MIN_ID_PART = 4
"""Characters of an id that may name a node: four of base58 leave one accident in eleven million pairs."""

MAX_NUMBER_DIGITS = 4

SHOWN = 6
"""Nodes named in one message; more do not help a reader."""


@dataclass(frozen=True, slots=True)
class Auto:
    """Whoever serves best."""


@dataclass(frozen=True, slots=True)
class Number:
    """The n-th provider of the printed list."""

    n: int


@dataclass(frozen=True, slots=True)
class Name:
    """An alias or a part of an id."""

    text: str


Target = Auto | Number | Name


def parse_target(text: str) -> Target:
    """Return what `text` asks for; `UsageError` for a text that cannot name a node."""
    text = text.strip()
    if not text or text.lower() == "auto":
        return Auto()
    if text.isascii() and text.isdecimal() and len(text) <= MAX_NUMBER_DIGITS:
        if int(text) == 0:
            raise UsageError("providers are counted from 1", "`dragon services` prints the numbers")
        return Number(int(text))
    return Name(text)


def slugs_of(name: str, catalogue: Catalogue, offered: Iterable[str]) -> tuple[str, ...]:
    """Return the slugs under which the service called `name` may be offered, best first.

    The catalogue knows slugs and aliases; a slug that only some node of the swarm offers is as good. `UnknownService` names
    what is near.
    """
    wanted = name.strip().lower()
    offered = set(offered)
    try:
        slugs = catalogue.slugs_for(wanted)
    except UnknownService as error:
        if wanted in offered:
            return (wanted,)
        from difflib import get_close_matches  # only for a typo

        near = get_close_matches(wanted, sorted(offered), n=3)
        if not near:
            raise
        raise UnknownService(str(error), f"did you mean {' or '.join(near)}? (offered in the swarm)") from None
    return (*slugs, wanted) if wanted in offered and wanted not in slugs else slugs


def numbered(providers: Iterable[Provider]) -> list[Provider]:
    """Return the providers in the order of their printed numbers: by id, self last."""
    return sorted(providers, key=lambda each: (each.is_self, each.node_id))


def find(target: Number | Name, providers: Iterable[Provider], nodes: Sequence[NodeView], service: str) -> Provider:
    """Return the provider that `target` names.

    Raises `AmbiguousNode` listing the matches, and `NoProvider` when the node is unknown, not live or does not offer `service`.
    """
    ordered = numbered(providers)
    if isinstance(target, Number):
        if target.n > len(ordered):
            offering = "nobody offers it" if not ordered else f"there {_are(len(ordered))}"
            raise NoProvider(
                f"no provider number {target.n} of {service}: {offering}", f"`dragon services {service}` lists them"
            )
        return ordered[target.n - 1]
    by_alias = [node for node in nodes if node.alias.casefold() == target.text.casefold()]
    by_alias = [node for node in by_alias if node.trust == "signed"] or by_alias  # nobody takes a name by not signing
    matches = by_alias or [node for node in nodes if len(target.text) >= MIN_ID_PART and target.text in node.node_id]
    if not matches:
        short = len(target.text) < MIN_ID_PART
        hint = f"an id part has at least {MIN_ID_PART} characters; " if short else ""
        raise NoProvider(f"no node is called {target.text!r}", f"{hint}`dragon peers` lists all nodes")
    serving = [each for each in ordered if any(node.node_id == each.node_id for node in matches)]
    if len({each.node_id for each in serving}) == 1:  # one node may offer it under two names (perplexica, vane)
        return serving[0]
    if len(matches) > 1:
        shown = ", ".join(f"{node.alias} {node.node_id}" for node in matches[:SHOWN])
        more = f" and {len(matches) - SHOWN} more" if len(matches) > SHOWN else ""
        raise AmbiguousNode(f"{target.text!r} matches {len(matches)} nodes: {shown}{more}", "use more of the id, or the number")
    node = matches[0]
    if node.state != "live" or not node.usable:
        raise NoProvider(f"{node.alias} is {standing_of(node)}", f"`dragon forward {service} auto` takes another provider")
    offers = ", ".join(offer.slug for offer in node.manifest.offers) or "nothing"
    raise NoProvider(f"{node.alias} does not offer {service}", f"it offers {offers}")


def why_nobody(service: str, slugs: Sequence[str], providers: Iterable[Provider], nodes: Iterable[NodeView],
               where: Mapping[str, str]) -> NoProvider:  # fmt: skip
    """Return the error for a lookup that found no live provider of `service` with the labels of `where`."""
    offering = list(providers)
    wishes = " ".join(f"{key}={value}" for key, value in where.items())
    if offering and wishes:
        have = sorted({f"{key.split('.')[0]}={value}" for each in offering for key, value in each.offer.labels.items()})
        return NoProvider(
            f"{counted(len(offering), 'node')} of {service}, none with {wishes}",
            f"they say {', '.join(have[:SHOWN])}" if have else "they say nothing of the kind",
        )
    former = [
        node for node in nodes if standing_of(node) != "live" and any(offer.slug in slugs for offer in node.manifest.offers)
    ]
    former = [node for node in former if labels_match(_labels(node, slugs), where)] or former
    if former:
        newest = sorted(former, key=lambda node: node.last_seen)[:SHOWN]
        return NoProvider(
            f"nobody offers {service} now",
            f"offered before by {', '.join(f'{node.alias}: {standing_of(node)}' for node in newest)}",
        )
    return NoProvider(
        f"nobody offers {service}", "`dragon services` shows what is offered; start it on a node, or wait for one that runs it"
    )


def ago(seconds: float) -> str:
    """Return a span for people: `40 s`, `5 min`, `3 h`, `2 days`."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size or (unit != "days" and seconds >= size):
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _labels(node: NodeView, slugs: Sequence[str]) -> dict[str, str]:
    return {key: value for offer in node.manifest.offers if offer.slug in slugs for key, value in offer.labels.items()}


def standing_of(node: NodeView) -> str:
    """Return a node's state for people, with its reason or age."""
    match node.state:
        case "silent":
            return f"silent, last heard {ago(node.last_seen)} ago"
        case "left":
            return f"stopped {ago(node.last_seen)} ago"
        case "skewed":
            return f"skewed ({node.reason})" if node.reason else "skewed"
    return node.state if node.usable else "not admitted: it signs nothing ([astroport] bash_stations)"


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"

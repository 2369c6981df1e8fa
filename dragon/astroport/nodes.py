"""The nodes that offer a service, as SCAN numbers them, and which of them a target means. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dragon.astroport.words import Number, Part
from dragon.errors import AmbiguousNode, NoProvider

SHOWN = 6
"""Nodes named in one error."""


@dataclass(frozen=True, slots=True)
class Node:
    """One provider. `n` is its printed number; `load` is 0 to 1, `rtt_ms` milliseconds or None."""

    n: int
    node_id: str
    alias: str
    health: str
    load: float
    rtt_ms: float | None
    labels: Mapping[str, str]
    is_self: bool
    trust: str = "signed"
    """`ipns` for a station that only runs the scripts: it signs nothing and comes after those that do."""

    def models_and_gpus(self) -> list[str]:
        """Return what it says to have of these, in the order of its labels."""
        return [value for key, value in sorted(self.labels.items()) if key.partition(".")[0] in ("model", "gpu")]

    def __str__(self) -> str:
        return f"{self.n} {self.alias} {self.node_id}"


def nodes_of(services: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Return the nodes behind the documents of `services`: each once, by id, this one last, counted from 1.

    A name that means several slugs (perplexica, vane) gives several documents whose own numbers repeat.
    """
    each = {str(one["id"]): one for service in reversed(services) for one in service["providers"]}
    ordered = sorted(each.values(), key=lambda one: (bool(one.get("self")), str(one["id"])))
    return [
        Node(
            n=n,
            node_id=str(one["id"]),
            alias=str(one["alias"]),
            health=str(one["health"]),
            load=float(one["load"]),
            rtt_ms=one["rtt_ms"],
            labels=one["labels"],
            is_self=bool(one.get("self")),
            trust=str(one.get("trust", "signed")),
        )
        for n, one in enumerate(ordered, 1)
    ]


def pick(target: Number | Part, nodes: Sequence[Node], service: str) -> Node:
    """Return the node that `target` means, never this one. Raises `NoProvider`, and `AmbiguousNode` listing the matches."""
    others = [node for node in nodes if not node.is_self]
    if not others:
        raise NoProvider(f"No {service} nodes found in swarm", "`dragon peers` lists the nodes; wait for one that offers it")
    if isinstance(target, Number):
        if not 1 <= target.n <= len(others):
            raise NoProvider(
                f"Invalid selection: {target.n} (valid: 1-{len(others)})", f"`dragon me {service} SCAN` lists them"
            )
        return others[target.n - 1]
    exact = [node for node in others if target.text == node.node_id or target.text.casefold() == node.alias.casefold()]
    exact = [node for node in exact if node.trust == "signed"] or exact  # nobody takes a name by not signing
    matches = exact or [node for node in others if target.text in node.node_id]
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise AmbiguousNode(
            f"{target.text!r} matches {len(matches)} nodes: {_listed(matches)}", "use the number, or more of the id"
        )
    raise NoProvider(f"Node not found: {target.text}", f"nodes are {_listed(others)}")


def _listed(nodes: Sequence[Node]) -> str:
    more = f" and {len(nodes) - SHOWN} more" if len(nodes) > SHOWN else ""
    return ", ".join(str(node) for node in nodes[:SHOWN]) + more

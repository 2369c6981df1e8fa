"""What a serving node knows of its constellation: whom events are kept for, who else does, and where the relay is here.

The sync itself runs in another process and asks for this once; see `dragon.constellation.session`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dragon.constellation.gathering import Ask, Gathering
from dragon.constellation.keys import pubkeys
from dragon.constellation.lists import MOST_PER_NODE, union
from dragon.constellation.places import Places

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.config import ConstellationSettings
    from dragon.registry.entry import NodeView
    from dragon.registry.view import View

SLUG = "strfry"
"""The service that makes a node a member of the constellation."""

FRESH = 10.0
"""Seconds for which the people read from files are shown again: others may ask as often as they like."""

MAX_FRIENDS_FILE = 4 << 20
"""Bytes read of the friends that we found ourselves: 4,000 lines of 65."""

Document = dict[str, Any]


class People(Protocol):
    """Whom a station's files name; all keys of 64 lower-case hex digits."""

    @property
    def people(self) -> Sequence[str]: ...

    @property
    def station(self) -> Sequence[str]: ...

    @property
    def friends(self) -> Sequence[str]: ...


class Constellation:
    """Reads files, the view and other nodes' lists. `people` reads a station's files (None elsewhere), and may block."""

    def __init__(
        self,
        node_id: str,
        settings: ConstellationSettings,
        places: Places,
        view: View,
        ask: Ask,
        clock: Clock,
        *,
        people: Callable[[], People] | None,
        relay_port: Callable[[], int | None],
    ) -> None:
        self._node_id = node_id
        self._settings = settings
        self._places = places
        self._view = view
        self._clock = clock
        self._people = people
        self._relay_port = relay_port
        self._read: People = _Nobody()
        self._read_at = float("-inf")
        self.gathering = Gathering(ask, self.own, lambda caller: view.is_member(caller, clock.monotonic()))

    async def own(self) -> Sequence[str]:
        """Return this node's own list, ranked: who is configured, the station's people and key, then the friends found."""
        people = await self._named()
        listed = pubkeys((*self._settings.authors, *people.people, *people.station, *people.friends))
        return tuple(listed)[:MOST_PER_NODE]

    async def document(self) -> Document:
        """Return everything that a run needs to know, after asking every member for its list."""
        people, own = await self._named(), await self.own()
        members = self._members()
        told = await self.gathering.ask_all((node.node_id, node.alias) for node in members if node.trust == "signed")
        stations = islice(pubkeys(_station_keys(self._nodes())), MOST_PER_NODE)
        made = union(pubkeys((*own, *stations)), told)
        return {
            "swarm": self._view.swarm,
            "uplanet": self._uplanet(),
            "station": {"zen": str(self._places.zen)} if self._places.zen else None,
            "authors": {
                "own": len(own),
                "total": len(made.keys),
                "left_out": made.left_out,
                "nodes": [
                    {"id": one.node_id, "alias": one.alias, "count": len(one.keys), "error": one.error} for one in made.told
                ],
            },
            "people": list(pubkeys((*self._settings.authors, *people.people))),
            "hexes": list(made.keys),
            "peers": [
                {
                    "id": node.node_id,
                    "alias": node.alias,
                    "trust": node.trust,
                    "relay": str(node.manifest.station.get("relay", "")),
                }
                for node in members
            ],
            "local": {"url": self.relay(), "tool": self._tool()},
        }

    def relay(self) -> str | None:
        """Return where our own relay answers on this machine; None where none does."""
        if self._settings.relay:
            return self._settings.relay
        port = self._relay_port()
        return f"ws://127.0.0.1:{port}" if port else None

    async def is_worth_a_run(self) -> bool:
        """Whether there is a relay here, somebody to sync for, and somebody to sync with."""
        return bool(self.relay() and self._members() and await self.own())

    def _members(self) -> list[NodeView]:
        """Return the live nodes of our constellation that offer a relay, by alias."""
        nodes = [
            node for node in self._nodes() if node.state == "live" and any(offer.slug == SLUG for offer in node.manifest.offers)
        ]
        return sorted(nodes, key=lambda node: (node.alias.casefold(), node.node_id))

    def _nodes(self) -> list[NodeView]:
        """Return the other nodes of our UPlanet, and off a station of the swarm, those left out that are only shown."""
        uplanet = self._uplanet()
        return [
            node
            for node in self._view.nodes(self._clock.monotonic())
            if not node.is_self and node.usable and (not uplanet or node.manifest.station.get("uplanet") == uplanet)
        ]

    def _uplanet(self) -> str:
        """Return the UPlanet of this station as its manifest says it; "" elsewhere."""
        node = self._view.node(self._node_id, self._clock.monotonic())
        return str(node.manifest.station.get("uplanet", "")) if node is not None else ""

    def _tool(self) -> str | None:
        for place in (self._settings.tool, self._places.relay_program):
            if place and os.access(place, os.X_OK) and Path(place).is_file():
                return str(place)
        return None

    async def _named(self) -> People:
        at = self._clock.monotonic()
        if at - self._read_at > FRESH:
            self._read = await asyncio.to_thread(self._people or self._own_friends)
            self._read_at = at
        return self._read

    def _own_friends(self) -> People:
        try:
            with self._places.own_friends.open("rb") as file:
                lines = file.read(MAX_FRIENDS_FILE).decode(errors="replace").splitlines()
        except OSError:
            lines = []
        return _Nobody(tuple(pubkeys(lines)))


class _Nobody:
    """The people of a machine that is no station: none but the friends that we found."""

    def __init__(self, friends: Sequence[str] = ()) -> None:
        self.people: Sequence[str] = ()
        self.station: Sequence[str] = ()
        self.friends = friends


def _station_keys(nodes: Sequence[NodeView]) -> list[str]:
    """Return the keys that other stations say are their own and their captain's, whether or not they offer a relay now."""
    fields: list[Mapping[str, object]] = [node.manifest.station for node in nodes]
    return [str(field[name]) for field in fields for name in ("hex", "captain_hex") if name in field]

"""The swarm cache: `~/.zen/tmp/swarm/<node id>/` for every node whose signed manifest we hold.

Source: ASTROPORT facts 2.4, 2.5.

Everything in it is made here from what was verified; nothing is downloaded. The station's `_12345.sh` writes there too: the
directories of stations without Dragon are its own, and where it replaces one of a Dragon node, ours is laid over it again. Only
where Dragon publishes in its place are those made here as well, from what was understood of the stations' files.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Final

from dragon.astroport.beacon import document_of
from dragon.astroport.facts import parse_document, read_text
from dragon.astroport.laying import Found, Laid, Layer, Order
from dragon.astroport.lost import lost_scripts
from dragon.astroport.pages import compact, page_name, page_to
from dragon.astroport.placing import File
from dragon.astroport.scripts import EXECUTABLE, script_name, script_of, slug_of
from dragon.astroport.zen import Zen
from dragon.probe.catalogue import Catalogue
from dragon.registry.entry import NodeView
from registry_schema import Manifest

SILENT: Final = 12 * 3600.0
"""Seconds for which a silent node keeps its directory: as long as the stations' own scripts keep one (43,200 s)."""

FRESH: Final = 3600.0
"""Seconds after which a directory's times are written anew, like `_12345.sh` does: readers give it 12 hours."""

MOST: Final = 2000
"""Directories: a flood of strangers must not fill the disk. Known nodes come first."""

DOCUMENT: Final = "12345.json"
MOATS: Final = "_MySwarm.moats"

_HEX = re.compile(r"[0-9a-f]{64}")


class SwarmCache:
    """The directories of other nodes. Its methods block, and are called one at a time."""

    def __init__(self, zen: Zen, self_id: str, journal: Path, *, docker_bridge: bool = False, unsigned: bool = False) -> None:
        """`journal`: a file in `DRAGON_HOME`, where what is ours is written down. `unsigned`: no `_12345.sh` keeps the
        directories of stations without Dragon, so they are made here too."""
        self._self_id = self_id
        self._bridge = docker_bridge
        self._trusted = ("signed", "ipns") if unsigned else ("signed",)
        self._swarm = zen.swarm
        self._layer = Layer(zen.swarm, journal, within=zen.root)
        self._stamps: dict[str, int] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._catalogue: Catalogue | None = None

    def lay(self, nodes: Iterable[NodeView], catalogue: Catalogue, now: float) -> Laid:
        """Make the directories say what `nodes` offer. `now`: seconds since the epoch.

        Returns what changed, as `node id/file`. Raises `HomeError` in one line where a place cannot be written.
        """
        if catalogue is not self._catalogue:
            self._catalogue = catalogue
            self._layer.forget()
        shown = [node for node in nodes if self._belongs(node)]
        if len(shown) > MOST:
            shown = sorted(shown, key=lambda node: (not node.known, node.last_seen))[:MOST]
        self._stamps = {node.node_id: self._stamp(node, now) for node in shown}
        self._seen = {node.node_id: self._claimed(node.node_id) for node in shown}
        return self._layer.lay({node.node_id: self._order(node.manifest, catalogue) for node in shown})

    def _belongs(self, node: NodeView) -> bool:
        if node.is_self or node.node_id == self._self_id or node.trust not in self._trusted or node.manifest.leaving:
            return False
        if node.state != "live" and not (node.state == "silent" and node.last_seen <= SILENT):
            return False
        return bool(node.manifest.offers or node.manifest.station)

    def _stamp(self, node: NodeView, now: float) -> int:
        """Return when the node was last heard as it was written down within the last hour, else anew: epoch seconds."""
        heard = int(now - node.last_seen)
        written = self._stamps.get(node.node_id)
        if written is None and node.node_id in self._layer.ours:  # after a restart
            text = read_text(self._swarm / node.node_id / MOATS)
            written = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
        return written if written is not None and 0 <= heard - written < FRESH else heard

    def _claimed(self, node_id: str) -> tuple[int, int]:
        """Count scripts as ours that `_12345.sh` brought back with an older balise of a Dragon: of those the manifest decides.

        Returns what changes when anything is put into the folder.
        """
        folder = self._swarm / node_id
        try:
            status = folder.lstat()
        except OSError:
            return 0, 0
        looks = status.st_ino, status.st_mtime_ns
        if looks != self._seen.get(node_id) and (lost := lost_scripts(folder, self._layer.ours.get(node_id, ()))):
            self._layer.adopt(node_id, lost)
        return looks

    def _order(self, manifest: Manifest, catalogue: Catalogue) -> Order:
        stamp = self._stamps[manifest.node]
        texts = _texts(manifest, stamp)
        names = frozenset({DOCUMENT, *texts, *(script_name(offer.slug) for offer in manifest.offers)})

        def render(found: Found) -> dict[str, File]:
            also = [slug for name in found.strangers if (slug := slug_of(name))]
            document = document_of(manifest, stamp, parse_document(found.contents.get(DOCUMENT, b"")), also)
            return {
                **self._scripts(manifest, catalogue),
                **{name: File(text.encode()) for name, text in texts.items()},
                DOCUMENT: File(compact(document)),
            }

        return Order(_token(manifest, stamp), names, render, reads=(DOCUMENT,))

    def _scripts(self, manifest: Manifest, catalogue: Catalogue) -> dict[str, File]:
        user = str(manifest.station.get("ssh_user", ""))
        return {
            script_name(offer.slug): File(
                script_of(offer, manifest.node, catalogue, remote_user=user, docker_bridge=self._bridge).encode(), EXECUTABLE
            )
            for offer in manifest.offers
        }


def _texts(manifest: Manifest, stamp: int) -> dict[str, str]:
    """Return the small files of one node, name → text. `stamp`: when it was heard, epoch seconds."""
    channel = str(manifest.station.get("channel", ""))
    texts = {
        MOATS: f"{stamp}\n",
        page_name(manifest.alias): page_to(channel if channel.isascii() and channel.isalnum() else manifest.node),
    }
    if _HEX.fullmatch(told := str(manifest.station.get("hex", ""))):
        texts["HEX"] = f"{told}\n"
    return texts


def _token(manifest: Manifest, stamp: int) -> Hashable:
    """Return what the files of a node depend on, and nothing that changes from beat to beat."""
    offers = tuple((offer.slug, offer.port, offer.scheme) for offer in manifest.offers)
    return stamp, manifest.alias, offers, tuple(sorted(manifest.station.items()))

"""The balise: the directory that a station publishes of itself. Laid anew whenever it is asked. Source: ASTROPORT facts 2.2.

Others write here too: the station's own `_12345.sh`, its DRAGON script, its daily wipe. Files of theirs stay, but for scripts
of services that are offered or that the operator made private.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from dragon.astroport.beacon import own_document, same_but_for_time
from dragon.astroport.facts import MAX_DOCUMENT, StationFacts, parse_document, read_data, read_text
from dragon.astroport.laying import Found, Laid, Layer, Order
from dragon.astroport.lost import lost_scripts, scripts_in
from dragon.astroport.pages import compact, page_name, page_to
from dragon.astroport.placing import File
from dragon.astroport.scripts import EXECUTABLE, script_name, script_of, slug_of
from dragon.astroport.zen import Zen
from dragon.probe.catalogue import Catalogue
from registry_schema import Offer, Rejection, parse
from registry_schema.limits import MAX_ENVELOPE

FRESH: Final = 300.0
"""Seconds after which the times that lie here are written anew: the beat of `_12345.sh`. Readers give a station 12 hours."""

MANIFEST: Final = "dragon.manifest"
DOCUMENT: Final = "12345.json"
MOATS: Final = "_MySwarm.moats"
TIMES: Final = frozenset({MOATS, "_MySwarm.staom"})

STOPPED: Final = frozenset({"y_ssh.pub", "z_ssh.pub"})
"""What the originals' STOP takes away besides the scripts (ASTROPORT fact 1.3); x_ssh.pub stays."""

_SECONDS_DIGITS = 11  # of a time in seconds; NODE.refresh.sh writes eighteen, which never grow old


class Balise:
    """One station's own directory. Its methods block, and are called one at a time."""

    def __init__(self, zen: Zen, node_id: str, journal: Path, *, docker_bridge: bool = False) -> None:
        """`journal`: a file in `DRAGON_HOME`, where what is ours is written down."""
        self._folder = zen.balise(node_id)
        self._node_id = node_id
        self._bridge = docker_bridge
        self._layer = Layer(zen.tmp, journal, within=zen.root)

    def lay(
        self,
        facts: StationFacts,
        offers: Iterable[Offer],
        envelope: bytes | None,
        catalogue: Catalogue,
        now: float,
        *,
        stopped: bool = False,
        leaving: bool = False,
    ) -> Laid:
        """Make the directory say `facts` and `offers`. `envelope`: our manifest as published; `now`: seconds since the epoch.

        `stopped`: the operator withdrew all offers, and the y and z keys go with them, as after the originals' STOP.
        `leaving`: nobody signs for this station from now on, so its manifest goes: where one lies, nothing else is read.
        Returns what changed, by bare file names. Raises `HomeError` where the place cannot be written.
        """
        self._adopt_lost()
        stamp = written if (written := self._written()) is not None and 0 <= now - written < FRESH else int(now)
        offers = tuple(offers)
        files = {
            script_name(offer.slug): File(
                script_of(offer, self._node_id, catalogue, remote_user=facts.user, docker_bridge=self._bridge).encode(),
                EXECUTABLE,
            )
            for offer in offers
        }
        self._layer.adopt(self._node_id, self._made_private(facts, files))
        slugs = {offer.slug for offer in offers} | self._slugs_of_others()
        hidden = STOPPED if stopped else frozenset()
        files |= {name: File(text.encode()) for name, text in _texts(facts, stamp).items() if name not in hidden}
        if not leaving and (envelope is not None or (envelope := self._last_envelope()) is not None):
            files[MANIFEST] = File(envelope)
        page, target = page_name(facts.hostname), facts.channel or facts.node_id
        before: dict[str, bytes] = {}

        def render(found: Found) -> dict[str, File]:
            before.update(found.contents)
            document = own_document(facts, slugs, stamp, parse_document(found.contents.get(DOCUMENT, b"")))
            there = found.contents.get(page, b"")
            leads = there if f"/ipns/{target}".encode() in there else page_to(target).encode()  # another's page is as good
            return {**files, DOCUMENT: File(compact(document)), page: File(leads)}

        token = (stamp, facts, frozenset(slugs), frozenset(files.items()))
        order = Order(token, frozenset({*files, DOCUMENT, page}), render, reads=(DOCUMENT, MANIFEST, page))
        return self._told(self._layer.lay({self._node_id: order}), before)

    def _written(self) -> int | None:
        """Return the time that the moats tell, ours or another's; None where they tell none."""
        text = read_text(self._folder / MOATS)
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= _SECONDS_DIGITS else None

    def _last_envelope(self) -> bytes | None:
        """Return the manifest that we laid before: after a restart it stays until there is a new one."""
        if MANIFEST not in self._layer.ours.get(self._node_id, ()):
            return None
        return read_data(self._folder / MANIFEST, MAX_ENVELOPE) or None

    def _told(self, laid: Laid, before: Mapping[str, bytes]) -> Laid:
        """Tell what is news apart from what is only newer."""
        changed = [_bare(name) for name in laid.changed]
        refreshed = [name for name in changed if self._is_refresh(name, before.get(name))]
        return Laid(
            tuple(name for name in changed if name not in refreshed),
            tuple(_bare(name) for name in laid.removed),
            tuple(refreshed),
        )

    def _is_refresh(self, name: str, before: bytes | None) -> bool:
        if name in TIMES:
            return True
        if before is None or name not in (DOCUMENT, MANIFEST):
            return False
        now = read_data(self._folder / name, MAX_DOCUMENT)
        if name == DOCUMENT:
            return same_but_for_time(parse_document(before), parse_document(now))
        return _content_hash(before) == _content_hash(now)

    def _adopt_lost(self) -> None:
        """Count scripts of ours that no journal knows any more."""
        if lost := lost_scripts(self._folder, self._layer.ours.get(self._node_id, ())):
            self._layer.adopt(self._node_id, lost)

    def _made_private(self, facts: StationFacts, offered: Container[str]) -> list[str]:
        """Return scripts of the station's DRAGON for services that the operator's list hides from everybody."""
        return [name for name in scripts_in(self._folder) if slug_of(name) in facts.private and name not in offered]

    def _slugs_of_others(self) -> set[str]:
        known = self._layer.ours.get(self._node_id, ())
        return {slug for name in scripts_in(self._folder, known) if (slug := slug_of(name))}


def _texts(facts: StationFacts, stamp: int) -> dict[str, str]:
    """Return the small files, name → text."""
    address = facts.addresses[0] if facts.addresses else ""
    texts = {
        MOATS: f"{stamp}\n",
        "_MySwarm.staom": datetime.fromtimestamp(stamp, UTC).strftime("%a %b %e %H:%M:%S UTC %Y") + "\n",
        "myIPFS.txt": f"{address}/p2p/{facts.node_id}\n",
    }
    texts |= {name: f"{line}\n" for name, line in facts.keys.files().items()}
    if facts.hex:
        texts["HEX"] = f"{facts.hex}\n"
    return texts


def _content_hash(envelope: bytes) -> bytes:
    try:
        return parse(envelope).content_hash
    except Rejection:
        return envelope


def _bare(name: str) -> str:
    return name.rpartition("/")[2]

"""Where a run keeps its things: below DRAGON_HOME always, and where a station's scripts look for them as well. Paths only.

Source of the station's names: ASTROPORT facts 4.1, 4.8.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Places:
    """The files of the sync of one node. `zen` is the station's `~/.zen`, None elsewhere."""

    home: Path
    """DRAGON_HOME."""
    zen: Path | None = None

    @property
    def root(self) -> Path:
        return self.home / "constellation"

    @property
    def runs(self) -> Path:
        """Reports of the last runs, a JSON and an HTML file each."""
        return self.root / "runs"

    @property
    def status(self) -> Path:
        """What the run that goes on says of itself."""
        return self.root / "status.json"

    @property
    def follow_status(self) -> Path:
        return self.root / "follow.json"

    @property
    def resume(self) -> Path:
        """How far an interrupted run came."""
        return self.root / "resume.json"

    @property
    def child_log(self) -> Path:
        """What the runs that a serving node starts print."""
        return self.root / "sync.log"

    @property
    def own_friends(self) -> Path:
        """The friends that we found ourselves; elsewhere than on a station also the list that is used."""
        return self.root / "friends.txt"

    @property
    def friends(self) -> Path:
        """The list of friends of friends that is used: on a station the one that its relay's write policy reads."""
        return self.zen / "strfry" / "amisOfAmis.txt" if self.zen else self.own_friends

    @property
    def locks(self) -> tuple[Path, ...]:
        """Held in this order for one run: ours, and those of the scripts that Dragon stands beside."""
        ours = (self.root / "sync.lock",)
        if self.zen is None:
            return ours
        strfry = self.zen / "strfry"
        return (*ours, strfry / "constellation-sync.lock", strfry / "constellation-backfill.lock")

    @property
    def follow_locks(self) -> tuple[Path, ...]:
        """Held by the one live follower; runs go on beside it."""
        return (self.root / "follow.lock",)

    @property
    def stamps(self) -> tuple[Path, ...]:
        """Who looks at these knows when a run began (seconds since the epoch) and does not start another one soon."""
        ours = (self.root / "lastrun",)
        if self.zen is None:
            return ours
        return (*ours, self.zen / "tmp" / "backfill_constellation.lastrun", self.zen / "strfry" / "last_constellation_sync")

    @property
    def trigger_log(self) -> Path | None:
        return self.zen / "strfry" / "constellation-trigger.log" if self.zen else None

    @property
    def backfill_log(self) -> Path | None:
        return self.zen / "strfry" / "constellation-backfill.log" if self.zen else None

    @property
    def error_log(self) -> Path | None:
        return self.zen / "strfry" / "constellation-backfill.error.log" if self.zen else None

    @property
    def relay_program(self) -> Path | None:
        """The station's `strfry`."""
        return self.zen / "strfry" / "strfry" if self.zen else None

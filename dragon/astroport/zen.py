"""The layout of a station's `~/.zen`, as paths. Nothing is read or made here. Source: ASTROPORT facts 1.5, 2.2, 2.5, 4.1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


def zen_home(environ: Mapping[str, str]) -> Path:
    """Return the station's folder: `ZEN_HOME`, else `.zen` in the home of whoever asks."""
    zen = environ.get("ZEN_HOME") or str(Path(environ.get("HOME") or Path.home()) / ".zen")
    return Path(zen).expanduser().absolute()


@dataclass(frozen=True, slots=True)
class Zen:
    """The folders and files below one `~/.zen`."""

    root: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> Zen:
        return cls(zen_home(environ))

    @property
    def is_station(self) -> bool:
        """Whether an Astroport lives here: its programs, or what it keeps (`game`)."""
        return self.programs.is_dir() or self.game.is_dir()

    @property
    def programs(self) -> Path:
        """The Astroport.ONE checkout."""
        return self.root / "Astroport.ONE"

    @property
    def env_file(self) -> Path:
        return self.programs / ".env"

    @property
    def modules_list(self) -> Path:
        return self.programs / "IA" / "modules.list"

    @property
    def services(self) -> Path:
        """Where the connection managers (`*.me.sh`) lie."""
        return self.programs / "IA" / "services"

    @property
    def dragon_script(self) -> Path:
        """The Bash DRAGON: `ON` opens and publishes, `OFF` closes."""
        return self.programs / "RUNTIME" / "DRAGON_p2p_ssh.sh"

    @property
    def game(self) -> Path:
        return self.root / "game"

    @property
    def tmp(self) -> Path:
        """Wiped daily by 20h12.process.sh: nothing that matters may live here alone."""
        return self.root / "tmp"

    def balise(self, node_id: str) -> Path:
        """The directory that a station publishes of itself."""
        return self.tmp / node_id

    @property
    def swarm(self) -> Path:
        """One directory per other node: a copy of its balise."""
        return self.tmp / "swarm"

    @property
    def strfry(self) -> Path:
        """The relay's folder, with its program of the same name."""
        return self.root / "strfry"

    @property
    def flashmem(self) -> Path:
        return self.root / "flashmem"

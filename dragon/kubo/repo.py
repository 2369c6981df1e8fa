"""The repo of a managed daemon on disk: made whole or not at all, configured before each start."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragon.errors import KuboRefused
from dragon.home import set_aside, write_atomically
from dragon.kubo.configuration import Network, Ports, check_swarm_key, configured, ports_of
from dragon.kubo.diagnosis import ending

log = logging.getLogger(__name__)

INIT_LIMIT = 120.0
"""Seconds for making a repo, which takes 0.1 on an idle machine."""


@dataclass(frozen=True, slots=True)
class Repo:
    """One repo for one kind of network; `swarm_key` is the file to copy into it, None for none."""

    path: Path
    network: Network
    swarm_key: Path | None = None

    def prepare(self, binary: Path) -> None:
        """Make the repo where there is none: beside its place and moved there whole, so that a half-made one never counts.

        One without a readable config is set aside with a message. Raises `KuboRefused`.
        """
        self._key()
        for abandoned in self.path.parent.glob(f"{self.path.name}.new-*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        if self.path.exists() and self._config() is None:
            if any(self.path.iterdir()):
                place = set_aside(self.path)
                log.error("the Kubo repo %s has no readable config; set aside as %s, the node id changes", self.path, place)
            else:
                self.path.rmdir()
        if not self.path.exists():
            self._make(binary)

    def _make(self, binary: Path) -> None:
        fresh = self.path.with_name(f"{self.path.name}.new-{os.getpid()}")
        fresh.mkdir(mode=0o700)
        try:
            done = subprocess.run(
                [binary, "init", "--empty-repo"],
                env={**self.environment(), "IPFS_PATH": str(fresh)},
                capture_output=True,
                text=True,
                timeout=INIT_LIMIT,
                check=False,
            )
            if done.returncode:
                meaning, hint = ending(done.stderr.splitlines(), fresh)
                raise KuboRefused(f"the Kubo repo cannot be made: {meaning}", hint)
            fresh.rename(self.path)
        except (OSError, subprocess.SubprocessError) as error:
            raise KuboRefused(f"the Kubo repo cannot be made with {binary}: {error}", "check [kubo] binary") from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """Return the environment for Kubo on this repo: ours, without what would change its network behind our back."""
        environment = {**os.environ, "IPFS_PATH": str(self.path), "IPFS_TELEMETRY": "off"}
        environment.pop("LIBP2P_FORCE_PNET", None)
        if self.swarm_key:
            environment["LIBP2P_FORCE_PNET"] = "1"  # Kubo then refuses to start without the key: never open by accident
        return environment

    @property
    def node_id(self) -> str:
        config = self._config()
        if config is None:
            raise KuboRefused(f"the Kubo repo {self.path} has no readable config", "start again: it is set aside then")
        return str(config["Identity"]["PeerID"])

    @property
    def ports(self) -> Ports | None:
        """The ports kept from an earlier start."""
        return ports_of(self._config() or {})

    def configure(self, ports: Ports) -> None:
        """Write config and swarm key as they are to be; nothing is written when they are so already."""
        config = self._config() or {}
        wanted = configured(config, ports, self.network)
        if wanted != config:
            write_atomically(self.path / "config", json.dumps(wanted, indent=2).encode())
        key, file = self._key(), self.path / "swarm.key"
        if key is None:
            file.unlink(missing_ok=True)
        elif not file.exists() or file.read_text() != key:
            write_atomically(file, key.encode())

    def ports_as_configured(self) -> Ports | None:
        """Return the ports when everything on disk is as `configure` would write it, else None."""
        config, file = self._config() or {}, self.path / "swarm.key"
        ports = ports_of(config)
        same_key = (file.read_text() if file.exists() else None) == self._key()
        return ports if ports and same_key and configured(config, ports, self.network) == config else None

    def _key(self) -> str | None:
        if self.swarm_key is None:
            return None
        try:
            return check_swarm_key(self.swarm_key.read_text(), self.swarm_key)
        except (OSError, UnicodeDecodeError) as error:
            raise KuboRefused(f"{self.swarm_key} cannot be read: {error}", "check [kubo] swarm_key") from error

    def _config(self) -> dict[str, Any] | None:
        """The config on disk; None when there is none or it cannot be understood."""
        try:
            config = json.loads((self.path / "config").read_bytes())
            return config if isinstance(config["Identity"]["PeerID"], str) else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

"""Which machine a service lies on, for the SSH routes: from the settings, else from a station's variables. Pure.

    [ssh.<slug>] over [ssh]                                   where the file names a host: it alone counts
    <SLUG>_REMOTE_* over SWARM_REMOTE_* over REMOTE_*         else the station's variables, which fill in for one another

A host that the file names never gets its user or ports from the environment. Nothing is built in: without a host there is no
SSH route.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from dragon.config import SshOverride, SshSettings

log = logging.getLogger(__name__)

VARIABLES: Mapping[str, str] = {"HOST": "host", "USER": "user", "PORT_IPV6": "port6", "PORT_IPV4": "port4"}
"""Endings of a station's variables and what they mean."""

PREFIXES = ("SWARM_REMOTE_", "REMOTE_")
"""The general ones, the stronger first: the stations' scripts take theirs from the first, and call it by the second."""


@dataclass(frozen=True, slots=True)
class SshHost:
    """A machine to log in to and the service's port on its 127.0.0.1."""

    host: str
    user: str
    port6: int
    port4: int
    service_port: int


class SshHosts:
    """Answers for every service. `variables` are a station's, as text; `login` is the user name here."""

    def __init__(self, settings: SshSettings, variables: Mapping[str, str], login: str) -> None:
        self._settings = settings
        self._variables = {name: text.strip() for name, text in variables.items() if text.strip()} if settings.station else {}
        self._login = login

    @property
    def any(self) -> bool:
        """Whether some service may have a host at all."""
        settings = self._settings
        named = settings.host is not None or any(each.host is not None for each in settings.entries.values())
        return named or any(name.endswith("REMOTE_HOST") for name in self._variables)

    def of(self, slug: str, catalogue_port: int | None) -> SshHost | None:
        """Return where `slug` lies; None when no host is named for it, or its port is not known."""
        settings = self._settings
        own = settings.entries.get(slug, SshOverride())
        port = own.port or catalogue_port
        if own.off or port is None:
            return None
        if own.host is not None or settings.host is not None:
            said = SshOverride(host=own.host or settings.host, user=own.user or settings.user, port6=own.port6, port4=own.port4)
        else:
            said = self._of_station(slug)
            said = said.model_copy(
                update={key: value for key in ("user", "port6", "port4") if (value := getattr(own, key)) is not None}
            )
        if said.host is None:
            return None
        return SshHost(
            host=said.host,
            user=said.user or settings.user or self._login,
            port6=said.port6 or settings.port6,
            port4=said.port4 or settings.port4,
            service_port=port,
        )

    def _of_station(self, slug: str) -> SshOverride:
        words: dict[str, str | int] = {}
        for prefix in (*reversed(PREFIXES), f"{slug.upper().replace('-', '_')}_REMOTE_"):
            for ending, key in VARIABLES.items():
                text = self._variables.get(prefix + ending)
                if text is not None:
                    words[key] = int(text) if key.startswith("port") and text.isascii() and text.isdecimal() else text
        try:
            return SshOverride.model_validate(words)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            log.warning("the station's SSH host for %s is not used: its %s is %r", slug, detail["loc"][0], detail["input"])
            return SshOverride()

"""One identity: on a station the node is the station's own Kubo, and its settings are the station's where nobody said else."""

from __future__ import annotations

from collections.abc import Mapping

from dragon.astroport.modules import with_station_catalogue
from dragon.astroport.zen import Zen
from dragon.config import Settings
from dragon.kubo.engine import is_managed

OWN_KUBO = frozenset({"managed", "api", "repo", "binary", "swarm_key"})
"""Keys of `[kubo]` by which the operator chooses the daemon: with any of them the choice is made."""


def station_of(settings: Settings, environ: Mapping[str, str]) -> Zen | None:
    """Return the station that this node lives on, None where there is none, or where the settings say that it is none."""
    zen, enabled = Zen.locate(environ), settings.astroport.enabled
    return zen if enabled == "on" or (enabled == "auto" and zen.is_station) else None


def on_station(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """Return `settings` as they are on a station: its running Kubo, its scripts as publisher, its list of services.

    What the operator set stays. Elsewhere the same `settings` come back, and twice is as good as once. Reads two small files.
    """
    zen = station_of(settings, environ)
    if zen is None:
        return settings
    kubo, registry = settings.kubo, settings.registry
    if not kubo.model_fields_set & OWN_KUBO and not settings.node.isolated:
        kubo = kubo.model_copy(update={"managed": False})
    settings = settings.model_copy(update={"kubo": kubo})
    if registry.publisher == "auto" and not is_managed(settings):  # a daemon of our own has a name that nobody else writes
        settings = settings.model_copy(update={"registry": registry.model_copy(update={"publisher": "astroport"})})
    return with_station_catalogue(settings, zen)

"""One typed tree of settings, from config.toml, the environment and flags.

`load_settings` is a function of its arguments and of what the file says now; `reload_settings` reads again, same flags.
Nothing enters here but the user's own words; each that is off is a `ConfigError` with its place and what was expected there.
"""

from dragon.config.grammar import alias_from
from dragon.config.load import load_settings, reload_settings
from dragon.config.model import (
    ApiSettings,
    AstroportSettings,
    CatalogueSettings,
    ConnectSettings,
    ConstellationSettings,
    EntryOverride,
    GateSettings,
    KuboSettings,
    NodeSettings,
    RegistrySettings,
    Settings,
    SshOverride,
    SshSettings,
    SwarmSettings,
)

__all__ = [
    "ApiSettings",
    "AstroportSettings",
    "CatalogueSettings",
    "ConnectSettings",
    "ConstellationSettings",
    "EntryOverride",
    "GateSettings",
    "KuboSettings",
    "NodeSettings",
    "RegistrySettings",
    "Settings",
    "SshOverride",
    "SshSettings",
    "SwarmSettings",
    "alias_from",
    "load_settings",
    "reload_settings",
]

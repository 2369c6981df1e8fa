"""One typed tree of settings, from config.toml, the environment and flags.

`load_settings` is a function of its arguments and of what the file says now; `reload_settings` reads again, same flags.
Nothing enters here but the user's own words; each that is off is a `ConfigError` with its place and what was expected there.
"""

from dragon.config.load import load_settings, reload_settings
from dragon.config.model import (
    ApiSettings,
    CatalogueSettings,
    ConnectSettings,
    EntryOverride,
    GateSettings,
    KuboSettings,
    NodeSettings,
    RegistrySettings,
    Settings,
    SshOverride,
    SshSettings,
    SwarmSettings,
    alias_from,
)

__all__ = [
    "ApiSettings",
    "CatalogueSettings",
    "ConnectSettings",
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

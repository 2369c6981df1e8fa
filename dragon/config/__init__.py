"""One typed tree of settings, from config.toml, the environment and flags.

`load_settings` is a function of its arguments and of what the file says now: `dragon reload` calls it again. Nothing enters
here but the user's own words; every one that is off is a `ConfigError` that names its place and what was expected there.
"""

from dragon.config.load import load_settings
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
    "SwarmSettings",
    "alias_from",
    "load_settings",
]

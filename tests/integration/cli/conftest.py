"""The sync's commands: a node's real control API, real relays, and processes of their own."""

from tests.testbed.fixtures_api import home, logging_as_before, node

__all__ = ["home", "logging_as_before", "node"]

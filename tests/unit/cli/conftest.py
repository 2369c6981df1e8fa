"""Commands are tested against plain answers behind a node's real control API."""

from tests.testbed.fixtures_api import home, logging_as_before, node

__all__ = ["home", "logging_as_before", "node"]

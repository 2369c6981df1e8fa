"""Tests here talk to a node's answers on a control socket of their own."""

from tests.testbed.fixtures_api import home, node

__all__ = ["home", "node"]

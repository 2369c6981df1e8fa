"""Fixtures for everybody: the plugins that provide real parts."""

pytest_plugins = ["tests.testbed.fixtures_kubo", "tests.testbed.fixtures_services"]

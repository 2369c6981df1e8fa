"""Fixtures for everybody: the plugins that provide real parts, and how hypothesis works here."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.testbed.fixtures_kubo", "tests.testbed.fixtures_services", "tests.testbed.fixtures_relays"]

# Shared machines stall: nothing is judged by the clock. A modest number of examples keeps `make test-unit` fast.
settings.register_profile("dragon", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dragon")

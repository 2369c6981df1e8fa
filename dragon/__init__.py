"""Dragon: a distributed service registry node for a swarm with no centre."""

__version__ = "0.1.0"

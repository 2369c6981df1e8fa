"""Connecting: from a service's name to a port that leads to the best provider, and the other way round, the gate.

Pure: `choice`, `measure`, `breaker`, `lookup`, `station_port`. The rest moves bytes and holds sockets. What one node measures
of another never leaves this room.
"""

"""The engine: one Kubo daemon as an async client, its tunnels, the daemon we manage, and where its binary comes from.

Nothing enters here that knows services, manifests or swarms: this room speaks of protocols, ports, topics and node ids.
"""

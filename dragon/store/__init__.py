"""What survives a `kill -9`: the marks and last envelopes of the swarm, our own sequence, and small values of other rooms.

SQLite under one writer thread. Nothing is decided here; what may enter is what the view admitted.
"""

from dragon.store.database import StoredNode
from dragon.store.sequence import next_sequence
from dragon.store.store import Store

__all__ = ["Store", "StoredNode", "next_sequence"]

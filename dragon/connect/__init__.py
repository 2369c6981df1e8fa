"""Connecting: from a service's name to a port that leads to the best provider, and the other way round, the gate.

Pure: `choice`, `measure`, `breaker`, `lookup`, `targets`, `station_port`. The rest moves bytes and holds sockets. What one node
measures of another never leaves this room.
"""

from dragon.connect.caller import IsKubo, KuboOwner
from dragon.connect.explain import Explanation
from dragon.connect.forwards import Forwards
from dragon.connect.lookup import numbered
from dragon.connect.request import ForwardInfo, ForwardRequest, ForwardResult
from dragon.connect.serving import Serving, offer_of
from dragon.connect.station_port import station_port

__all__ = [
    "Explanation",
    "ForwardInfo",
    "ForwardRequest",
    "ForwardResult",
    "Forwards",
    "IsKubo",
    "KuboOwner",
    "Serving",
    "numbered",
    "offer_of",
    "station_port",
]

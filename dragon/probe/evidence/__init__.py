"""What shows that a service runs here: one small module per kind, each a pure reading of facts and the call that gets them.

In: processes, systemd's word, container lists. Out: `Sighting` values per evidence. A source that cannot be asked says so
(`CannotTell`); it never passes for "does not run".
"""

from dragon.probe.evidence.sighting import CannotTell, Sighting
from dragon.probe.evidence.sources import Sources, gather

__all__ = ["CannotTell", "Sighting", "Sources", "gather"]

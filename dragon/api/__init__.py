"""The control API: what the command line and programs on this machine ask of the running node, as JSON over a Unix socket.

Nothing is decided here: requests are checked at the edge and handed to a `Backend`. Only this machine's owner may enter.
"""

from dragon.api.backend import Backend, Document
from dragon.api.server import serve_api

__all__ = ["Backend", "Document", "serve_api"]

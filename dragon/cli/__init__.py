"""The command line: words in, a request to the running node, its answer printed. Nothing is decided here.

Every import costs each command; so only typer is imported at the start, and rich only where a terminal shows a table.
"""

from dragon.cli.main import main

__all__ = ["main"]

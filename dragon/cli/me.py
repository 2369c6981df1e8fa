"""`dragon me`: the words of a connection manager, handed to the room that speaks them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from dragon.cli import output
from dragon.home import Home
from dragon.text import clean

USAGE = "dragon me SERVICE [WORD …]: connect as the *.me.sh scripts do; `dragon me ollama HELP` lists the words"


def obey(words: Sequence[str]) -> int:
    """Do what `words` (a service, then what is asked of it) say; return 0 or 1, whatever happened."""
    if not words or words[0] in ("-h", "--help"):
        (output.print_line if words else tell)(USAGE)
        return 0 if words else 1
    from dragon.astroport.me import run
    from dragon.client import Control

    return run(Control(Home.locate()), words[0], words[1:], os.environ, output.print_line, tell)


def tell(line: str) -> None:
    print(clean(line, 2000), file=sys.stderr)

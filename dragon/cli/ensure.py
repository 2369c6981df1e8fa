"""`dragon ensure`: what a request needs, and what became of each."""

from __future__ import annotations

import os

from dragon.astroport.ensure import Result, ensure, exit_code
from dragon.astroport.me import line_of
from dragon.astroport.tags import needs_of
from dragon.cli import output
from dragon.cli.me import tell
from dragon.client import Control
from dragon.home import Home


def meet(tags: str, *, as_json: bool) -> int:
    """Connect what `tags` need and print it; return the exit code."""
    home = Home.locate()
    results = ensure(needs_of(tags), os.environ, control=lambda: Control(home))
    code = exit_code(results)
    if as_json:
        output.print_json({"ok": code == 0, "services": [result.document() for result in results]})
        return code
    for result in results:
        _print(result)
    return code


def _print(result: Result) -> None:
    needed = " ".join(result.need.because) or "every answer"
    found = result.connection
    if found is not None:
        output.print_line(f"{result.need.service:10}  ok      {found.kind:8}  {found.shown_url}  ({needed})")
        return
    output.print_line(f"{result.need.service:10}  {'failed' if result.need.required else 'missing'}  ({needed})")
    tell(result.failure)
    if result.error is not None:
        tell(line_of(result.error))

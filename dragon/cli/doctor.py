"""`dragon doctor`: findings of the running node, or of the machine where none runs; fixes after asking."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from dragon.cli.output import print_json, print_line, print_table
from dragon.cli.tables import findings
from dragon.errors import NotRunning, UsageError
from dragon.home import Home

if TYPE_CHECKING:
    from dragon.client import Control
    from dragon.config import Settings
    from dragon.kubo import Finding

Document = dict[str, Any]

NOT_RUNNING: Document = {
    "name": "node",
    "ok": False,
    "detail": "not running",
    "fix": "dragon serve",
    "fixable": False,
    "essential": False,
}


def examine(home: Home, node: Control, *, fix: bool, yes: bool, as_json: bool) -> int:
    """Print the findings, and those after the fixes where `fix`; return 0 when nothing essential is wrong, else 1.

    Raises `UsageError` when it would have to ask and nobody is there to answer.
    """
    found = _findings(home, node)
    fixable = [one for one in found if not one["ok"] and one.get("fixable")]
    if fix and fixable:
        if not as_json:
            _show(found)
        if not yes:
            _ask(fixable)
        found = _repaired(home, node, [str(one["name"]) for one in fixable])
    if as_json:
        print_json(found)
    else:
        _show(found)
    return int(any(not one["ok"] and one.get("essential", True) for one in found))


def _show(found: Sequence[Document]) -> None:
    print_table(findings(list(found)))
    for one in found:
        if not one["ok"] and one.get("fix"):
            print_line(f"{one['name']}: {one['fix']}")


def _ask(fixable: Sequence[Document]) -> None:
    if not sys.stdin.isatty():
        raise UsageError("fixes are applied after asking, and nobody is here to answer", "add --yes")
    print_line("These would be applied:")
    for one in fixable:
        print_line(f"  {one['fix']}")
    typer.confirm("Apply them?", abort=True, err=True)


def _findings(home: Home, node: Control) -> list[Document]:
    try:
        return node.doctor()
    except NotRunning:
        return asyncio.run(_machine(home, ()))


def _repaired(home: Home, node: Control, names: list[str]) -> list[Document]:
    try:
        return node.repair(names)
    except NotRunning:
        return asyncio.run(_machine(home, names))


async def _machine(home: Home, names: Sequence[str]) -> list[Document]:
    """Return the findings that need no node; those called `names` after their fix."""
    from dragon.astroport.identity import on_station
    from dragon.config import load_settings
    from dragon.doctor import document, examine_machine

    done = {one.name: one for one in await _mended(on_station(load_settings(home), os.environ), names)} if names else {}
    found = await examine_machine(home, lambda: load_settings(home))
    return [NOT_RUNNING, *(document(done.get(one.name, one)) for one in found)]


async def _mended(settings: Settings, names: Sequence[str]) -> list[Finding]:
    """Apply the fixes called `names` to the existing daemon: the one part that can be mended without a node."""
    from dragon.doctor import repair
    from dragon.kubo import KuboClient, examine
    from dragon.kubo.engine import existing_api

    async with KuboClient(existing_api(settings), settings.kubo.auth) as client:
        return await repair(await examine(client), names)

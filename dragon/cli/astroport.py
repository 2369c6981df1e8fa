"""`dragon astroport …`: what a station needs of Dragon."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from dragon.cli import output

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})


@app.callback()
def astroport() -> None:
    """What an Astroport station needs of Dragon."""


@app.command()
def shims(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the scripts go.")],
    force: Annotated[bool, typer.Option("--force", help="Replace scripts of others; copies are kept.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the *.me.sh scripts that call `dragon me`."""
    from dragon.astroport.shims import write
    from dragon.config import load_settings
    from dragon.home import Home
    from dragon.probe import catalogue_of

    catalogue = catalogue_of(load_settings(Home.locate()).catalogue)
    folder = Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100  # resolve() would follow links that are the user's names
    done = write(folder, [entry.slug for entry in catalogue.entries()], executable(), force=force)
    if as_json:
        return output.print_json(
            [{"path": str(one.path), "change": one.change, "kept": str(one.kept) if one.kept else None} for one in done]
        )
    for one in done:
        output.print_line(f"{one.change:9}  {one.path}" + (f"  (was kept as {one.kept.name})" if one.kept else ""))
    return None


def executable() -> tuple[str, ...]:
    """Return how this very program is called from anywhere: its script, else Python with the module."""
    called = Path(sys.argv[0])
    beside = Path(sys.executable).parent / "dragon"
    for candidate in (called if called.name == "dragon" else None, beside, shutil.which("dragon")):
        if candidate is not None and Path(candidate).is_file() and os.access(candidate, os.X_OK):
            return (os.path.abspath(candidate),)  # noqa: PTH100
    return (sys.executable, "-m", "dragon")

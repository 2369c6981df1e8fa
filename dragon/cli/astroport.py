"""`dragon astroport …`: what a station needs of Dragon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dragon.cli import output
from dragon.cli.examples import examples
from dragon.cli.executable import executable

if TYPE_CHECKING:
    from dragon.astroport.shims import Shim

app = typer.Typer(rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only show what would be done.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.callback(invoke_without_command=True)
def astroport(context: typer.Context) -> None:
    """What an Astroport station needs of Dragon."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog=examples("dragon astroport shims ~/services"))
def shims(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where the *.me.sh go.")] = None,
    nostr: Annotated[Path | None, typer.Option(metavar="DIR", help="Where NIP-101's sync scripts go.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace scripts of others; copies are kept.")] = False,
    as_json: Json = False,
) -> None:
    """Write scripts that call Dragon.

    The *.me.sh call `dragon me`; with --nostr, backfill_constellation.sh and constellation_sync_trigger.sh call `dragon sync`.
    """
    from dragon.astroport.shims import sync_scripts, write, write_scripts
    from dragon.config import load_settings
    from dragon.errors import UsageError
    from dragon.home import Home
    from dragon.probe import catalogue_of

    if folder is None and nostr is None:
        raise UsageError("shims: where to?", "name the folder of the *.me.sh, or --nostr DIR")
    done: list[Shim] = []
    if folder is not None:
        catalogue = catalogue_of(load_settings(Home.locate()).catalogue)
        done += write(_absolute(folder), [entry.slug for entry in catalogue.entries()], executable(), force=force)
    if nostr is not None:
        done += write_scripts(_absolute(nostr), sync_scripts(_absolute(nostr), executable()), force=force)
    if as_json:
        return output.print_json(
            [{"path": str(one.path), "change": one.change, "kept": str(one.kept) if one.kept else None} for one in done]
        )
    for one in done:
        output.print_line(f"{one.change:9}  {one.path}" + (f"  (was kept as {one.kept.name})" if one.kept else ""))
    return None


@app.command(epilog=examples("dragon astroport takeover --dry-run", "dragon astroport takeover --yes"))
def takeover(
    system: Annotated[
        bool | None, typer.Option("--system/--user", help="A service of the machine, or of this user (the default).")
    ] = None,
    publisher: Annotated[
        str | None, typer.Option(metavar="astroport|dragon", help="Who publishes the station's directory.")
    ] = None,
    nostr: Annotated[Path | None, typer.Option(metavar="DIR", help="Replace NIP-101's sync scripts in DIR, too.")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put Dragon in the place of the Bash DRAGON.

    Shows each step first. Nothing is deleted without a copy; `release` puts everything back.
    """
    from dragon.cli.station import take_over

    folder = None if nostr is None else _absolute(nostr)
    raise typer.Exit(take_over(system=system, publisher=publisher, nostr=folder, dry_run=dry_run, yes=yes, as_json=as_json))


@app.command(epilog=examples("dragon astroport release --dry-run"))
def release(dry_run: DryRun = False, yes: Yes = False, as_json: Json = False) -> None:
    """Put back what `takeover` replaced."""
    from dragon.cli.station import give_back

    raise typer.Exit(give_back(dry_run=dry_run, yes=yes, as_json=as_json))


@app.command()
def stop(as_json: Json = False) -> None:
    """Withdraw all offers of this node.

    The node stays, sees and uses the others; `start` makes the offers again. A restart of the node changes nothing of it.
    """
    _offering(False, as_json)


@app.command()
def start(as_json: Json = False) -> None:
    """Offer again what runs here."""
    _offering(True, as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show who does what on this station.

    What is Dragon's, and what is the Bash scripts'.
    """
    from dragon.cli.station import show

    show(as_json=as_json)


@app.command(epilog=examples("dragon astroport keys --dry-run"))
def keys(
    remove: Annotated[bool, typer.Option("--remove", help="Take Dragon's block out of authorized_keys.")] = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Keep the SSH keys of the UPlanet's stations.

    Each of them gets a login here: see docs/astroport.md. With --dry-run nothing is written.
    """
    from dragon.cli.station_keys import keep, take_out

    raise typer.Exit((take_out if remove else keep)(dry_run=dry_run, as_json=as_json))


def _offering(on: bool, as_json: bool) -> None:
    from dragon.client import Control
    from dragon.home import Home

    document = Control(Home.locate()).offering(on)
    if as_json:
        return output.print_json(document)
    return output.print_line("offers are made" if document["offering"] else "offers are withdrawn")


def _absolute(folder: Path) -> Path:
    return Path(os.path.abspath(folder.expanduser()))  # noqa: PTH100  # resolve() would follow links that are the user's names

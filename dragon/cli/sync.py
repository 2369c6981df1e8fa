"""`dragon sync …`: the relays of the constellation hold the same events. Words and options only; `sync_run` does the work."""

from __future__ import annotations

from typing import Annotated

import typer
from typer.core import TyperGroup

from dragon.cli.examples import examples
from dragon.errors import UsageError
from dragon.home import Home

MOST_KINDS = 1000
"""Kinds in one wish: relays refuse filters with thousands."""

MOST_DAYS, LONGEST = 36_500, 86_400
"""Of `--days` and `--timeout`, as of the settings of these names."""


class _Sync(TyperGroup):
    """Hands what follows `--as backfill` or `--as trigger` on as it is: it is the grammar of the scripts, not ours."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        if args and (args[0] == "--as" or args[0].startswith("--as=")):
            name = args[0].partition("=")[2]
            args = ["as", *([name] if name else []), *args[1:]]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Sync, invoke_without_command=True, rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]}
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(epilog=examples("dragon sync check", "dragon sync", "dragon sync --days 7 --dry-run", "dragon sync history 1"))
def sync(
    context: typer.Context,
    days: Annotated[float | None, typer.Option("--days", metavar="N", help="How far back to look; 0 is everything.")] = None,
    kinds: Annotated[list[str] | None, typer.Option("--kinds", metavar="N,N…", help="Kinds of events (repeatable).")] = None,
    no_dms: Annotated[bool, typer.Option("--no-dms", help="Leave out direct messages (kind 4).")] = False,
    no_profiles: Annotated[bool, typer.Option("--no-profiles", help="Do not fetch older profiles that are missing.")] = False,
    direction: Annotated[str | None, typer.Option("--dir", metavar="down|both", help="Also send what a peer lacks.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask what is missing; fetch and write nothing.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare with each peer, both ways; change nothing.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Then stay, and keep in step as events appear.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", metavar="SECONDS", help="What came until then is kept.")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Show who and what is synced; start nothing.")] = False,
    show_hex: Annotated[bool, typer.Option("--show-hex", help="Print the public keys; start nothing.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell more while it runs.")] = False,
    stand_in: Annotated[
        str | None, typer.Option("--as", metavar="backfill|trigger", help="First word: take the station scripts' options.")
    ] = None,
    scheduled: Annotated[bool, typer.Option("--scheduled", hidden=True)] = False,
    parent: Annotated[int | None, typer.Option("--parent", hidden=True)] = None,
    as_json: Json = False,
) -> None:
    """Sync NOSTR events with the constellation.

    Fetches what the peers' relays have of our people and ours lacks. Ctrl-C stops in order; what came is kept.
    """
    if context.invoked_subcommand is not None:
        return
    if stand_in is not None:
        raise UsageError("--as must be the first word", "for example: dragon sync --as backfill --days 1")
    if direction not in (None, "down", "both"):
        raise UsageError(f"--dir {direction}: neither down nor both", "for example --dir both")
    if days is not None and not 0 <= days <= MOST_DAYS:  # no number (nan) is within no bounds
        raise UsageError(f"--days {days:g}: not a number of days", f"0 (everything) to {MOST_DAYS}")
    if timeout is not None and not 1 <= timeout <= LONGEST:
        raise UsageError(f"--timeout {timeout:g}: not a number of seconds", f"1 to {LONGEST}")
    if follow and (dry_run or verify):
        raise UsageError(
            f"--follow stores what appears, {'--dry-run' if dry_run else '--verify'} stores nothing", "leave one out"
        )
    home = Home.locate()
    if show_hex or stats:
        from dragon.cli import sync_show

        show = sync_show.show_hex if show_hex else sync_show.show_stats
        raise typer.Exit(show(home, as_json=as_json))
    from dragon.cli import sync_run

    asked = sync_run.Asked(
        days=days, kinds=_kinds(kinds), dms=not no_dms, profiles=not no_profiles,
        both=None if direction is None else direction == "both", dry_run=dry_run, verify=verify, follow=follow,
        timeout=timeout, scheduled=scheduled,
    )  # fmt: skip
    raise typer.Exit(sync_run.run(home, asked, parent=parent, verbose=verbose, as_json=as_json))


@app.command()
def history(
    run: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A number (1 is the latest) or a name.")] = None,
    html: Annotated[bool, typer.Option("--html", help="Print where its page is.")] = False,
    as_json: Json = False,
) -> None:
    """List the last runs, or show one."""
    from dragon.cli.sync_show import show_history

    show_history(Home.locate(), run, html=html, as_json=as_json)


@app.command()
def status(as_json: Json = False) -> None:
    """Show the run that goes on, and the last one."""
    from dragon.cli.sync_show import show_status

    show_status(Home.locate(), as_json=as_json)


@app.command()
def check(as_json: Json = False) -> None:
    """Check what a run needs.

    Says how to get what is missing.
    """
    from dragon.cli.sync_show import show_needs

    raise typer.Exit(show_needs(Home.locate(), as_json=as_json))


@app.command(
    "as",
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
def stand_in_for(words: Annotated[list[str] | None, typer.Argument(metavar="backfill|trigger [OPTION]...")] = None) -> None:
    """Stand in for a station's script."""
    from dragon.cli.sync_standin import obey

    raise typer.Exit(obey(Home.locate(), words or []))


def _kinds(words: list[str] | None) -> tuple[int, ...] | None:
    """Return the kinds of `--kinds 0,1 --kinds 3`. Raises `UsageError`."""
    if not words:
        return None
    numbers = [number for word in words for number in word.replace(",", " ").split()]
    wrong = [
        number
        for number in numbers
        if not (number.isascii() and number.isdecimal() and len(number) <= 5 and int(number) <= 65_535)
    ]
    if wrong or not numbers or len(numbers) > MOST_KINDS:
        raise UsageError(f"--kinds {wrong[0] if wrong else ''}: not kinds of events", "numbers up to 65535: --kinds 0,1,3")
    return tuple(dict.fromkeys(int(number) for number in numbers))

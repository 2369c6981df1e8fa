"""`dragon sync --as backfill …` and `--as trigger …`: the options and exit codes of the station scripts that it replaces.

    backfill  0 every peer was read (or nothing was to be done: already running, a dry run), 1 no peers, no strfry, some failed
    trigger   0 done or already running, 1 not

Source: ASTROPORT facts 4.1, 4.8. What is asked twice counts once, the last `--days` counts, and `--stats`, `--show-hex` and
`--help` start nothing, whatever else is asked.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dragon.cli import sync_run, sync_show
from dragon.cli.logs import set_up_logging
from dragon.cli.output import print_line
from dragon.cli.sync_progress import say
from dragon.config import load_settings
from dragon.constellation.figures import size
from dragon.constellation.journal import KEPT
from dragon.constellation.kinds import DIRECT_MESSAGE, STATION_KINDS
from dragon.constellation.lock import RunGoesOn
from dragon.constellation.marks import ending
from dragon.constellation.places import Places
from dragon.errors import DragonError
from dragon.home import Home
from dragon.text import clean

USAGE = """\
Usage: dragon sync --as backfill [OPTION]...
  --days N        how many days back (1; 0 is everything)
  --DRYRUN        show what would be asked, and of whom
  --verbose, -v   tell more
  --no-dms        leave out direct messages
  --verify        as always here: every event is verified before it is stored
  --no-profiles   do not fetch missing profiles
  --show-hex      print the public keys, and end
  --stats         show whom and what is synced, and end
  --help, -h      this"""

MOST_DAYS = 36_500

Mode = Literal["backfill", "trigger"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a backfill was asked for. `only` is an answer that starts no sync: `help`, `stats`, `hex`."""

    days: int = 1
    dry_run: bool = False
    verbose: bool = False
    dms: bool = True
    profiles: bool = True
    only: str = ""


class Unknown(ValueError):
    """A word that the script would not take."""


def parse(words: Sequence[str]) -> Options:
    """Return what `words` ask for; `Unknown` for a word that no option is. All are read before anything is done."""
    options, rest = Options(), list(words)
    while rest:
        word = rest.pop(0)
        match word:
            case "--days":
                options = replace(options, days=_days(rest.pop(0) if rest else ""))
            case "--DRYRUN":
                options = replace(options, dry_run=True)
            case "--verbose" | "-v":
                options = replace(options, verbose=True)
            case "--no-dms":
                options = replace(options, dms=False)
            case "--no-profiles":
                options = replace(options, profiles=False)
            case "--verify":
                pass  # every event is verified, always
            case "--show-hex" | "--stats" | "--help" | "-h":
                options = replace(options, only=options.only or {"--show-hex": "hex", "--stats": "stats"}.get(word, "help"))
            case _:
                raise Unknown(f"Unknown option: {word}")
    return options


def obey(home: Home, words: Sequence[str]) -> int:
    """Do what the script that is named first would do with the other words, and return its exit code."""
    script, rest = (words[0], list(words[1:])) if words else ("", [])
    try:
        match script:
            case "backfill":
                return _backfill(home, parse(rest))
            case "trigger":
                return _log_stats(home) if "--log-stats" in rest else _backfill(home, Options(verbose=True), "trigger")
    except RunGoesOn as error:
        return _said(f"already running, nothing to do: {error}", 0)
    except DragonError as error:
        return _said(str(error), 1)
    except Unknown as error:
        return _said(f"{error}\n{USAGE}", 1)
    return _said("dragon sync --as: neither backfill nor trigger", 2)


def _backfill(home: Home, options: Options, mode: Mode = "backfill") -> int:
    if options.only == "help":
        print(USAGE)
        return 0
    if options.only == "hex":
        return sync_show.show_hex(home, as_json=False)
    if options.only == "stats":
        return sync_show.show_stats(home, as_json=False)
    set_up_logging(1 if options.verbose else -1)
    settings, node = load_settings(home).constellation, sync_show.control(home)
    facts = node.constellation()
    places = sync_show.places_of(home, facts)
    if (lack := _lack(places, facts["local"]["tool"])) or not facts["peers"]:
        return _said(lack or "No constellation peers found", 1)
    wish = sync_run.Asked(days=float(options.days), kinds=STATION_KINDS, dms=options.dms, profiles=options.profiles).wish(
        settings, places
    )
    if options.dry_run:
        return _plan(options, [str(peer["alias"]) for peer in facts["peers"]], facts["authors"]["total"], wish.kinds)
    wish = replace(wish, mode=mode, drop_visitors=True)
    report = sync_run.perform(node, facts, places, settings, wish, verbose=options.verbose)
    if options.verbose:
        sync_show.show(report, places.runs / f"{report['run']}.html")
    else:  # the script was not silent about these either
        for level, text in ending(report):
            if level != "INFO":
                say(f"[{level}] {text}")
    return 0 if report["state"] in _DONE[mode] else 1


_DONE: Mapping[Mode, tuple[str, ...]] = {"backfill": ("ok",), "trigger": ("ok", "partial")}
"""Ends of a run with which the script would be content: the trigger looks whether it ended, not how every peer did."""


def _lack(places: Places, tool: str | None) -> str:
    """Return what a station's script would miss; "" where nothing is missing, or there is no station."""
    if places.zen is None:
        return ""
    if not (places.zen / "Astroport.ONE" / "tools" / "my.sh").is_file():
        return f"needs {places.zen}/Astroport.ONE"
    return "" if tool else f"strfry is missing or cannot be run: {places.relay_program}"


def _plan(options: Options, peers: Sequence[str], authors: int, kinds: Sequence[int]) -> int:
    print_line("DRY RUN: nothing is fetched")
    print_line(f"would ask {len(peers)} peers: {', '.join(peers)}")
    print_line(f"for {len(kinds)} kinds of events of {authors} public keys, {options.days or 'all'} days back")
    print_line(f"direct messages (kind {DIRECT_MESSAGE}) {'included' if options.dms else 'left out'}; every event verified")
    return 0


def _log_stats(home: Home) -> int:
    """Print how large the station's logs are."""
    from dragon.astroport.zen import Zen

    zen = Zen.locate(os.environ)
    places = Places(home.root, zen.root if zen.is_station else None)
    for path in (places.trigger_log, places.backfill_log, places.error_log):
        if path is None:
            continue
        for name in (path, *(path.with_name(f"{path.name}.{number}") for number in range(1, KEPT + 1))):
            if name.is_file():
                print_line(f"{name}: {size(name.stat().st_size)}, {_lines(name)} lines")
            elif name == path:
                print_line(f"{name}: not found")
    return 0


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _days(word: str) -> int:
    if not (word.isascii() and word.isdecimal() and len(word) <= 5 and int(word) <= MOST_DAYS):
        raise Unknown(f"--days {word}: not a number of days")
    return int(word)


def _said(text: str, code: int) -> int:
    for line in text.splitlines():
        print(clean(line, 2000), file=sys.stderr)
    return code

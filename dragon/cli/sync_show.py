"""What `dragon sync` shows without starting anything: needs, keys, counts, the run that goes on, and past ones."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragon.cli import sync_tables as tables
from dragon.cli.output import note, print_json, print_line, print_table
from dragon.constellation.history import History
from dragon.constellation.places import Places
from dragon.constellation.status import StatusFile
from dragon.errors import LocalError
from dragon.home import Home
from dragon.text import clean

if TYPE_CHECKING:
    from dragon.client import Control

Document = dict[str, Any]


def show(report: Document, page: Path) -> None:
    print_table(tables.report(report))
    print_line("")
    print_table(tables.peers(report))
    note(f"report: {page}")


def show_needs(home: Home, *, as_json: bool) -> int:
    """Show every need; return 0 when a run could start, 3 without a node, else 1."""
    from dragon.constellation.prerequisites import NO_NODE, missing, needs, no_run
    from dragon.errors import NotRunning

    try:
        facts = control(home).constellation()
    except NotRunning as error:
        found, code = [NO_NODE, no_run(Places(home.root).locks)], error.exit_code
    else:
        found = asyncio.run(needs(facts, places_of(home, facts)))
        code = int(bool(missing(found)))
    documents = [need.document() for need in found]
    print_json(documents) if as_json else print_table(tables.needs(documents))
    return code


def show_hex(home: Home, *, as_json: bool) -> int:
    """Print the keys whose events are kept, and nothing else."""
    keys = control(home).constellation()["hexes"]
    if as_json:
        print_json(keys)
    else:
        sys.stdout.write("".join(f"{clean(key)}\n" for key in keys))
    return 0


def show_stats(home: Home, *, as_json: bool) -> int:
    """Show whom and what a sync concerns, and how many events our relay holds."""
    from dragon.constellation.counting import count_events

    facts = control(home).constellation()
    local = facts["local"]
    events = asyncio.run(count_events(local["url"], Path(local["tool"]) if local["tool"] else None))
    document = {name: facts[name] for name in ("swarm", "uplanet", "authors", "peers", "local")}
    document |= {"events": events, "last": History(Places(home.root).runs).last()}
    print_json(document) if as_json else print_table(tables.stats(document))
    return 0


def show_status(home: Home, *, as_json: bool) -> None:
    places = Places(home.root)
    going, following = StatusFile(places.status).read(), StatusFile(places.follow_status).read()
    last = History(places.runs).last()
    state = "running" if going else "following" if following else "idle"
    document = {"state": state, "run": going, "follow": following, "last": brief(last) if last else None}
    print_json(document) if as_json else print_table(tables.status(document))


def show_history(home: Home, run: str | None, *, html: bool, as_json: bool) -> None:
    """List the runs, or show one. Raises `UsageError` for a run that there is not."""
    past = History(Places(home.root).runs)
    if run is None and not html:
        documents = [brief(document) for name in past.runs() if (document := past.read(name)) is not None]
        for document in documents:
            document["page"] = str(past.page_of(document["run"]))
        return print_json(documents) if as_json else print_table(tables.history(documents))
    name = past.find(run or "1")
    if html:
        page = str(past.page_of(name))
        return print_json({"run": name, "page": page}) if as_json else print_line(page)
    report = past.read(name)
    if report is None:
        raise LocalError(f"the report of {name} cannot be read", f"it lies in {past.page_of(name).parent}")
    return print_json(report) if as_json else show(report, past.page_of(name))


def brief(report: Document) -> Document:
    """Return a report without what only matters in one: its peers, its timeline."""
    return {name: value for name, value in report.items() if name not in ("peers", "timeline", "kinds")}


def control(home: Home) -> Control:
    """Return the way to the node at `home`; what it needs is loaded only now."""
    from dragon.client import Control

    return Control(home)


def places_of(home: Home, facts: Mapping[str, Any]) -> Places:
    """Return where the sync's files lie, by what the node says of its constellation."""
    return Places(home.root, Path(facts["station"]["zen"]) if facts["station"] else None)

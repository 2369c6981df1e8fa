"""`dragon astroport takeover`, `release` and `status`: steps shown, asked about, done, told."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

from dragon.astroport import bash_listeners
from dragon.astroport.bash_parts import bash_parts
from dragon.astroport.identity import on_station
from dragon.astroport.ledger import Ledger
from dragon.astroport.steps import Step
from dragon.astroport.takeover import Machine, Options, Publisher, Told, ledger_of, release, state_of, steps_of
from dragon.astroport.takeover import take_over as do
from dragon.astroport.unit import UNIT, Manager
from dragon.astroport.zen import Zen
from dragon.cli import output
from dragon.cli.executable import executable
from dragon.client import Control
from dragon.config import Settings, load_settings
from dragon.errors import DragonError, LocalError, NotRunning, UsageError
from dragon.home import Home
from dragon.kubo.engine import is_managed
from dragon.probe import catalogue_of

PUBLISHERS = ("astroport", "dragon")


def take_over(
    *, system: bool | None, publisher: str | None, nostr: Path | None, dry_run: bool, yes: bool, as_json: bool
) -> int:
    """Show the steps, ask, and do them; return the exit code."""
    zen, home = Zen.locate(os.environ), Home.locate()
    if not zen.is_station:
        raise LocalError(f"{zen.root} is no Astroport station", "install Astroport.ONE first, or set ZEN_HOME")
    if zen.root.stat().st_uid != os.geteuid():
        raise LocalError(f"{zen.root} belongs to another user", "run this as the user who keeps the station, not with sudo")
    home.prepare()
    settings = on_station(load_settings(home), os.environ)
    _of_the_station(settings, home)
    ledger = ledger_of(home)
    options = _options(ledger, settings, system=system, publisher=publisher, nostr=nostr)
    _one_publisher(zen, options)
    steps = steps_of(_machine(zen, home, settings), ledger, options)
    if dry_run:
        return _show(steps, as_json=as_json)
    if not _agreed(steps, yes=yes, as_json=as_json, question="Do this?"):
        return 1
    end = "Dragon has taken over. Back again: dragon astroport release"
    code = _tell(do(steps, ledger, options), ledger, as_json=as_json, end=end)
    if not as_json and not (_node(home) or {}).get("offering", True):
        output.print_line("Offers stay withdrawn, as `dragon astroport stop` asked: `dragon astroport start` makes them")
    return code


def give_back(*, dry_run: bool, yes: bool, as_json: bool) -> int:
    """Show what goes back, ask, and put it back; return the exit code."""
    zen, home = Zen.locate(os.environ), Home.locate()
    ledger = ledger_of(home)
    if not ledger.exists:
        output.print_json([]) if as_json else output.print_line("nothing was taken over")
        return 0
    machine = _machine(zen, home, on_station(load_settings(home), os.environ))
    steps = steps_of(machine, ledger, Options.of(ledger.options))
    if dry_run:
        if machine.manager(Options.of(ledger.options).scope).knows(UNIT):
            output.print_line(f"stop      {UNIT}")
        for path in reversed(ledger.paths()):
            output.print_line(f"put back  {path}")
        return 0
    if not _agreed((), yes=yes, as_json=as_json, question="Put the Bash DRAGON back?"):
        return 1
    end = f"The Bash DRAGON is back. It publishes at its next hourly run, or now: bash {zen.dragon_script} ON"
    return _tell(release(steps, ledger), ledger, as_json=as_json, end=end)


def show(*, as_json: bool) -> None:
    """Print who does what on this station."""
    zen, home = Zen.locate(os.environ), Home.locate()
    settings = load_settings(home)
    ledger = ledger_of(home)
    machine = _machine(zen, home, on_station(settings, os.environ))
    options = Options.of(ledger.options) if ledger.exists else Options(publisher=_configured(settings))
    steps = steps_of(machine, ledger, options) if zen.is_station else ()
    node = _node(home)
    parts = bash_parts(zen, os.environ)
    done = [_is_done(step) for step in steps]
    document = {
        "station": zen.is_station,
        "zen": str(zen.root),
        "enabled": settings.astroport.enabled,
        "node": {"running": node is not None, "offering": None if node is None else node.get("offering")},
        "publisher": settings.registry.publisher,
        "publishes": _who_publishes(settings, zen, parts.publishes, node is not None),
        "takeover": {
            "state": state_of(done, ledger),
            **({"options": ledger.options} if ledger.exists else {}),
            "steps": [{"name": step.name, "why": step.why, "done": known} for step, known in zip(steps, done, strict=True)],
        },
        "bash": parts.document(),
    }
    if as_json:
        return output.print_json(document)
    return output.print_table(_rows(document))


def _options(ledger: Ledger, settings: Settings, *, system: bool | None, publisher: str | None, nostr: Path | None) -> Options:
    """Return what was asked; what was not is as in the takeover that is in place, else as usual."""
    if publisher is not None and publisher not in PUBLISHERS:
        raise UsageError(f"--publisher {publisher}: expected astroport or dragon", "see docs/astroport.md")
    former = Options.of(ledger.options) if ledger.exists else Options(publisher=_configured(settings))
    return Options(
        former.scope if system is None else "system" if system else "user",
        former.publisher if publisher is None else cast(Publisher, publisher),
        nostr or former.nostr,
    )


def _of_the_station(settings: Settings, home: Home) -> None:
    """Refuse to lead a station to a node that would be none of it: it would offer nothing, or as somebody else."""
    if settings.astroport.enabled == "off":
        raise LocalError(
            '[astroport] enabled is "off": this node lays nothing on a station', f'set it to "auto" in {home.config_file}'
        )
    if is_managed(settings):
        raise LocalError(
            "this node has a Kubo of its own, so another id than the station",
            f"leave managed, binary and swarm_key out of [kubo], and isolated out of [node], in {home.config_file}",
        )


def _configured(settings: Settings) -> Publisher:
    return "dragon" if settings.registry.publisher == "dragon" else "astroport"


def _one_publisher(zen: Zen, options: Options) -> None:
    """Refuse a second publisher on the node's IPNS name."""
    if options.publisher == "dragon" and bash_parts(zen, os.environ).publishes:
        raise LocalError(
            "the station's _12345.sh runs and publishes the same IPNS name",
            "stop it first (sudo systemctl disable --now astroport), or take over with --publisher astroport",
        )


def _machine(zen: Zen, home: Home, settings: Settings) -> Machine:
    slugs = tuple(entry.slug for entry in catalogue_of(settings.catalogue).entries())
    command = executable()
    if os.environ.get("DRAGON_HOME"):  # scripts that cron starts do not have it
        command = ("/usr/bin/env", f"DRAGON_HOME={home.root}", *command)

    def listeners(closing: bool) -> list[str]:
        return asyncio.run(_bash_listeners(home, settings, slugs, closing=closing))

    return Machine(
        zen=zen, home=home, command=command, slugs=slugs, manager=Manager, answers=lambda: _node(home) is not None,
        bash_listeners=lambda: listeners(False), close_bash_listeners=lambda: _nothing(listeners(True)),
        keeps_ssh_keys=settings.astroport.authorized_keys, ipfs_path=os.environ.get("IPFS_PATH", ""),
    )  # fmt: skip


async def _bash_listeners(home: Home, settings: Settings, slugs: Iterable[str], *, closing: bool) -> list[str]:
    from dragon.kubo.client import KuboClient

    node = await asyncio.to_thread(Control(home).status)
    async with KuboClient(node["kubo"]["api"], settings.kubo.auth) as kubo:
        found = await bash_listeners.left(kubo, node["id"], list(slugs), home.tunnels_journal)
        if closing:
            await bash_listeners.close(kubo, found)
        return [entry.protocol for entry in found]


def _nothing(_: object) -> None:
    return None


def _node(home: Home) -> dict[str, Any] | None:
    """Return what the running node says, None where none answers."""
    try:
        return Control(home).status()
    except NotRunning:
        return None


def _agreed(steps: Iterable[Step], *, yes: bool, as_json: bool, question: str) -> bool:
    if yes:
        return True
    if as_json or not sys.stdin.isatty():
        raise UsageError("this changes the station, and nobody can be asked", "--yes does it, --dry-run shows it")
    _show(steps, as_json=False)
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes", "o", "oui")


def _show(steps: Iterable[Step], *, as_json: bool) -> int:
    shown = [(step, _is_done(step)) for step in steps]
    if as_json:
        output.print_json([{"name": one.name, "why": one.why, "done": done, "does": _does(one)} for one, done in shown])
        return 0
    for number, (step, done) in enumerate(shown, 1):
        output.print_line(f"{number}. {step.name}: {step.why}{' (done already)' if done else ''}")
        for line in () if done else _does(step):
            output.print_line(f"     {line}")
    return 0


def _does(step: Step) -> list[str]:
    try:
        return step.shows()
    except DragonError as error:
        return [f"(cannot tell now: {error})"]


def _is_done(step: Step) -> bool | None:
    """None: it cannot be told now (Kubo does not answer)."""
    try:
        return step.is_done()
    except DragonError:
        return None


def _tell(told: Iterable[Told], ledger: Ledger, *, as_json: bool, end: str) -> int:
    steps = []
    for one in told:
        steps.append({"step": one.step, "outcome": one.outcome, "notes": list(one.notes)})
        if not as_json:
            output.print_line(f"{one.outcome:8}  {one.step}")
            for note in one.notes:
                output.print_line(f"          {note}")
    if as_json:
        output.print_json(steps)
    else:
        output.print_line(ledger.notice or end)
    return 0


def _who_publishes(settings: Settings, zen: Zen, bash: bool, node: bool) -> str:
    """Return who writes the node's IPNS name: `dragon`, `astroport` (the station's _12345.sh), both (wrong) or `nobody`."""
    wishes = settings.registry.publisher
    ours = node and (wishes == "dragon" or (wishes == "auto" and not zen.is_station))
    return {(True, True): "both", (True, False): "dragon", (False, True): "astroport"}.get((ours, bash), "nobody")


def _rows(document: dict[str, Any]) -> output.Table:
    takeover, words = document["takeover"], {True: "done", False: "not done", None: "unknown"}
    rows = [
        ("station", document["zen"] if document["station"] else f"none ({document['zen']})"),
        ("node", "not running" if not document["node"]["running"] else "offers" if document["node"]["offering"] else "silent"),
        ("publishes", f"{document['publishes']}  ([registry] publisher = {document['publisher']})"),
        ("takeover", takeover["state"]),
        *((f"  {step['name']}", words[step["done"]]) for step in takeover["steps"]),
        *((f"bash: {name}", value if isinstance(value, str) else _listed(value)) for name, value in document["bash"].items()),
    ]
    return output.Table(("", ""), [[output.Cell(name), output.Cell(value)] for name, value in rows], "")


def _listed(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, (list, tuple)) else str(value)

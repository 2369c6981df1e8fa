"""From the Bash DRAGON to Dragon, and back: which steps that takes on a station, doing them, and taking them back.

The order is chosen so that at no moment nobody offers: first the node stands, then the Bash side is led to it. Going back is
the same in reverse. Every step may be repeated, so what was interrupted is simply asked for again.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dragon.astroport import shims
from dragon.astroport.ledger import Ledger
from dragon.astroport.steps import BashListeners, ConfigKey, Files, Service, Step, Unit, Wanted, put_back
from dragon.astroport.unit import UNIT, Manager, Scope, filled, source, values_for
from dragon.astroport.zen import Zen
from dragon.errors import LocalError
from dragon.home import Home

EXECUTABLE = 0o755
UNIT_MODE = 0o644

Publisher = Literal["astroport", "dragon"]
State = Literal["none", "partial", "complete"]


@dataclass(frozen=True, slots=True)
class Options:
    """What a takeover was asked with. `nostr`: the folder of NIP-101's sync scripts, None to leave those alone."""

    scope: Scope = "user"
    publisher: Publisher = "astroport"
    nostr: Path | None = None

    def words(self) -> dict[str, str]:
        return {"scope": self.scope, "publisher": self.publisher, "nostr": str(self.nostr or "")}

    @classmethod
    def of(cls, words: Mapping[str, str]) -> Options:
        """Return what a ledger remembers."""
        return cls(
            "system" if words.get("scope") == "system" else "user",
            "dragon" if words.get("publisher") == "dragon" else "astroport",
            Path(words["nostr"]) if words.get("nostr") else None,
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """What a takeover needs to know of the world. `command`: how this dragon is called from anywhere."""

    zen: Zen
    home: Home
    command: tuple[str, ...]
    slugs: tuple[str, ...]
    manager: Callable[[Scope], Manager]
    answers: Callable[[], bool]
    bash_listeners: Callable[[], list[str]]
    close_bash_listeners: Callable[[], None]
    keeps_ssh_keys: bool = False
    ipfs_path: str = ""
    """IPFS_PATH, where the station's Kubo is not in ~/.ipfs."""


@dataclass(frozen=True, slots=True)
class Told:
    """What became of one step. `notes`: what a person must know or do."""

    step: str
    outcome: Literal["done", "already", "undone"]
    notes: tuple[str, ...] = ()


def ledger_of(home: Home) -> Ledger:
    return Ledger(home.root / "astroport" / "takeover")


def steps_of(machine: Machine, ledger: Ledger, options: Options) -> tuple[Step, ...]:
    """Return the steps in the order in which they are done. Raises `LocalError` where a unit cannot spell a path."""
    zen, home = machine.zen, machine.home
    manager = machine.manager(options.scope)
    user, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    unit = filled(
        source(options.scope),
        values_for(
            options.scope, command=machine.command, dragon_home=home.root, zen=zen.root, user=user, group=group,
            ssh=machine.keeps_ssh_keys, ipfs=machine.ipfs_path,
        ),
    )  # fmt: skip
    unit_file = Wanted(manager.units / UNIT, unit.encode(), UNIT_MODE)
    steps: list[Step] = [
        ConfigKey(
            "publisher", _why_publisher(options.publisher), ledger, home.config_file, "registry", "publisher", options.publisher
        ),
        Unit(
            "unit", "systemd starts the node with the machine, and again should it fail", ledger, manager, unit_file,
            home.root / "astroport" / UNIT,
        ),
        Service("service", "the node runs before anything is led to it", manager, UNIT, user, machine.answers),
        BashListeners(
            "listeners", "what the Bash DRAGON opened makes way for listeners with a gate", machine.bash_listeners,
            machine.close_bash_listeners,
        ),
    ]  # fmt: skip
    if scripts := _wrapper(machine):
        steps.append(
            Files("dragon-script", "the station's scripts that stop and start the Bash DRAGON reach Dragon", ledger, scripts)
        )
    if managers := _managers(machine):
        steps.append(Files("connection-managers", "the *.me.sh call `dragon me`, under the same names", ledger, managers))
    if options.nostr is not None:
        wanted = _wanted(shims.sync_scripts(options.nostr, machine.command))
        steps.append(Files("sync-scripts", "the NOSTR sync scripts call `dragon sync`", ledger, wanted))
    return tuple(steps)


def take_over(steps: Sequence[Step], ledger: Ledger, options: Options) -> Iterator[Told]:
    """Do what is not done yet, and tell each step as it is. Raises `LocalError`; what was done stays, and is told to go on."""
    with ledger.held():
        if ledger.exists and ledger.options != options.words():
            former = " ".join(f"{key}={value}" for key, value in ledger.options.items() if value)
            raise LocalError(
                f"a takeover with other wishes is in place ({former})", "release it first: dragon astroport release"
            )
        ledger.begin(options.words())
        for step in steps:
            if step.is_done():
                yield Told(step.name, "already")
                continue
            try:
                notes = step.do()
            except LocalError as error:
                hint = f"{error.hint}; then run this again to go on, or `dragon astroport release` to go back"
                raise type(error)(f"{step.name}: {error}", hint) from error
            yield Told(step.name, "done", tuple(notes))


def release(steps: Sequence[Step], ledger: Ledger) -> Iterator[Told]:
    """Take back every step, the last one first, and tell each. Raises `LocalError`; it may be asked for again then."""
    with ledger.held():
        if not ledger.exists:
            return
        for step in reversed(steps):
            yield Told(step.name, "undone", tuple(step.undo()))
        notes = [note for path in reversed(ledger.paths()) for note in put_back(ledger, path)]
        if notes:
            yield Told("other files", "undone", tuple(notes))
        ledger.end()


def state_of(done: Iterable[bool | None], ledger: Ledger) -> State:
    """Return how far a takeover is whose steps are `done`; None means that it cannot be told now."""
    if not ledger.exists:
        return "none"
    return "partial" if False in list(done) else "complete"


def _why_publisher(publisher: Publisher) -> str:
    if publisher == "dragon":
        return "Dragon publishes the station's directory under its IPNS name, and serves port 12345"
    return "the station's _12345.sh goes on publishing the directory, with the files that Dragon lays there"


def _wrapper(machine: Machine) -> tuple[Wanted, ...]:
    script = machine.zen.dragon_script
    if not script.exists():
        return ()
    return (Wanted(script, shims.wrapper_text(machine.command).encode(), EXECUTABLE),)


def _managers(machine: Machine) -> tuple[Wanted, ...]:
    """The managers that the station has and whose service we know; others stay as they are."""
    folder = machine.zen.services
    return tuple(
        Wanted(folder / name, shims.text_of(slug, machine.command).encode(), shims.EXECUTABLE)
        for name, slug in sorted(shims.files(machine.slugs).items())
        if (folder / name).exists()
    )


def _wanted(files: Mapping[Path, str]) -> tuple[Wanted, ...]:
    return tuple(Wanted(path, text.encode(), EXECUTABLE) for path, text in files.items())

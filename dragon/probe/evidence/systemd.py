"""Units of systemd, by the word of `systemctl is-active`: of the system's manager and of this user's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

from dragon.probe.evidence.sighting import CannotTell, Sighting

Scope = Literal["system", "user"]
SCOPES: Final[tuple[Scope, ...]] = ("system", "user")

RUNNING: Final = frozenset({"active", "reloading", "refreshing"})
"""States in which a unit's service runs (systemctl(1), `is-active`; org.freedesktop.systemd1 `ActiveState`)."""

STATES: Final = RUNNING | {"inactive", "failed", "activating", "deactivating", "maintenance", "unknown"}


async def ask(scope: Scope, units: Sequence[str], timeout: float) -> dict[str, str]:
    """Return unit → state by one manager. Raises `CannotTell` when there is no systemctl, no such manager, or no answer."""
    command = ["systemctl", *(["--user"] if scope == "user" else []), "is-active", "--", *units]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=await asyncio.to_thread(environment, os.environ, scope),
        )
    except FileNotFoundError:
        raise CannotTell("there is no systemctl on this machine") from None
    except OSError as error:
        raise CannotTell(f"systemctl cannot be run: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout):
            output, errors = await process.communicate()
    except TimeoutError:
        raise CannotTell(f"systemctl gave no answer within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return parse(units, output.decode("utf-8", "replace"), errors.decode("utf-8", "replace"))


def parse(units: Sequence[str], output: str, errors: str) -> dict[str, str]:
    """Return unit → state from what `systemctl is-active` printed, one word a line in the order of the units.

    Raises `CannotTell` when that is not an answer (no manager to talk to).
    """
    words = output.split()
    if len(words) != len(units) or not STATES.issuperset(words):
        why = next((line.strip() for line in errors.splitlines() if line.strip()), "systemctl did not answer")
        raise CannotTell(why)
    return dict(zip(units, words, strict=True))


def sight(unit: str, answers: Mapping[Scope, Mapping[str, str] | CannotTell]) -> Sighting:
    """Return whether `unit` runs under any manager; "cannot tell" only when none could be asked."""
    states: list[str] = []
    troubles: list[str] = []
    for scope, answer in answers.items():
        if isinstance(answer, CannotTell):
            troubles.append(str(answer))
        elif answer.get(unit) in RUNNING:
            return Sighting(True, f"unit {unit} is {answer[unit]} ({scope} manager)")
        else:
            states.append(f"{answer.get(unit, 'unknown')} ({scope} manager)")
    if states:
        return Sighting(False, f"unit {unit} is {', '.join(states)}")
    return Sighting(None, f"cannot tell whether unit {unit} runs: {'; '.join(dict.fromkeys(troubles))}")


def environment(environ: Mapping[str, str], scope: Scope) -> dict[str, str]:
    """Return the environment for systemctl: plain words, and the user manager's folder where only the variable is missing.

    A node that runs as a system service of this user has no XDG_RUNTIME_DIR, though the user's manager may run (linger).
    """
    chosen = {**environ, "LC_ALL": "C.UTF-8"}
    if scope == "user" and "XDG_RUNTIME_DIR" not in chosen and (folder := Path(f"/run/user/{os.getuid()}")).is_dir():
        chosen["XDG_RUNTIME_DIR"] = str(folder)
    return chosen

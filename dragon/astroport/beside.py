"""Beside the Bash DRAGON: waiting for it where the operator wants that, and telling who does what on this station.

The station's `_12345.sh` starts the Bash DRAGON only while `ipfs p2p ls` is empty, and its STOP closes everything there. So
nothing here is fought over: a listener of the other that leads to the right port is offered as it is, and what STOP closed is
opened again by the tunnels' own reconcile.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from dragon.astroport.scripts_running import DRAGON, PUBLISHER, Script, running_scripts
from dragon.clock import Clock
from dragon.errors import KuboError
from dragon.kubo.types import Kubo, P2PEntry

log = logging.getLogger(__name__)

FIRST_BOUND: Final = 600.0
"""Seconds for which the Bash DRAGON may go first: `_12345.sh` comes round every 300, and starts it in its second round."""

LOOK: Final = 1.0
"""Seconds between two looks at `p2p ls` while it is waited for."""


async def after_the_scripts(node_id: str, kubo: Kubo, clock: Clock, running: Callable[[], Sequence[Script]]) -> None:
    """Return when the Bash DRAGON has opened its listeners, or will not: it does not run, or took longer than the bound.

    Any listener of ours would keep it from starting: so nothing may be opened before.
    """
    deadline = clock.monotonic() + FIRST_BOUND
    told = False
    while clock.monotonic() < deadline:
        try:
            listeners = [each for each in await kubo.p2p_ls() if each.is_listener]
        except KuboError:
            listeners = []
        scripts = {script.name for script in await asyncio.to_thread(running)}
        if services(listeners, node_id) and DRAGON not in scripts:
            return
        if not scripts & {DRAGON, PUBLISHER}:
            log.warning("bash_first: neither %s nor %s runs here, so nothing is waited for", PUBLISHER, DRAGON)
            return
        if not told:
            told = True
            log.info("bash_first: waiting for the listeners of %s, at most %.0f s", DRAGON, FIRST_BOUND)
        await clock.sleep(LOOK)
    log.warning("bash_first: %s opened nothing within %.0f s", DRAGON, FIRST_BOUND)


def services(entries: Sequence[P2PEntry], node_id: str) -> dict[str, P2PEntry]:
    """Return slug → listener of the services that are open under this node's id, Dragon's own exchange excepted."""
    ending = f"-{node_id}"
    slugs = {
        entry.protocol.removeprefix("/x/").removesuffix(ending): entry
        for entry in entries
        if entry.is_listener and entry.protocol.startswith("/x/") and entry.protocol.endswith(ending)
    }
    return {slug: entry for slug, entry in sorted(slugs.items()) if slug != "dragon"}


def scripts_of(environ: Mapping[str, str]) -> Callable[[], tuple[Script, ...]]:
    """Return a question for the station's running scripts. Root sees those of everybody with its HOME."""
    uid = os.getuid()
    return lambda: running_scripts(environ, uid=uid or None)


def publisher_in_the_way(scripts: Sequence[Script]) -> str:
    """Return why the station's names may not be published by us now, "" when they may."""
    pids = ", ".join(str(script.pid) for script in scripts if script.name == PUBLISHER)
    return f"{PUBLISHER} runs (pid {pids}) and publishes it: never two publishers on one name" if pids else ""

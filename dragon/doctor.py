"""What is well and what is not, with the exact command that mends it: of the machine, the home, Kubo, and a running node.

Everything is a `Finding`; nothing is raised. A part works without a running node (`examine_machine`), the rest asks its rooms.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dragon.config import Settings, load_settings
from dragon.errors import DragonError, KuboError, LocalError
from dragon.home import Home
from dragon.kubo.checks import Finding
from dragon.registry.lease import spell_seconds
from registry_schema.limits import MAX_SKEW_MS

if TYPE_CHECKING:
    from dragon.clock import Clock
    from dragon.connect import Serving
    from dragon.kubo.engine import Engine
    from dragon.probe import Catalogue, Prober
    from dragon.registry.entry import NodeView
    from dragon.registry.service import Registry
    from dragon.registry.view import View
    from dragon.store import Store

LOW_DISK = 256 * 1024 * 1024
"""Bytes free below which the store and Kubo's repo may soon fail to write."""

Document = dict[str, Any]


def document(finding: Finding) -> Document:
    """Return `{name, ok, detail, fix, fixable, essential}`: ready for JSON."""
    return {
        "name": finding.name,
        "ok": finding.ok,
        "detail": finding.detail,
        "fix": finding.fix,
        "fixable": finding.apply is not None and not finding.ok,
        "essential": finding.essential,
    }


async def repair(findings: Sequence[Finding], names: Sequence[str]) -> list[Finding]:
    """Apply the fixes of the findings called `names`; return one finding for each, saying what came of it."""
    done = []
    for finding in findings:
        if finding.name in names and finding.apply is not None and not finding.ok:
            try:
                await finding.apply()
            except DragonError as error:
                done.append(Finding(finding.name, False, f"could not be mended: {error}", finding.fix))
            else:
                done.append(Finding(finding.name, True, f"applied: {finding.fix}"))
    return done


async def examine_machine(home: Home, load: Callable[[], Settings]) -> list[Finding]:
    """Return the findings that need no running node: settings, home, disk, and Kubo (its binary, or an existing daemon)."""
    from dragon.astroport.identity import on_station

    try:
        settings = await asyncio.to_thread(lambda: on_station(load(), os.environ))
    except LocalError as error:
        return [Finding("settings", False, str(error), error.hint)]
    return [
        _settings(home),
        *await asyncio.to_thread(_home, home),
        *await _kubo(settings, home),
    ]


def _home(home: Home) -> list[Finding]:
    try:
        home.prepare()
    except LocalError as error:
        return [Finding("home", False, str(error), error.hint)]
    free = shutil.disk_usage(home.root).free
    return [
        Finding("home", True, str(home.root)),
        Finding(
            "disk", free >= LOW_DISK, f"{free >> 20} MB free", "" if free >= LOW_DISK else "free some space", essential=False
        ),
    ]


def _settings(home: Home) -> Finding:
    return Finding(
        "settings", True, str(home.config_file) if home.config_file.exists() else "defaults: there is no config.toml"
    )


def _file(home: Home) -> Finding:
    """Look at the file again: what a running node was started with may have been spoilt since, and the next start fails."""
    try:
        load_settings(home)
    except LocalError as error:
        return Finding("settings", False, f"the next start fails: {error}", error.hint)
    return _settings(home)


async def _kubo(settings: Settings, home: Home) -> list[Finding]:
    from dragon.astroport.private_network import network_findings
    from dragon.kubo.binary import check, find
    from dragon.kubo.checks import examine
    from dragon.kubo.client import KuboClient
    from dragon.kubo.engine import existing_api, existing_repo, is_managed

    try:
        if is_managed(settings):
            binary = settings.kubo.binary
            found = await asyncio.to_thread(check, binary) if binary else await asyncio.to_thread(find, home)
            where = f"managed; {found}" if found else "managed; the binary is downloaded or built at the first start"
            return [Finding("Kubo binary", True, where)]
        async with KuboClient(existing_api(settings), settings.kubo.auth) as client:
            return [*await examine(client), *await asyncio.to_thread(network_findings, existing_repo(settings))]
    except KuboError as error:
        return [Finding("Kubo", False, str(error), error.hint)]


def swarm_findings(others: Sequence[NodeView], status: Mapping[str, Any], home: Home) -> list[Finding]:
    """Return what is to be said of the swarm: who is there, whose clock is off, and whether we are heard. Pure.

    `others`: the nodes of the view but for ourselves; `status`: as `Registry.status` returns it.
    """
    live = sum(node.state == "live" for node in others)
    skewed = [node for node in others if node.state == "skewed"]
    detail = f"{live} live of {len(others)} nodes known"
    join = 'add a peer: [node] join = ["/ip4/…/p2p/…"] from `dragon status` of another node'
    if skewed:
        detail += "; " + ", ".join(f"{node.alias}: {node.reason}" for node in skewed[:3])
        join = "compare the clocks of both machines with `date -u`"
    found = [Finding("swarm", bool(live), detail, "" if live else join, essential=False)]
    found += [Finding(f"join {address}", False, why, essential=False) for address, why in status["join_problems"].items()]
    if status["clock"]:
        suspect = (
            f"this machine's clock is wrong: those of {len(skewed)} nodes differ from it by more than 5 minutes, of {live} less"
        )
        found.append(Finding("clock", False, suspect, "set this machine's clock (timedatectl set-ntp true)"))
    published = status["published"]
    if (ahead := published["ahead"]) and not skewed:  # where others are off too, it is the clock of now that is wrong
        lies = f"what it says lies {spell_seconds(ahead + MAX_SKEW_MS / 1000)} ahead of this machine's clock"
        detail = f"{lies}: it is behind now, or was ahead then and others refuse this node for {spell_seconds(ahead)} more"
        move = f"if it is right: stop the node, move {home.database} away, start it: it asks the others what they heard last"
        found.append(Finding("publisher", False, detail, f"set the clock (timedatectl set-ntp true); {move}"))
    elif status["mute"]:
        counter = "restart Kubo: its message counter is behind what others saw (its clock stepped back)"
        found.append(Finding("publisher", False, "what it publishes is not heard; it speaks by exchange instead", counter))
    if problem := published["problem"]:
        found.append(Finding("publisher", False, f"not published: {problem}"))
    return found


class Doctor:
    """The doctor of a running node: what its rooms report."""

    def __init__(
        self,
        home: Home,
        *,
        engine: Engine,
        prober: Prober,
        serving: Serving,
        view: View,
        registry: Registry,
        store: Store,
        catalogue: Callable[[], Catalogue],
        clock: Clock,
        further: Sequence[Callable[[], Awaitable[Sequence[Finding]]]] = (),
    ) -> None:
        """`further` ask rooms that not every node has."""
        self._home = home
        self._further = further
        self._catalogue = catalogue
        self._engine = engine
        self._prober = prober
        self._serving = serving
        self._view = view
        self._registry = registry
        self._store = store
        self._clock = clock

    async def examine(self) -> list[Finding]:
        """Return all findings, the machine's first."""
        from dragon.kubo.checks import examine

        return [
            await asyncio.to_thread(_file, self._home),
            *await asyncio.to_thread(_home, self._home),
            *await examine(self._engine.kubo),
            *self._daemon(),
            *self._probing(),
            *self._offering(),
            *await self._swarm(),
            *self._stored(),
            *[finding for ask in self._further for finding in await ask()],
        ]

    async def repair(self, names: Sequence[str]) -> list[Finding]:
        """Apply the fixes of the findings called `names`; return all findings afterwards."""
        done = await repair(await self.examine(), names)
        mended = {finding.name for finding in done}
        return [*done, *(finding for finding in await self.examine() if finding.name not in mended)]

    def _daemon(self) -> list[Finding]:
        managed = self._engine.managed
        if managed is None:
            name = "published" if self._registry.publishes_name else 'left alone unless [registry] publisher = "dragon"'
            return [Finding("daemon", True, f"not ours: its IPNS name is {name}")]
        detail = managed.trouble or f"managed, pid {managed.pid}, {managed.restarts} restarts; log: {self._home.kubo_log}"
        return [Finding("daemon", not managed.trouble, detail, f"see {self._home.kubo_log}" if managed.trouble else "")]

    def _probing(self) -> list[Finding]:
        limits = self._prober.limits()
        root = "" if os.geteuid() == 0 else "run as root, or grant CAP_SYS_PTRACE, to see other users' processes"
        return [Finding("probe", False, limit, root, essential=False) for limit in limits] or [
            Finding("probe", True, "sees every socket, process, unit and container it asks for")
        ]

    def _offering(self) -> list[Finding]:
        problems = [
            Finding(f"offer {slug}", False, why, essential=False) for slug, why in sorted(self._serving.problems().items())
        ]
        offered = ", ".join(offer.slug for offer in self._serving.offers()) or "nothing runs here that the catalogue knows"
        found = [Finding("offers", True, offered), *problems]
        refused = self._prober.latest.refused
        told = {
            slug: why
            for slug, why in refused.items()
            if slug not in self._catalogue() or not self._catalogue().get(slug).private
        }
        return [*found, *(Finding(f"not offered: {slug}", True, why, essential=False) for slug, why in sorted(told.items()))]

    async def _swarm(self) -> list[Finding]:
        at = self._clock.monotonic()
        others = [node for node in self._view.nodes(at) if not node.is_self]
        found = swarm_findings(others, self._registry.status(), self._home)
        try:
            relayed = {peer.node_id for peer in await self._engine.kubo.peers() if peer.relayed}
        except KuboError:
            relayed = set()
        found += [
            Finding(
                f"route to {node.alias}",
                False,
                "reached through a relay only, where tunnels do not work",
                "open a port on either side (UPnP, or forward Kubo's swarm port)",
                essential=False,
            )
            for node in others
            if node.node_id in relayed
        ]
        return found

    def _stored(self) -> list[Finding]:
        if self._store.problem:
            return [Finding("store", False, self._store.problem, "free some space; what was heard is kept in memory meanwhile")]
        return [Finding("store", True, self._store.notice or str(self._home.database))]

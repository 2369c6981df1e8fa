"""What `dragon doctor` says of a station: who does what, and what is in the way, each with the command that mends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from dragon.astroport import beside
from dragon.astroport.private_network import network_findings
from dragon.astroport.scripts_running import PUBLISHER, Script
from dragon.astroport.station import Station
from dragon.connect import Serving
from dragon.errors import KuboError
from dragon.kubo.checks import Finding
from dragon.kubo.types import Kubo

_OURS, _THEIRS = "Dragon", "the station's scripts"


async def station_findings(
    station: Station, serving: Serving, kubo: Kubo, repo: Path | None, lock_problem: str
) -> list[Finding]:
    """Return what is well and what is not; raises nothing. `repo`: of the station's Kubo, None where it is Dragon's own."""
    scripts = await asyncio.to_thread(station.running_scripts)
    found = [
        Finding("station", True, f"{station.zen.root}: as node {station.node_id}"),
        _scripts(scripts),
        await _publisher(station, scripts),
        *_files(station, lock_problem),
        *await _listeners(station, serving, kubo),
        Finding("stations without Dragon", True, station.stations.summary(), essential=False),
    ]
    if repo is not None:
        found += await asyncio.to_thread(network_findings, repo)
    return found


def _scripts(scripts: Sequence[Script]) -> Finding:
    running = ", ".join(f"{script.name} (pid {script.pid})" for script in scripts)
    return Finding("Bash side", True, f"running: {running}" if running else "none of the station's scripts runs")


async def _publisher(station: Station, scripts: Sequence[Script]) -> Finding:
    publication = station.publication
    if publication is None:
        runs = any(script.name == PUBLISHER for script in scripts)
        detail = f"{PUBLISHER} publishes the balise that Dragon lays"
        if runs:
            return Finding("IPNS", True, detail)
        return Finding(
            "IPNS", False, f"{detail}, and does not run: nobody publishes it",
            'start it (systemctl start astroport), or let Dragon do it: [registry] publisher = "dragon"', essential=False,
        )  # fmt: skip
    if why := await station.may_publish():
        return Finding("IPNS", False, why, 'stop it (systemctl stop astroport), or set [registry] publisher = "astroport"')
    names = station.own_name, publication.map
    problems = [f"{name.key}: {name.problem}" for name in names if name.problem]
    if problems:
        return Finding("IPNS", False, "; ".join(problems), "it is tried again; see `dragon doctor` on Kubo", essential=False)
    left = [each for each in publication.left_out.values() if each]
    detail = f"Dragon publishes the balise, and the map of the swarm as {station.upkeep.channel or publication.map.key}"
    return Finding(
        "IPNS", not left, "; ".join([detail, *left]), "remove what does not belong there" if left else "", essential=False
    )


def _files(station: Station, lock_problem: str) -> list[Finding]:
    found = [
        Finding(part, False, problem, f"make {station.zen.tmp} writable for the user that runs Dragon", essential=False)
        for part, problem in sorted(station.upkeep.problems.items())
    ]
    if lock_problem:
        found.append(
            Finding("station lock", False, lock_problem, "give the folder to the user that runs Dragon", essential=False)
        )
    if not found:
        found.append(Finding("station files", True, f"laid below {station.zen.tmp}, and laid again when they are taken away"))
    beacon = station.beacon
    if beacon is not None:
        fix = "end the program that has the port, or set [astroport] beacon_port" if beacon.problem else ""
        served = beacon.problem or f"serves 12345.json on port {beacon.port}"
        found.append(Finding("beacon", not beacon.problem, served, fix, essential=False))
    return found


async def _listeners(station: Station, serving: Serving, kubo: Kubo) -> list[Finding]:
    try:
        standing = beside.services(await kubo.p2p_ls(), station.node_id)
    except KuboError:
        return []  # the daemon's own finding says it
    offered, ungated = {offer.slug for offer in serving.offers()}, set(serving.ungated())
    gated = offered - ungated
    theirs = (standing.keys() | ungated) - gated  # also of services that Dragon does not offer
    told = f"by {_OURS}: {', '.join(sorted(gated)) or 'none'}; by {_THEIRS}: {', '.join(sorted(theirs)) or 'none'}"
    found = [Finding("listeners", True, told)]
    if ungated:
        detail = f"{', '.join(sorted(ungated))}: opened by {_THEIRS} straight to the service, so whoever dials it gets in"
        fix = "; ".join(f"ipfs p2p close --protocol={standing[slug].protocol}" for slug in sorted(ungated & standing.keys()))
        found.append(Finding("gate", True, f"{detail}; to put them behind Dragon's gate: {fix}", essential=False))
    private = station.upkeep.facts.private
    for slug in sorted(standing.keys() & private):
        command = f"ipfs p2p close --protocol={standing[slug].protocol}"
        found.append(Finding(f"private: {slug}", False, "it is private, and a listener of another program serves it", command))
    return found

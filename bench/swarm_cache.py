"""The swarm cache laid: 500 directories × 8 scripts, beside the same files copied by `cp -r` and written by a plain shell loop.

Four passes: everything new, nothing changed, one service less at one node, and the first one after a restart.
What `cp` and the shell do is what a station's scripts would do every time.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.harness import Row
from dragon.astroport.swarm_cache import SwarmCache
from dragon.astroport.zen import Zen
from dragon.probe.catalogue import load_catalogue
from dragon.registry.entry import NodeView
from registry_schema import Manifest, make_offer
from tests.simulator.signers import Signer
from tests.unit.registry_schema.samples import full

NODES, ROUNDS = 500, 5
SLUGS = {
    "comfyui": 8188,
    "dify": 8010,
    "icecast": 8111,
    "ollama": 11434,
    "orpheus": 5005,
    "ssh": 22,
    "strfry": 7777,
    "vane": 3002,
}
NOW = 1_800_000_000.0

SHELL = """
from=$1 to=$2
for folder in "$from"/*/; do
  id=$(basename "$folder"); mkdir -p "$to/$id"
  for file in "$folder"*; do printf '%s\\n' "$(<"$file")" >"$to/$id/${file##*/}"; done
done
"""


def run() -> list[Row]:
    """Measure and return the rows."""
    catalogue = load_catalogue()
    nodes = [view_of(_manifest(Signer(f"n{number}").node_id)) for number in range(NODES)]
    fewer = [view_of(nodes[0].manifest.model_copy(update={"offers": nodes[0].manifest.offers[1:]})), *nodes[1:]]
    times: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="dragon-bench-") as name:
        base = Path(name)
        for number in range(ROUNDS):
            zen = Zen(base / f"zen{number}")
            zen.root.mkdir()
            journal = base / f"journal{number}"
            cache = SwarmCache(zen, "self", journal)
            again = SwarmCache(zen, "self", journal)
            copy, written = base / f"copy{number}", base / f"written{number}"
            works: dict[str, Callable[[], object]] = {
                "laid": lambda cache=cache: cache.lay(nodes, catalogue, NOW),  # type: ignore[misc]
                "unchanged": lambda cache=cache: cache.lay(nodes, catalogue, NOW + 30),  # type: ignore[misc]
                "one changed": lambda cache=cache: cache.lay(fewer, catalogue, NOW + 30),  # type: ignore[misc]
                "restart": lambda again=again: again.lay(fewer, catalogue, NOW + 30),  # type: ignore[misc]
                "cp -r": lambda zen=zen, copy=copy: _call("cp", "-r", str(zen.swarm), str(copy)),  # type: ignore[misc]
                "shell": lambda zen=zen, to=written: _call("bash", "-c", SHELL, "-", str(zen.swarm), str(to)),  # type: ignore[misc]
            }
            for what, work in works.items():
                began = time.perf_counter()
                work()
                times.setdefault(what, []).append(time.perf_counter() - began)
    return rows({what: statistics.median(samples) for what, samples in times.items()})


def rows(seconds: dict[str, float]) -> list[Row]:
    laid, copied = seconds["laid"], seconds["cp -r"]
    size = f"{NODES} directories × {len(SLUGS)} scripts"
    return [
        Row(f"{size} laid", laid, "s", "one second, as asked", laid / 1.0, "<= 1"),
        Row("the same, cp -r", copied, "s", "laid by Dragon", copied / laid),
        Row("the same, a shell loop", seconds["shell"], "s", "laid by Dragon", seconds["shell"] / laid),
        Row("nothing changed", seconds["unchanged"], "s", "cp -r", seconds["unchanged"] / copied, "<= 0.25"),
        Row(
            "one node offers one service less", seconds["one changed"], "s", "cp -r", seconds["one changed"] / copied, "<= 0.25"
        ),
        Row("first pass after a restart, nothing changed", seconds["restart"], "s", "cp -r", seconds["restart"] / copied),
    ]


def view_of(manifest: Manifest) -> NodeView:
    return NodeView(
        node_id=manifest.node, alias="owl", state="live", trust="signed", last_seen=0.0, sequence=manifest.sequence,
        source="pubsub", manifest=manifest, reason="", equivocated=False, known=True, is_self=False,
    )  # fmt: skip


def _manifest(node_id: str) -> Manifest:
    return full(node_id).model_copy(update={"offers": tuple(make_offer(slug, node_id, port) for slug, port in SLUGS.items())})


def _call(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

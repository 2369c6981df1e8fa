"""NOSTR sync: what a comparison costs beside a full download, what verifying costs, a first backfill through a real tunnel.

The relays are khatru on LMDB, as real as they come here, with their data in memory (`/dev/shm`): on a shared disk their own
commits would be measured. Bytes are counted at a TCP proxy, in runs of their own whose time does not count. Times are from the
start of a command's process to its end, with the last event stored. The first backfill runs `dragon sync` between two real
nodes on real Kubo, gate included, and stores through the import tool, as on a station.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from coincurve import PublicKeyXOnly

from bench.harness import Row, side_by_side
from dragon.constellation.event import checked
from dragon.home import Home
from dragon.kubo.binary import find
from tests.testbed.events import Event, authors, many
from tests.testbed.node import DragonNode, config_text, wait_for
from tests.testbed.relay_programs import cache_dir
from tests.testbed.relays import Relay
from tests.testbed.strfry_tool import install
from tests.testbed.wiretap import Wiretap

EVENTS = 100_000
FEW = EVENTS // 5
"""Events of the smaller backfill, whose memory must be the same."""

MISSING = 100
"""One event of so many is missing here: 1 %, spread over the whole window."""

PEOPLE = authors("bench", 50)
DAYS = 30
SINCE = 1_700_000_000
UNTIL = SINCE + DAYS * 86_400
GAP = (UNTIL - SINCE) / EVENTS
"""Seconds from one event to the next."""
TURNS = 3
VERIFIED = 2000
START_BOUND = 60.0
SAMPLE = 0.05
"""Seconds between two looks at a run's memory."""


def run() -> list[Row]:
    """Measure and return the rows."""
    events = made()
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="dragon-bench-") as name:
        folder = Path(name)
        return [*_difference(stack, folder, events), *_verification(events[:VERIFIED]), *_backfill(stack, folder, events)]


def made() -> list[Event]:
    """Return the events, out of a file that is made once for this user."""
    words = f"{EVENTS} {len(PEOPLE)} {SINCE} {UNTIL}"
    path = cache_dir() / f"events-{hashlib.sha256(words.encode()).hexdigest()[:12]}.jsonl"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            for event in many(EVENTS, PEOPLE, since=SINCE, until=UNTIL):
                file.write(json.dumps(event) + "\n")
        fresh.replace(path)
    with path.open() as file:
        return [json.loads(line) for line in file]


@contextmanager
def _relay(folder: Path, events: Sequence[Event] = (), *, negentropy: bool = True) -> Iterator[Relay]:
    with Relay("khatru", folder, negentropy=negentropy) as relay:
        relay.load(events)
        yield relay


def _emptied(relay: Relay) -> None:
    """Start it again with nothing in it."""
    relay.stop()
    shutil.rmtree(relay.data)
    relay.start()


def _part(mode: str, folder: Path, **fields: Any) -> tuple[dict[str, Any], float]:
    """Run `bench.sync_parts`; return what it says, and the seconds from its start to its end."""
    path = folder / "job.json"
    path.write_text(json.dumps({"authors": [each.pubkey for each in PEOPLE], "since": SINCE, "until": UNTIL, **fields}))
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-m", "bench.sync_parts", mode, str(path)], capture_output=True, text=True)
    taken = time.monotonic() - started
    if done.returncode:
        raise SystemExit(done.stderr)
    said: dict[str, Any] = json.loads(done.stdout)
    if said["state"] != "ok":
        raise SystemExit(f"a run of the benchmark ended {said['state']}: {said}")
    return said, taken


# --- two relays that differ in one event of a hundred -----------------------------------------------------------------


def _difference(stack: ExitStack, folder: Path, events: Sequence[Event]) -> list[Row]:
    """The way in which the peer is read is the only difference: with NIP-77, and without. Stored as on a station, by the import
    tool, and as elsewhere, through the relay's WebSocket: a download offers our relay everything, most of it in vain."""
    here = [event for number, event in enumerate(events) if number % MISSING]
    peers = {
        "nip77": stack.enter_context(_relay(folder / "modern", events)),
        "req": stack.enter_context(_relay(folder / "plain", events, negentropy=False)),
    }
    local = stack.enter_context(Relay("khatru", folder / "local"))
    tool = str(install(folder / "strfry", local))

    def once(method: str, url: str, **more: str) -> float:
        _emptied(local)
        local.load(here)
        said, taken = _part("sync", folder, peer=url, local=local.url, **more)
        if said["peers"][0]["method"] != method or len(local.ids()) != len(events):
            raise SystemExit(f"the run by {method} did something else: {said}")
        return taken

    imported: dict[str, list[float]] = {method: [] for method in peers}
    for _ in range(TURNS):
        for method, peer in peers.items():
            imported[method].append(once(method, peer.url, tool=tool))
    offered = {method: once(method, peer.url) for method, peer in peers.items()}
    octets = {}
    for method, peer in peers.items():
        with Wiretap(peer.port, read=False) as tap:
            once(method, tap.url, tool=tool)
            octets[method] = tap.bytes_up + tap.bytes_down
    faster = statistics.median(quick / slow for quick, slow in zip(imported["nip77"], imported["req"], strict=True))
    quick, slow = (statistics.median(imported[method]) for method in ("nip77", "req"))
    return [
        Row(f"full download of {len(events):,} events (REQ)", octets["req"] / 1e6, "MB"),
        Row("NIP-77 where 1 % is missing", octets["nip77"] / 1e6, "MB", "full download", octets["nip77"] / octets["req"],
            "<= 0.05"),
        Row("command to last event by REQ, through our relay's WebSocket", offered["req"], "s"),
        Row("by NIP-77, through our relay's WebSocket", offered["nip77"], "s", "by REQ", offered["nip77"] / offered["req"],
            "<= 0.1"),
        Row("command to last event by REQ, imported", slow, "s"),
        Row("by NIP-77, imported", quick, "s", "by REQ", faster, "<= 0.1"),
    ]  # fmt: skip


# --- verification ---------------------------------------------------------------------------------------------------


def _verification(events: Sequence[Event]) -> list[Row]:
    def ours() -> None:
        for event in events:
            checked(event)

    keys = {person.pubkey: PublicKeyXOnly(bytes.fromhex(person.pubkey)) for person in PEOPLE}
    spell = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode

    def bare() -> None:
        """The least that shows that an event is genuine: keys at hand, an encoder made once."""
        for event in events:
            fields = [0, event["pubkey"], event["created_at"], event["kind"], event["tags"], event["content"]]
            digest = hashlib.sha256(spell(fields).encode()).digest()
            genuine = keys[event["pubkey"]].verify(bytes.fromhex(event["sig"]), digest)
            if digest.hex() != event["id"] or not genuine:
                raise SystemExit("a forged one among the benchmark's own events")

    took = side_by_side({"ours": ours, "bare": bare}, 1, 9, time.process_time)
    return [
        Row("coincurve with id check", len(events) / took["bare"], "1/s"),
        Row("verification: shape, id, signature, spelt anew", len(events) / took["ours"], "1/s", "coincurve with id check",
            took["bare"] / took["ours"], ">= 0.8"),
    ]  # fmt: skip


# --- a first backfill through a tunnel ------------------------------------------------------------------------------


@dataclass(slots=True)
class Weight:
    """The most memory that a process and its children had at once, in bytes: the sum of what each has resident."""

    peak: int = 0

    @contextmanager
    def of(self, process: psutil.Process, but: str) -> Iterator[None]:
        """Look at it while the block lasts; programs called `but` are not ours."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(SAMPLE):
                self.peak = max(self.peak, resident(process, but))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def resident(process: psutil.Process, but: str) -> int:
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for each in family:
        try:
            if but not in " ".join(each.cmdline()):
                total += each.memory_info().rss
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return total


def _backfill(stack: ExitStack, folder: Path, events: Sequence[Event]) -> list[Row]:
    provider = stack.enter_context(_relay(folder / "provider", events))
    local = stack.enter_context(Relay("khatru", folder / "local"))
    node = _nodes(stack, folder, provider, local, install(folder / "strfry", local))
    rates: dict[str, list[float]] = {"read": [], "discard": [], "tunnel": []}
    weights: list[int] = []
    for _ in range(TURNS):
        for mode in ("read", "discard"):
            said, _ = _part(mode, folder, peer=provider.url)
            if said["events"] != len(events):
                raise SystemExit(f"{said['events']} events came")
            rates[mode].append(len(events) / said["wall"])
        taken, weight = _synced(node, local, len(events))
        rates["tunnel"].append(len(events) / taken)
        weights.append(weight)
    # The window of the smaller one begins later, so that a fifth of the events lies in it.
    few = _synced(node, local, FEW, SINCE + (UNTIL - SINCE) * (EVENTS - FEW) // EVENTS)[1]
    rate = {mode: statistics.median(each) for mode, each in rates.items()}

    def ratio(mode: str) -> float:
        return statistics.median(ours / other for ours, other in zip(rates["tunnel"], rates[mode], strict=True))

    megabytes = max(weights) / 1e6
    return [
        Row("read on bare loopback, neither verified nor stored", rate["read"], "events/s"),
        Row("read and verified on bare loopback, not stored", rate["discard"], "events/s"),
        Row("dragon sync through the tunnel, verified and stored", rate["tunnel"], "events/s", "read, not verified",
            ratio("read"), ">= 0.5"),
        Row("the same", rate["tunnel"], "events/s", "read and verified", ratio("discard"), ">= 0.5"),
        Row(f"peak memory of a sync of {len(events):,} events", megabytes, "MB", "150 MB", megabytes / 150, "<= 1"),
        Row(f"peak memory of a sync of {FEW:,} events", few / 1e6, "MB", "150 MB", few / 150e6, "<= 1"),
    ]  # fmt: skip


def _nodes(stack: ExitStack, folder: Path, provider: Relay, local: Relay, tool: Path) -> DragonNode:
    """Start two nodes, one of which offers `provider`; return the other one, whose relay is `local`."""
    binary = find(Home.locate())
    if binary is None:
        raise SystemExit("no Kubo binary on this machine: run `make kubo` first")
    keys = json.dumps([each.pubkey for each in PEOPLE])
    sync = f'[constellation]\nenabled = false\nauthors = {keys}\nrelay = "{local.url}"\ntool = "{tool}"\n'
    offer = f"[catalogue.strfry]\nport = {provider.port}\n"
    join: Sequence[str] = ()
    for alias, only, tables in (("provider", 'only = ["strfry"]', offer), ("consumer", "only = []", sync)):
        text = config_text(alias=alias, swarm="bench", join=join, catalogue=only, tables=tables)
        node = DragonNode(folder / alias, text, env={"DRAGON_KUBO_BINARY": str(binary)})
        stack.callback(node.cleanup)
        node.start()
        join = node.json("status")["addresses"]
    wait_for(lambda: any(peer["offers"] for peer in node.json("peers")), START_BOUND, lambda: node.log)
    return node


def _synced(node: DragonNode, local: Relay, wanted: int, since: int = SINCE) -> tuple[float, int]:
    """Run `dragon sync` into an empty relay; return the seconds from the command to its end, and the peak of its memory."""
    _emptied(local)
    days = (time.time() - since + GAP / 2) / 86_400
    command = [sys.executable, "-m", "dragon", "sync", "--json", "--days", f"{days:.6f}", "--kinds", "1", "--no-profiles"]
    weight, started = Weight(), time.monotonic()
    with subprocess.Popen(command, env=node.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with weight.of(psutil.Process(process.pid), but=f"{local.folder.parent}/strfry/strfry"):
            printed, complaints = process.communicate()
        taken = time.monotonic() - started
    if process.returncode or len(local.ids()) != wanted:
        raise SystemExit(f"the sync of the benchmark failed: {printed[:2000]}\n{complaints}\n{node.log}")
    return taken, weight.peak

"""Through our port against the bare Kubo tunnel: throughput, round trips, CPU per byte; and what `forward()` itself costs.

One service, six ways to it, measured in turns in one run: Kubo's own forward; ours in front of it, and ours with the gate at
the other end, each sticky and `--spread`; and a relay on asyncio streams. Two Kubo daemons, the service, the client and every
relay share this machine's cores.
"""

from __future__ import annotations

import json
import operator
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.forward_parts import GATED, PLAIN
from bench.harness import Row
from dragon.home import Home
from dragon.kubo.binary import find
from registry_schema import protocol_name
from tests.testbed.kubo import KuboDaemon
from tests.testbed.services import start_service

ROUNDS = 9
"""Turns of all ways; a ratio is the median over the turns, since only neighbours in time had the same machine."""
ECHOES = 1000
BULK = 128 << 20
"""Bytes per download: a third of a second, long enough that starting does not count."""
STREAMS = 8
CALLS = 100
TICKS = os.sysconf("SC_CLK_TCK")
WAYS = (
    ("ours", "our port", 0.85, 0.12),
    ("gate", "our port and the gate", 0.62, 0.25),
    ("ours spread", "our port, --spread", 0.85, 0.12),
    ("gate spread", "our port and the gate, --spread", 0.62, 0.25),
)
"""Way, its name, the least part of the bare throughput, the most milliseconds added to a round trip."""


class Part:
    """A process of `bench.forward_parts`; says one JSON line when it is ready."""

    def __init__(self, *words: object) -> None:
        command = [sys.executable, "-m", "bench.forward_parts", *map(str, words)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = self._line()

    def ask(self, name: str, count: int) -> list[float]:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {count}\n")
        self.process.stdin.flush()
        times: list[float] = self._line()
        return times

    def cpu(self) -> float:
        """Return the seconds of CPU it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


def run() -> list[Row]:
    """Measure and return the rows."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(prefix="dragon-bench-") as folder:
        binary = find(Home.locate())
        if binary is None:
            raise SystemExit("no Kubo binary on this machine: run `make kubo` first")
        here, there = (stack.enter_context(_daemon(binary, Path(folder) / name)) for name in ("here", "there"))
        here.connect(there)
        load = stack.enter_context(_part("service")).said["port"]
        web = stack.enter_context(start_service("http", home=Path(folder), name="ollama", models=["llama3.2"]))
        offering = stack.enter_context(_part("provider", there.api, load, web.port)).said
        here.ipfs("p2p", "forward", protocol_name(PLAIN, there.node_id), "/ip4/127.0.0.1/tcp/0", f"/p2p/{there.node_id}")
        bare = int(here.ipfs("p2p", "ls").split()[1].rsplit("/", 1)[1])
        node = stack.enter_context(_part("consumer", here.api, offering["envelope"]))
        relay = stack.enter_context(_part("streams", bare))
        ways = {
            "bare": bare,
            "ours": node.said[PLAIN],
            "gate": node.said[GATED],
            "ours spread": node.said[f"{PLAIN} spread"],
            "gate spread": node.said[f"{GATED} spread"],
            "streams": relay.said["port"],
        }
        return [*_moving(ways, node, relay), *_calling(node)]


def _moving(ways: dict[str, int], node: Part, relay: Part) -> list[Row]:
    trips: dict[str, list[float]] = {way: [] for way in ways}
    down: dict[str, list[float]] = {way: [] for way in ways}
    many: dict[str, list[float]] = {way: [] for way in ways}
    used = {"ours": 0.0, "streams": 0.0}
    parts = {"ours": node, "streams": relay}
    for _ in range(ROUNDS):
        for way, port in ways.items():
            trips[way].append(round_trip(port))
            before = parts[way].cpu() if way in parts else 0.0
            down[way].append(download(port, BULK))
            if way in parts:
                used[way] += parts[way].cpu() - before
            many[way].append(downloads(port, BULK // STREAMS, STREAMS))
    p50 = {way: statistics.median(times) * 1000 for way, times in trips.items()}
    rate = {way: statistics.median(rates) / 1e6 for way, rates in down.items()}
    eight = {way: statistics.median(rates) / 1e6 for way, rates in many.items()}
    per_gb = {way: seconds / (BULK * ROUNDS) * 1e9 for way, seconds in used.items()}
    added = {way: 1000 * statistics.median(map(operator.sub, times, trips["bare"])) for way, times in trips.items()}
    one = {way: statistics.median(map(operator.truediv, rates, down["bare"])) for way, rates in down.items()}
    all8 = {way: statistics.median(map(operator.truediv, rates, many["bare"])) for way, rates in many.items()}
    rows = [
        Row("bare Kubo forward, one stream", rate["bare"], "MB/s"),
        Row("bare Kubo forward, eight streams", eight["bare"], "MB/s"),
        Row("bare Kubo forward, round trip p50", p50["bare"], "ms"),
    ]
    for way, name, least, most in WAYS:
        rows += [
            Row(f"{name}, one stream", rate[way], "MB/s", "bare", one[way], f">= {least}"),
            Row(f"{name}, eight streams", eight[way], "MB/s", "bare", all8[way], f">= {least}"),
            Row(f"added by {name}", added[way], "ms", f"{most} ms", added[way] / most, "<= 1"),
        ]
    return [
        *rows,
        Row("asyncio streams relay, one stream", rate["streams"], "MB/s", "bare", one["streams"]),
        Row("added by asyncio streams", added["streams"], "ms"),
        Row("CPU of our relay", per_gb["ours"], "s/GB", "asyncio streams", per_gb["ours"] / per_gb["streams"], "<= 0.6"),
    ]


def _calling(node: Part) -> list[Row]:
    cold, by_hand = [], []
    for _ in range(5):
        cold += node.ask("cold", CALLS // 10)
        by_hand += node.ask("by-hand", CALLS // 10)
    warm = statistics.median(node.ask("warm", CALLS))
    opened, hand = statistics.median(cold), statistics.median(by_hand)
    return [
        Row("forward() of an open forward, p50", warm, "ms", "2 ms", warm / 2, "<= 1"),
        Row("p2p forward and GET by hand, p50", hand, "ms"),
        Row("forward() with all opened anew, p50", opened, "ms", "by hand", opened / hand, "<= 10"),
    ]


def round_trip(port: int, count: int = ECHOES) -> float:
    """Return the median seconds of a 4-byte echo."""
    times = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sendall(b"e")
        for _ in range(count):
            started = time.perf_counter()
            connection.sendall(b"ping")
            if connection.recv(64) != b"ping":
                raise SystemExit(f"the echo through port {port} broke")
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def download(port: int, size: int) -> float:
    """Return bytes per second of one download."""
    taken = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        started = time.perf_counter()
        connection.sendall(b"d" + size.to_bytes(8, "big"))
        got = 0
        while got < size:
            count = connection.recv_into(taken)
            if not count:
                raise SystemExit(f"the download through port {port} broke after {got} bytes")
            got += count
        return size / (time.perf_counter() - started)


def downloads(port: int, size: int, streams: int) -> float:
    """Return bytes per second of several downloads at once, read by one thread on readiness."""
    import selectors

    taken, left = bytearray(1 << 20), {}
    started = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(streams):
            connection = socket.create_connection(("127.0.0.1", port))
            connection.sendall(b"d" + size.to_bytes(8, "big"))
            left[connection] = size
            selector.register(connection, selectors.EVENT_READ)
        while left:
            for key, _ in selector.select():
                connection = key.fileobj  # type: ignore[assignment]
                count = connection.recv_into(taken)
                if not count:
                    raise SystemExit(f"a download through port {port} broke")
                left[connection] -= count
                if left[connection] <= 0:
                    selector.unregister(connection)
                    connection.close()
                    del left[connection]
    return size * streams / (time.perf_counter() - started)


@contextmanager
def _daemon(binary: Path, folder: Path) -> Iterator[KuboDaemon]:
    daemon = KuboDaemon(binary, folder)
    try:
        yield daemon.start()
    finally:
        daemon.stop()


@contextmanager
def _part(*words: object) -> Iterator[Part]:
    part = Part(*words)
    try:
        yield part
    finally:
        part.stop()

"""The relay of nostr-sdk (NIP-77) in a process of its own: `python -m tests.testbed.relay_process --port P [--journal FILE]`.

Prints `listening PORT` and serves until its standard input ends. Its store is in memory and holds 75,000 events. With a
journal it writes down every event that it is offered and offers them to itself again when it starts, so that `kill -9` loses
nothing. (The package's LMDB store can be plugged in from Python, but each event then waits for its own commit.)
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import IO

from aiohttp import ClientSession
from nostr_sdk import (
    Event,
    LocalRelayBuilder,
    RateLimit,
    WritePolicy,
    WritePolicyResult,
    uniffi_set_event_loop,
)

UNLIMITED = 1_000_000
"""Messages and notes a minute: the default of 60 notes is no test's subject."""

BURST = 4000
"""Events offered through one connection: the relay closes it after about 6,000, whatever its limits say."""

WINDOW = 200
"""Events offered before their answers are read."""


class Journal(WritePolicy):  # type: ignore[misc]
    """Writes down what is offered, before the relay decides; each event once."""

    def __init__(self, file: IO[str], known: set[str]) -> None:
        self.file, self.known = file, known

    async def admit_event(self, event: Event, socket_addr: str) -> WritePolicyResult:
        name = event.id().to_hex()
        if name not in self.known:
            self.known.add(name)
            self.file.write(event.as_json() + "\n")
            self.file.flush()
        return WritePolicyResult.ACCEPT()


def opened(path: Path) -> tuple[list[str], IO[str]]:
    """Return what the journal holds, and the journal for writing. A line that `kill -9` tore was never answered: it goes."""
    lines = [line for line in path.read_text().split("\n") if line.endswith("}")] if path.exists() else []
    path.write_text("".join(line + "\n" for line in lines))
    return lines, path.open("a")


async def offer(url: str, lines: list[str]) -> None:
    """Offer events, given as JSON, to the relay; it decides as it did the first time."""
    async with ClientSession() as session:
        for start in range(0, len(lines), BURST):
            async with session.ws_connect(url) as socket:
                for begin in range(start, min(start + BURST, len(lines)), WINDOW):
                    window = lines[begin : min(begin + WINDOW, start + BURST)]
                    for line in window:
                        await socket.send_str(f'["EVENT",{line}]')
                    for _ in window:
                        await socket.receive_str()


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    uniffi_set_event_loop(loop)  # policies are called from the relay's own threads
    builder = (
        LocalRelayBuilder()
        .addr("127.0.0.1")
        .port(options.port)
        .rate_limit(RateLimit(max_reqs=UNLIMITED, notes_per_minute=UNLIMITED))
        .max_filter_limit(options.limit)
    )
    lines: list[str] = []
    if options.journal:
        lines, file = await asyncio.to_thread(opened, Path(options.journal))
        builder = builder.write_policy(Journal(file, {json.loads(line)["id"] for line in lines}))
    relay = builder.build()
    await relay.run()
    await offer(f"ws://127.0.0.1:{options.port}", lines)
    print(f"listening {options.port}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    relay.shutdown()


def main() -> None:
    parser = argparse.ArgumentParser(description="a NOSTR relay for tests")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--limit", type=int, default=500, help="most events that one filter is answered with")
    parser.add_argument("--journal", help="file in which accepted events outlive the process")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()

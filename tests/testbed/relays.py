"""Real NOSTR relays on loopback, each a process of its own that can be killed and started again with what it held.

    with Relay("sdk", folder) as relay:          # "sdk" and "khatru" speak NIP-77, "plain" does not
        relay.publish(events)                    # through its WebSocket, as anybody does
        relay.ids()                              # everything it holds, beyond every limit
        relay.kill(), relay.start()

The calls block: inside an event loop use `asyncio.to_thread(relay.publish, events)`.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
import weakref
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TypeVar

from aiohttp import ClientSession, ClientWebSocketResponse

from tests.testbed.events import Event
from tests.testbed.ports import free_port
from tests.testbed.relay_process import BURST, WINDOW
from tests.testbed.relay_programs import HERE, khatru, plain_python

Kind = Literal["sdk", "khatru", "plain"]
KINDS: tuple[Kind, ...] = ("sdk", "khatru", "plain")

STOP_SECONDS = 10.0

MEMORY = Path("/dev/shm")
"""Where khatru's data lies when it can: it waits for the disk at each event, 300 to 3,000 of them a second."""

ANSWER_SECONDS = 30.0
"""Bound of one answer of a relay on a busy machine: a test that waits for one that never comes shall say so."""

Result = TypeVar("Result")


class Relay:
    """One relay. `limit` is the most that it answers one filter with (khatru: 1,500, and 375 to who asks for more).

    `gullible` makes the plain one keep what it is given, unchecked; `negentropy=False` takes NIP-77 from khatru.
    """

    def __init__(self, kind: Kind, folder: Path, *, limit: int = 500, gullible: bool = False, negentropy: bool = True) -> None:
        self.kind, self.folder, self.limit = kind, folder, limit
        self.gullible, self.negentropy = gullible, negentropy
        self.port = free_port()
        self.data = folder / "data"
        if kind == "khatru" and MEMORY.is_dir() and os.access(MEMORY, os.W_OK):
            self.data = Path(tempfile.mkdtemp(prefix="dragon-relay-", dir=MEMORY))
            weakref.finalize(self, shutil.rmtree, self.data, ignore_errors=True)
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "the relay was not started"
        return self.process.pid

    @property
    def log(self) -> str:
        return (self.folder / "relay.log").read_text(errors="replace")

    def _command(self) -> list[str]:
        if self.kind == "khatru":
            return [str(khatru()), str(self.data), str(self.port), "77" if self.negentropy else "1"]
        if self.kind == "plain":
            checks = "[]" if self.gullible else "[nostr_relay.validators.is_signed]"
            program = [str(plain_python()), str(HERE / "plain_relay.py")]
            return [*program, str(self.folder), str(self.port), str(self.limit), checks]
        journal = str(self.folder / "journal.jsonl")
        options = ["--port", str(self.port), "--limit", str(self.limit), "--journal", journal]
        return [sys.executable, "-m", "tests.testbed.relay_process", *options]

    def start(self) -> Relay:
        """Start it and return when it answers; what it held before is there again, on the same port."""
        assert self.process is None or self.process.poll() is not None, "the relay runs already"
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "relay.log").open("ab") as log:
            self.process = subprocess.Popen(
                self._command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=HERE.parents[1],
                start_new_session=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line.startswith("listening "):
            self.kill()
            raise AssertionError(f"the {self.kind} relay did not start: {self.log[-2000:]}")
        return self

    def kill(self) -> None:
        """`kill -9`: its connections are reset, its port refuses."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it politely; may be called again."""
        if self.process is not None and self.process.poll() is None:
            self.thaw()
        self._end(signal.SIGTERM)

    def close(self) -> None:
        """End it for good, its data with it."""
        self.stop()
        shutil.rmtree(self.data, ignore_errors=True)

    def freeze(self) -> None:
        """Stop it where it is: the port stays open, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def publish(self, events: Iterable[Event]) -> list[str]:
        """Offer events through the WebSocket; return what it answered to those that it refused."""
        return _alone(lambda: publish(self.url, events))

    def load(self, events: Iterable[Event]) -> None:
        """Put many events in quickly: khatru's store is written past its WebSocket, 15 times as fast."""
        if self.kind == "khatru":
            lines = b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)
            self._post("/import", lines)
        else:
            refused = self.publish(events)
            assert not refused, refused[:3]

    def events(self, **wanted: Any) -> list[Event]:
        """Return what it answers to one REQ, within its limits."""
        return _alone(lambda: read(self.url, wanted))

    def ids(self, **wanted: Any) -> set[str]:
        """Return the ids of everything it holds (under a filter), however much that is."""
        if self.kind == "khatru":
            return {json.loads(line)["id"] for line in self._post("/scan", json.dumps(wanted).encode()).splitlines()}
        if self.kind == "sdk":
            return _alone(lambda: _reconciled(self.url, wanted))
        return _alone(lambda: _paged(self.url, wanted, self.limit))

    def _post(self, path: str, body: bytes) -> bytes:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, method="POST")
        with urllib.request.urlopen(request, timeout=120) as answer:
            content: bytes = answer.read()
        return content

    def __enter__(self) -> Relay:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def _alone(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    return asyncio.run(work())


def windows(events: Sequence[Event]) -> Iterator[list[Event]]:
    """Cut into what is offered before answers are read. A deletion comes when all before it is answered: khatru works through
    messages side by side, and an event that arrives after its deletion stays."""
    window: list[Event] = []
    for event in events:
        if len(window) == WINDOW or (window and event["kind"] == 5):
            yield window
            window = []
        window.append(event)
    if window:
        yield window


async def publish(url: str, events: Iterable[Event]) -> list[str]:
    """Offer events to a relay, a window at a time; return the messages of refusals."""
    refused: list[str] = []
    pending = list(events)
    async with ClientSession() as session:
        for start in range(0, len(pending), BURST):
            async with session.ws_connect(url, max_msg_size=0) as socket:
                for window in windows(pending[start : start + BURST]):
                    for event in window:
                        await socket.send_str(json.dumps(["EVENT", event]))
                    answers = 0
                    while answers < len(window):
                        message = json.loads(await socket.receive_str(timeout=ANSWER_SECONDS))
                        if message[0] == "OK":
                            answers += 1
                            if not message[2]:
                                refused.append(f"{message[1]}: {message[3]}")
    return refused


async def read(url: str, wanted: dict[str, Any]) -> list[Event]:
    """Return what one REQ is answered with."""
    async with ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        return await _ask(socket, wanted)


async def _ask(socket: ClientWebSocketResponse, wanted: dict[str, Any]) -> list[Event]:
    await socket.send_str(json.dumps(["REQ", "read", wanted]))
    found: list[Event] = []
    while True:
        message = json.loads(await socket.receive_str(timeout=ANSWER_SECONDS))
        if message[0] == "EVENT":
            found.append(message[2])
        elif message[0] == "EOSE":
            await socket.send_str(json.dumps(["CLOSE", "read"]))
            return found
        elif message[0] == "CLOSED":
            raise AssertionError(f"the relay refused {wanted}: {message}")


async def _paged(url: str, wanted: dict[str, Any], limit: int) -> set[str]:
    """Read backwards by time. Fails where one second holds more than a page, instead of losing what lies there.

    Two habits of nostr-relay: it answers nothing to a filter that names nothing but a limit, and leaves `until` itself out
    (NIP-01 counts it in).
    """
    found: set[str] = set()
    async with ClientSession() as session, session.ws_connect(url, max_msg_size=0) as socket:
        until: int | None = None
        while True:
            window = {} if until is None else {"until": until}
            page = await _ask(socket, {"since": 1, **wanted, "limit": limit, **window})
            found |= {event["id"] for event in page}
            if len(page) < limit:
                return found
            oldest = min(event["created_at"] for event in page) + 1
            assert oldest != until, "more events in one second than the relay's limit"
            until = oldest


async def _reconciled(url: str, wanted: dict[str, Any]) -> set[str]:
    """Ask by NIP-77 as one who has nothing: the answer names everything."""
    from datetime import timedelta

    from nostr_sdk import Client, Filter, RelayUrl, SyncOptions

    client, address = Client(), RelayUrl.parse(url)
    await client.add_relay(address)
    relay = await client.relay(address)
    assert relay is not None
    await relay.try_connect(timedelta(seconds=10))
    found = await relay.sync(Filter.from_json(json.dumps(wanted)), [], SyncOptions().dry_run())
    await client.shutdown()
    return {each.to_hex() for each in found.remote}

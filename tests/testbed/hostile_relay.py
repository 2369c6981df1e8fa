"""A relay that means harm: a WebSocket server that speaks NOSTR as far as its mode of misbehaviour needs.

    with HostileRelay("forged-signature", events) as relay:
        …relay.url…, relay.requests

`events` is what it holds; an honest answer to a filter comes from them. MODES says what each mode does. It runs on a thread
with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

from aiohttp import WSMsgType, web

from tests.testbed.events import Author, Event

MODES = {
    "honest": "answers every REQ with what matches; no NIP-77",
    "forged-id": "every event claims an id that is not its own",
    "forged-signature": "every signature is wrong",
    "altered": "every content was changed after signing",
    "one-bad": "one forged signature among what is honest",
    "oversize": "adds three events of 2 MB, truly signed by `author`, to what is asked for",
    "unrequested": "adds a genuine event for every one that was asked for: of another author, kind and time in turn",
    "far-future": "what it holds is genuine, by `author`, and dated a day from now",
    "endless": "sends the same events again and again and never ends",
    "endless-new": "sends ever new genuine events of `author`, and never ends",
    "stall": "sends ten of the events it has, then nothing more",
    "silent": "takes the connection and answers nothing",
    "refuse": "answers every REQ with CLOSED",
    "auth": "answers every REQ with AUTH and CLOSED auth-required",
    "garbage": "answers with frames that are no NOSTR messages, then closes",
    "neg-garbage": "answers NEG-OPEN with what is no negentropy message; REQ honestly",
    "neg-lies": "claims, by NIP-77, to hold ids that it cannot hand out",
    "neg-endless": "answers every NEG message by asking for the same again",
    "neg-hasty": "answers NEG-OPEN before it knows the comparison: the first NEG-MSG finds none (khatru, now and then)",
    "notices": "answers with a NOTICE every 50 ms and nothing else",
}

NOTICE_SECONDS = 0.05

HELD = 10
"""Events that `stall` sends."""

LIES = 64
"""Ids that `neg-lies` claims unless told which."""

GARBAGE = ("[]", "{", '["EVENT"]', '["EVENT","x",{}]', "null", '["EOSE"]', "[1,2,3]", '["EVENT",1,[]]', "[" * 5000, "\x00")


def matches(event: Event, wanted: dict[str, Any]) -> bool:
    """Tell whether an event is what a filter asks for (ids, authors, kinds, window)."""
    return (
        ("ids" not in wanted or event["id"] in wanted["ids"])
        and ("authors" not in wanted or event["pubkey"] in wanted["authors"])
        and ("kinds" not in wanted or event["kind"] in wanted["kinds"])
        and wanted.get("since", 0) <= event["created_at"] <= wanted.get("until", 1 << 40)
    )


class HostileRelay:
    """`requests` are the messages that clients sent, in order; `author` signs what the relay makes up itself."""

    def __init__(self, mode: str, events: Iterable[Event] = (), *, author: Author | None = None) -> None:
        assert mode in MODES, f"no mode {mode}; there are: {', '.join(MODES)}"
        self.mode, self.events = mode, list(events)
        self.author = author or Author("hostile")
        self.port = 0
        self.connections = 0
        self.requests: list[list[Any]] = []
        self.sent = 0
        """Events sent, of whatever quality."""
        self.lies = [f"{number:064x}" for number in range(1, LIES + 1)]
        """The ids that `neg-lies` claims."""
        self._compared: set[str] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"hostile {mode}", daemon=True)

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def asked(self, verb: str = "REQ") -> list[list[Any]]:
        return [message for message in self.requests if message[0] == verb]

    def __enter__(self) -> HostileRelay:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(20)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        application = web.Application()
        application.router.add_get("/", self._socket)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.json_response({"name": self.mode, "supported_nips": [1, 77]}, content_type="application/nostr+json")
        socket = web.WebSocketResponse(max_msg_size=0, compress=False)
        await socket.prepare(request)
        self.connections += 1
        answers: set[asyncio.Task[None]] = set()
        try:
            async for frame in socket:
                if frame.type is not WSMsgType.TEXT:
                    break
                message = json.loads(frame.data)
                self.requests.append(message)
                task = asyncio.ensure_future(self._answer(socket, message))
                answers.add(task)
                task.add_done_callback(answers.discard)
        finally:
            ending = list(answers)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)
        return socket

    async def _answer(self, socket: web.WebSocketResponse, message: Sequence[Any]) -> None:
        with contextlib.suppress(ConnectionError):  # the client has had enough
            await self._misbehave(socket, message)

    async def _misbehave(self, socket: web.WebSocketResponse, message: Sequence[Any]) -> None:
        verb, name = message[0], message[1]
        reading = verb in ("REQ", "NEG-OPEN")
        if self.mode == "silent":
            return
        if self.mode == "notices":
            while True:
                await socket.send_json(["NOTICE", "one moment please"])
                await asyncio.sleep(NOTICE_SECONDS)
        if self.mode == "garbage":
            for frame in GARBAGE:
                await socket.send_str(frame)
            await socket.send_bytes(b"\x00\xff" * 50)
            await socket.close()
        elif self.mode in ("auth", "refuse") and reading:
            reason = "auth-required: we do not serve strangers" if self.mode == "auth" else "blocked: not today"
            if self.mode == "auth":
                await socket.send_json(["AUTH", "who are you"])
            await socket.send_json(["CLOSED" if verb == "REQ" else "NEG-ERR", name, reason])
        elif verb in ("NEG-OPEN", "NEG-MSG"):
            await self._negentropy(socket, verb, name)
        elif verb == "REQ":
            await self._events(socket, name, message[2:])
        elif verb == "EVENT":
            await socket.send_json(["OK", message[1]["id"], True, ""])

    async def _negentropy(self, socket: web.WebSocketResponse, verb: str, name: str) -> None:
        if self.mode == "neg-garbage":
            await socket.send_json(["NEG-MSG", name, "zz not even hex"])
        elif self.mode == "neg-lies":
            await socket.send_json(["NEG-MSG", name, everything(self.lies)])
        elif self.mode == "neg-endless" or (self.mode == "neg-hasty" and verb == "NEG-OPEN"):
            await socket.send_json(["NEG-MSG", name, different()])
        elif self.mode == "neg-hasty":
            known = name in self._compared
            self._compared.add(name)
            await socket.send_json(["NEG-MSG", name, "61"] if known else ["NEG-ERR", name, "CLOSED"])
        elif verb == "NEG-OPEN":
            await socket.send_json(["NOTICE", "ERROR: bad msg: unknown cmd NEG-OPEN"])

    async def _events(self, socket: web.WebSocketResponse, name: str, filters: Sequence[dict[str, Any]]) -> None:
        found = [event for event in self.events if any(matches(event, wanted) for wanted in filters)]
        found.sort(key=lambda event: (-event["created_at"], event["id"]))
        limit = min((wanted["limit"] for wanted in filters if "limit" in wanted), default=500)

        async def send(events: Iterable[Event]) -> None:
            for event in events:
                self.sent += 1
                await socket.send_str(json.dumps(["EVENT", name, event]))

        while found and self.mode == "endless":
            await send(found)
            await asyncio.sleep(0)
        if self.mode == "endless-new":
            at = min((wanted["until"] for wanted in filters if "until" in wanted), default=int(time.time()))
            for number in range(1 << 60):
                await send([self.author.note(f"for ever {number}", created_at=at)])
                await asyncio.sleep(0)
        if found and self.mode == "stall":
            await send(found[:HELD])
            return
        await send(spoilt(self.mode, found[:limit], self.author))
        await socket.send_json(["EOSE", name])


def spoilt(mode: str, events: Sequence[Event], author: Author) -> list[Event]:
    """Return `events` as a relay of that mode hands them out."""
    if mode == "forged-id":
        return [{**event, "id": f"{number:064x}"} for number, event in enumerate(events, 1)]
    if mode == "forged-signature":
        return [{**event, "sig": event["sig"][::-1]} for event in events]
    if mode == "one-bad":
        return [{**event, "sig": event["sig"][::-1]} if not number else event for number, event in enumerate(events)]
    if mode == "altered":
        return [{**event, "content": event["content"] + "!"} for event in events]
    if mode == "far-future":
        return [author.note(event["content"], created_at=int(time.time()) + 86_400) for event in events]
    if mode == "oversize":
        return [*events, *(author.note("x" * 2_000_000, created_at=event["created_at"]) for event in events[:3])]
    if mode == "unrequested":
        extra = [unrequested(number, event, author) for number, event in enumerate(events)]
        return [each for pair in zip(events, extra, strict=True) for each in pair]
    return list(events)


def unrequested(number: int, event: Event, author: Author) -> Event:
    """Return a genuine event of another author, kind or time than `event`."""
    if number % 3 == 0:
        return Author("stranger").note("not asked for", created_at=event["created_at"])
    if number % 3 == 1:
        return author.event(1234, "not asked for", created_at=event["created_at"])
    return author.note("not asked for", created_at=1_000_000)


def everything(ids: Sequence[str]) -> str:
    """Return a NIP-77 message (protocol 1, in hex): from the beginning to the end of time I hold these ids."""
    return "61" + "0000" + "02" + varint(len(ids)).hex() + "".join(ids)


def different() -> str:
    """Return a NIP-77 message: all of time, with a fingerprint that nobody has."""
    return "61" + "0000" + "01" + "ff" * 16


def varint(value: int) -> bytes:
    """Return `value` as NIP-77 writes numbers: seven bits a byte, the most significant first."""
    digits = [value & 127]
    while value := value >> 7:
        digits.append(value & 127 | 128)
    return bytes(reversed(digits))

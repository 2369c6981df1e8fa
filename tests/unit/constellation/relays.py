"""Relays in this process: nostr-sdk's real one, and one of aiohttp that behaves as badly as a test wants."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import nostr_sdk
from aiohttp import ClientSession, WSMsgType, web
from pynostr.event import Event as Draft
from pynostr.key import PrivateKey

from dragon.constellation.asking import read
from dragon.constellation.job import Job, Peer
from dragon.constellation.paging import Pages
from dragon.constellation.relay import Patience, connected
from dragon.constellation.wanted import Wanted

NOW = 1_790_000_000
"""The time of the tests, in Unix seconds."""

HURRY = Patience(connect=5.0, document=1.0, negentropy=1.0, progress=2.0, notice=0.2, stop=0.5)
"""For tests in which somebody does not answer."""

Signed = dict[str, Any]


class Author:
    """Somebody who signs."""

    def __init__(self, number: int) -> None:
        self.key = PrivateKey(number.to_bytes(32, "big"))
        self.pubkey: str = self.key.public_key.hex()

    def event(self, content: str = "", *, kind: int = 1, at: int = NOW, tags: Sequence[Sequence[str]] = ()) -> Signed:
        draft = Draft(content=content, created_at=at, kind=kind, tags=[list(tag) for tag in tags])
        draft.sign(self.key.hex())
        document: Signed = draft.to_dict()
        return document


ANNE, BERT, CARL = Author(101), Author(102), Author(103)


class Clock:
    """The tests' time; sleeps are over at once, and noted."""

    def __init__(self, now: float = NOW + 10) -> None:
        self.now = now
        self.slept: list[float] = []
        self.stopped = asyncio.Event()

    def monotonic(self) -> float:
        return self.now

    def now_ms(self) -> int:
        return int(self.now * 1000)

    async def sleep(self, seconds: float) -> None:
        if seconds >= 100:  # a run's whole time: it is up when the test says so
            await self.stopped.wait()
            return
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def local_relay(events: Iterable[Signed] = ()) -> AsyncIterator[str]:
    """Run nostr-sdk's relay with these events; the URL."""
    limit = nostr_sdk.RateLimit(max_reqs=1_000_000, notes_per_minute=1_000_000)
    relay = nostr_sdk.LocalRelayBuilder().rate_limit(limit).build()
    await relay.run()
    url = str(await relay.url())
    try:
        await publish(url, events)
        yield url
    finally:
        relay.shutdown()


async def publish(url: str, events: Iterable[Signed]) -> list[str]:
    """Give a relay these events; return what it says to those that it does not take."""
    refused, left = list[str](), list(events)
    while left:
        some, left = left[:2000], left[2000:]
        async with connected(url) as relay:
            for event in some:
                await relay.send("EVENT", event)
            answered = 0
            while answered < len(some):
                frame = await relay.next()
                answered += frame.verb == "OK"
                if frame.verb == "OK" and frame.words[0] is not True:
                    refused.append(frame.reason)
    return refused


async def held(url: str, kinds: Sequence[int] = tuple(range(20)), authors: Sequence[Author] = (ANNE, BERT, CARL)) -> set[str]:
    """Return the ids of what a relay holds."""
    found: set[str] = set()
    async with connected(url) as relay:
        pages = Pages(Wanted(tuple(kinds), 0, 2 * NOW, tuple(author.pubkey for author in authors)), 500)
        while not pages.done:
            page: list[Any] = []
            await read(relay, [pages.question()], [page])
            found |= {frame.id for frame in pages.answer(page)}
    return found


def ids(events: Iterable[Signed]) -> set[str]:
    return {event["id"] for event in events}


def peer(url: str, name: str = "peer") -> Peer:
    async def opened() -> str:
        return url

    return Peer(name, name, opened)


def job(*urls: str, local: str | None = None, **more: Any) -> Job:
    """A job for the three authors over the last day."""
    authors = tuple(sorted(author.pubkey for author in (ANNE, BERT, CARL)))
    options: dict[str, Any] = {"authors": authors, "kinds": (0, 1, 3, 5, 7), "since": NOW - 86_400, "until": NOW + 10}
    peers = tuple(peer(url, f"peer-{number}") for number, url in enumerate(urls))
    return Job(peers, local=local, **options | {"profiles": False} | more)


class Bad:
    """One connection to a relay of our own making: what a test's behaviour gets to say."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket

    async def say(self, *words: Any) -> None:
        await self.socket.send_str(json.dumps(words))

    async def give(self, name: str, events: Iterable[Signed]) -> None:
        for event in events:
            await self.say("EVENT", name, event)


Behaviour = Callable[[Bad, list[Any]], Awaitable[None]]


@asynccontextmanager
async def bad_relay(behave: Behaviour, document: dict[str, Any] | None = None) -> AsyncIterator[str]:
    """Run a relay that does `behave` for each message; it lacks NIP-77 unless its `document` says nothing."""
    about = {"supported_nips": [1, 11]} if document is None else document

    async def answer(request: web.Request) -> web.StreamResponse:
        if "upgrade" not in request.headers:
            return web.json_response(about)
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await behave(Bad(socket), json.loads(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/", answer)
    async with running(app) as address:
        yield address


@asynccontextmanager
async def running(app: web.Application) -> AsyncIterator[str]:
    """Serve `app` on a free port; its ws:// URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"ws://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


def serving(events: Iterable[Signed], cap: int = 500) -> Behaviour:
    """Behave as a good relay does, with pages of `cap`."""
    held = sorted(events, key=lambda event: (-event["created_at"], event["id"]))

    async def behave(bad: Bad, message: list[Any]) -> None:
        if message[0] == "REQ":
            wanted = [event for event in held if all(matches(event, each) for each in message[2:])]
            await bad.give(message[1], wanted[: min(cap, message[2].get("limit", cap))])
            await bad.say("EOSE", message[1])

    return behave


def matches(event: Signed, asked: dict[str, Any]) -> bool:
    return (
        event["kind"] in asked.get("kinds", [event["kind"]])
        and event["pubkey"] in asked.get("authors", [event["pubkey"]])
        and event["id"] in asked.get("ids", [event["id"]])
        and asked.get("since", 0) <= event["created_at"] <= asked.get("until", 2**53)
    )


@asynccontextmanager
async def proxy(url: str, *, drop: str = "nothing", hang_up_at: str = "nothing") -> AsyncIterator[str]:
    """Stand between a client and the relay at `url`: keep its messages of the kind `drop`, hang up at those with a text."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if "upgrade" not in request.headers:
            return web.json_response({})
        near = web.WebSocketResponse(max_msg_size=0)
        await near.prepare(request)
        async with ClientSession() as session, session.ws_connect(url, max_msg_size=0) as far:

            async def back() -> None:
                async for message in far:
                    if hang_up_at in message.data:
                        await near.close()
                    elif not message.data.startswith(f'["{drop}"'):
                        await near.send_str(message.data)

            returning = asyncio.create_task(back())
            async for message in near:
                await far.send_str(message.data)
            returning.cancel()
        return near

    app = web.Application()
    app.router.add_get("/", answer)
    async with running(app) as address:
        yield address


class keeping:  # noqa: N801 - reads as a behaviour
    """Behave as a good relay without NIP-77 does, that keeps what it is given."""

    def __init__(self, events: Iterable[Signed], cap: int = 500) -> None:
        self.events = list(events)
        self.cap = cap

    async def __call__(self, bad: Bad, message: list[Any]) -> None:
        if message[0] == "EVENT":
            known = any(event["id"] == message[1]["id"] for event in self.events)
            if not known:
                self.events.append(message[1])
            await bad.say("OK", message[1]["id"], True, "duplicate: have it" if known else "")
        else:
            await serving(self.events, self.cap)(bad, message)

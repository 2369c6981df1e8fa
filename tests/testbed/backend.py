"""A node's answers without a node: plain values behind the real control API, on a real Unix socket.

`python -m tests.testbed.backend HOME` serves them until it is ended, for the benchmark of the command line.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

from dragon.api import Document, serve_api
from dragon.config import ApiSettings
from dragon.errors import NoProvider, UnknownService
from dragon.home import Home
from tests.testbed.loops import drained

ALPHA = "12D3KooWBhvjEYbKrqBALPHAaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
BETA = "12D3KooWBhvjEYbKrqBBETAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"


def a_peer(node_id: str = ALPHA, alias: str = "alpha", **fields: Any) -> Document:
    offer = {
        "slug": "ollama",
        "protocol": f"/x/ollama-{node_id}",
        "port": 11434,
        "scheme": "http",
        "labels": {"model": "llama3.2"},
        "health": "passing",
        "load": 0.25,
    }
    return {
        "id": node_id,
        "alias": alias,
        "state": "live",
        "trust": "signed",
        "last_seen": 3.5,
        "sequence": 1700000000000,
        "source": "pubsub",
        "rtt_ms": 1.25,
        "self": False,
        "offers": [offer],
        **fields,
    }


def a_provider(node_id: str = ALPHA, alias: str = "alpha", **fields: Any) -> Document:
    return {
        "n": 1,
        "id": node_id,
        "alias": alias,
        "state": "live",
        "trust": "signed",
        "health": "passing",
        "load": 0.25,
        "rtt_ms": 1.25,
        "labels": {"model": "llama3.2"},
        **fields,
    }


def a_performance(node_id: str = ALPHA, alias: str = "alpha", **fields: Any) -> Document:
    return {
        "slug": "ollama",
        "n": 1,
        "id": node_id,
        "alias": alias,
        "state": "live",
        "route": "p2p",
        "attempts": 12,
        "failures": 1,
        "latency_ms": 8.25,
        "p50_ms": 7.0,
        "p95_ms": 41.0,
        "samples": 11,
        "bytes_per_second": 2_500_000.0,
        "sent": 1200,
        "received": 34_000_000,
        "in_flight": 2,
        "breaker": "closed",
        "last_failure": "reset",
        "used": 3.0,
        **fields,
    }


def a_constellation(**fields: Any) -> Document:
    """What a node without people and peers says of its constellation."""
    return {
        "swarm": "dragon",
        "uplanet": "",
        "station": None,
        "authors": {"own": 0, "total": 0, "left_out": 0, "nodes": []},
        "people": [],
        "hexes": [],
        "peers": [],
        "local": {"url": None, "tool": None},
        **fields,
    }


class PlainBackend:
    """`dragon.api.Backend` over attributes that a test sets; `asked` records what came through."""

    def __init__(self) -> None:
        self.known_peers: list[Document] = [a_peer(), a_peer(BETA, "beta", self=True, offers=[], rtt_ms=None)]
        self.known_services: list[Document] = [{"slug": "ollama", "providers": [a_provider()]}]
        self.open: list[Document] = []
        self.performed: list[Document] = [a_performance()]
        self.restart: list[str] = []
        self.findings: list[Document] = [
            {"name": "kubo", "ok": True, "detail": "0.43.0", "fix": "", "fixable": False},
            {"name": "pubsub", "ok": False, "detail": "off", "fix": "ipfs config --json Pubsub.Enabled true", "fixable": True},
        ]
        self.known_constellation: Document = a_constellation()
        self.variables: dict[str, str] = {"OLLAMA_API_BASE": "http://127.0.0.1:11434"}
        self.failure: BaseException | None = None
        self.asked: list[tuple[Any, ...]] = []
        self.listeners: list[Callable[[], None]] = []
        self.left = asyncio.Event()
        """Set when a watch has let go of its callback."""

    async def status(self) -> Document:
        self._step("status")
        return {
            "id": BETA,
            "alias": "beta",
            "swarm": "dragon",
            "addresses": [f"/ip4/127.0.0.1/tcp/4001/p2p/{BETA}"],
            "peers": 1,
            "offers": 0,
            "kubo": {"api": "/ip4/127.0.0.1/tcp/5001", "version": "0.43.0", "managed": True},
            "dashboard": None,
        }

    async def peers(self) -> list[Document]:
        self._step("peers")
        return self.known_peers

    async def refresh(self) -> None:
        self._step("refresh")

    async def services(self, slug: str | None) -> list[Document]:
        self._step("services", slug)
        if slug is not None and slug not in {one["slug"] for one in self.known_services}:
            raise UnknownService(f"no service is called {slug}", "did you mean ollama?")
        return [one for one in self.known_services if slug in (None, one["slug"])]

    async def forward(
        self,
        slug: str,
        *,
        target: str,
        where: Mapping[str, str],
        via: str | None,
        spread: bool,
        port: int | None,
        raw: bool,
        strategy: str | None = None,
        pool: int | Literal["auto"] | None = None,
    ) -> Document:
        self._step("forward", slug, target, dict(where), via, spread, port, raw, *(each for each in (strategy, pool) if each))
        if slug != "ollama":
            raise NoProvider(f"nobody offers {slug}", "see who offers what: dragon services")
        reused = bool(self.open)
        host, local = "127.0.0.1", port or 11434
        opened = {"slug": slug, "provider": ALPHA, "route": "p2p", "host": host, "port": local, "url": f"http://{host}:{local}"}
        if not reused:
            self.open.append({**opened, "connections": 0})
        return {**opened, "reused": reused}

    async def forwards(self) -> list[Document]:
        self._step("forwards")
        return self.open

    async def providers(self, slug: str) -> list[Document]:
        self._step("providers", slug)
        if slug != "ollama":
            raise UnknownService(f"no service is called {slug}", "did you mean ollama?")
        return self.performed

    async def off(self, slug: str | None, port: int | None = None) -> int:
        self._step("off", slug, *([port] if port else []))
        closing = [one for one in self.open if slug in (None, one["slug"]) and port in (None, one["port"])]
        self.open = [one for one in self.open if one not in closing]
        return len(closing)

    async def check(self, slug: str, *, port: int | None, via: str | None) -> Document:
        self._step("check", slug, port, via)
        standing = [one for one in self.open if one["slug"] == slug and via is None]
        if not standing:
            raise NoProvider(f"no connection to {slug}", f"open one: dragon forward {slug}")
        return {**standing[0], "ok": True, "detail": "GET /api/tags → 200", "rtt_ms": 1.5}

    async def explain(self, slug: str) -> Document:
        self._step("explain", slug)
        candidate = {
            "id": ALPHA,
            "alias": "alpha",
            "slug": slug,
            "verdict": "chosen",
            "reason": "lowest latency",
            "route": "p2p",
            "said": {"trust": "signed", "source": "pubsub", "health": "passing", "load": 0.25, "labels": {}, "heard": 3.5},
            "measured": {"latency_ms": 1.5},
        }
        because = {"chosen": ALPHA, "because": "the only one", "strategy": "p2c", "cascade": ["local", "p2p"]}
        return {"slug": slug, **because, "candidates": [candidate]}

    async def env(self, slug: str) -> Document:
        self._step("env", slug)
        return {"slug": slug, "variables": self.variables}

    async def constellation(self) -> Document:
        self._step("constellation")
        return self.known_constellation

    async def doctor(self) -> list[Document]:
        self._step("doctor")
        return self.findings

    async def repair(self, names: Sequence[str]) -> list[Document]:
        self._step("repair", tuple(names))
        self.findings = [{**one, "ok": one["ok"] or one["name"] in names} for one in self.findings]
        return self.findings

    async def offering(self, on: bool) -> Document:
        self._step("offering", on)
        return {"offering": on, "offers": int(on)}

    async def reload(self) -> Document:
        self._step("reload")
        return {"changed": ["catalogue.private"], "restart": self.restart}

    def on_change(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.listeners.append(callback)

        def stop() -> None:
            self.listeners.remove(callback)
            self.left.set()

        return stop

    def change(self) -> None:
        """Tell the watches, from the event loop, that something reads otherwise."""
        for listener in tuple(self.listeners):
            listener()

    def _step(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure


class ServedBackend:
    """A `PlainBackend` whose API runs in a thread of its own, for code that blocks."""

    def __init__(self, backend: PlainBackend, home: Home, loop: asyncio.AbstractEventLoop) -> None:
        self.backend, self.home, self._loop = backend, home, loop

    def change(self) -> None:
        self._loop.call_soon_threadsafe(self.backend.change)


@contextmanager
def served(home: Home, backend: PlainBackend | None = None) -> Iterator[ServedBackend]:
    """Serve `backend` on the control socket of `home` until the context ends."""
    backend = backend or PlainBackend()
    started, loop = threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()
    trouble: list[BaseException] = []

    async def serve() -> None:
        try:
            async with serve_api(backend, home, pace=0.0, patience=0.05):
                started.set()
                await stop.wait()
        except BaseException as error:
            trouble.append(error)
            started.set()
            raise

    def run() -> None:
        loop.run_until_complete(serve())
        loop.run_until_complete(drained())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    started.wait(30)
    if trouble:
        thread.join(30)
        loop.close()
        raise trouble[0]
    try:
        yield ServedBackend(backend, home, loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


@asynccontextmanager
async def api(home: Home, backend: PlainBackend, settings: ApiSettings | None = None) -> AsyncIterator[Any]:
    async with serve_api(backend, home, settings, pace=0.0, patience=0.05) as doors:
        yield doors


async def _stay(home: Home) -> None:
    backend = PlainBackend()
    async with serve_api(backend, home):
        print("serving", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_stay(Home(Path(sys.argv[1]))))

"""A node for tests of the command language: what it offers is set, what is asked of it is kept, ports go as they would."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dragon.errors import DragonError, NoProvider, PortInUse, UnknownService, UsageError

OWL = "12D3KooWBhvjEYbKrqBALPHAaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
RAVEN = "12D3KooWBhvjEYbKrqBBETAbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
SELF = "12D3KooWAAAAAAAAAAAAAselfselfselfselfselfselfselfself"
NATIVE = {"ollama": 11434, "comfyui": 8188, "orpheus": 5005, "perplexica": 3001, "strfry": 9999, "qdrant": 6333, "vane": 3002}

Document = dict[str, Any]


def provider(node_id: str, alias: str, n: int = 1, **fields: Any) -> Document:
    return {"n": n, "id": node_id, "alias": alias, "state": "live", "trust": "signed", "health": "passing", "load": 0.0,
            "rtt_ms": None, "labels": {}, "self": node_id == SELF, **fields}  # fmt: skip


class FakeControl:
    """`offers`: slug → providers, the first is chosen; `local`: slug → port; `dead`: node ids whose service does not answer."""

    def __init__(
        self, offers: Mapping[str, Sequence[Document]] | None = None, *, local: Mapping[str, int] | None = None
    ) -> None:
        self.offers = {slug: list(providers) for slug, providers in (offers or {}).items()}
        self.local = dict(local or {})
        self.native: dict[str, int] = {}
        """Where others' services listen, when not where `NATIVE` says."""
        self.private: dict[str, int] = {}
        """Services of this machine that are offered to nobody, as are those that the catalogue's evidence does not fit."""
        self.production = False
        self.ssh: tuple[str, ...] = ()
        self.dead: set[str] = set()
        self.taken: set[int] = set()
        self.open: list[Document] = []
        self.asked: list[tuple[Any, ...]] = []
        self.stations: dict[str, Document] = {}
        self.failure: DragonError | None = None

    def services(self, slug: str | None = None) -> list[Document]:
        self._step("services", slug)
        if slug not in NATIVE:
            raise UnknownService(f"no service {slug!r} in the catalogue", "did you mean ollama?")
        return [{"slug": slug, "providers": self.offers.get(slug, [])}]

    def forward(
        self, slug: str, target: str = "auto", *, via: str | None = None, port: int | None = None, strategy: str | None = None
    ) -> Document:
        self._step("forward", slug, target, via, port, strategy)
        key = (slug, target, via, strategy)
        for one in self.open:
            if one["key"] == key and port in (None, one["port"]):
                return {**one, "reused": True}
        if slug in self.local and via in (None, "local"):
            native = self.local[slug]
            if port in (None, native):
                return self._document(slug, SELF, "local", native, key)
            return self._keep(self._document(slug, SELF, "local", self._bind(slug, port), key))
        if via == "local":
            raise NoProvider(f"{slug} does not run here", "start it")
        if via in ("ssh6", "ssh4"):
            if via not in self.ssh:
                raise UsageError(f"route {via} is not set up: no host is configured for it", "set [ssh] host")
            return self._keep(self._document(slug, f"{via}:frd@scorpio.example:2122", via, self._bind(slug, port), key))
        for each in self.offers.get(slug, []):
            if not each["self"] and target in ("auto", each["id"]) and each["id"] not in self.dead:
                return self._keep(self._document(slug, each["id"], "p2p", self._bind(slug, port), key))
        raise NoProvider(f"nobody offers {slug}", "wait for one")

    def forwards(self) -> list[Document]:
        self._step("forwards")
        return [{key: value for key, value in one.items() if key not in ("reused", "key")} for one in self.open]

    def off(self, slug: str | None = None, *, port: int | None = None) -> int:
        self._step("off", slug, port)
        closing = [one for one in self.open if one["slug"] == slug and port in (None, one["port"])]
        self.open = [one for one in self.open if one not in closing]
        return len(closing)

    def check(self, slug: str, *, port: int | None = None, via: str | None = None) -> Document:
        self._step("check", slug, port, via)
        here = {**self.private, **self.local}
        standing = [one for one in self.open if one["slug"] == slug and via is None]
        standing.sort(key=lambda one: one["port"] != port)
        if standing:
            found = standing[0]
        elif slug in here:
            found = self._document(slug, SELF, "local", here[slug], None)
        else:
            raise NoProvider(f"no connection to {slug}", "open one")
        ok = found["provider"] not in self.dead
        told = {"ok": ok, "detail": "GET / → 200" if ok else "no answer within 5 s", "rtt_ms": 1.0}
        return {key: value for key, value in found.items() if key not in ("reused", "key")} | told

    def explain(self, slug: str) -> Document:
        return {"cascade": ["p2p"] if self.production else ["local", *self.ssh, "p2p"]}

    def peers(self) -> list[Document]:
        return [{"id": node_id, "station": station} for node_id, station in self.stations.items()]

    def routes(self) -> list[tuple[Any, ...]]:
        """What forwards were asked for: (target, via, port, strategy)."""
        return [step[2:] for step in self.asked if step[0] == "forward"]

    def _bind(self, slug: str, port: int | None) -> int:
        used = {one["port"] for one in self.open} | self.taken
        if port is not None and port in used:
            raise PortInUse(f"port {port} of 127.0.0.1 is taken", "ask for another")
        return port or next(each for each in (self.native.get(slug, NATIVE[slug]), *range(21220, 21320)) if each not in used)

    def _document(self, slug: str, node_id: str, route: str, port: int, key: Any) -> Document:
        scheme = "ws" if slug == "strfry" else "http"
        url = f"{scheme}://127.0.0.1:{port}"
        return {"slug": slug, "provider": node_id, "route": route, "host": "127.0.0.1", "port": port, "url": url,
                "reused": False, "key": key}  # fmt: skip

    def _keep(self, document: Document) -> Document:
        self.open.append(document)
        return document

    def _step(self, *what: Any) -> None:
        self.asked.append(what)
        if self.failure is not None:
            raise self.failure

"""The routes under /v1: each one request, one call of the backend, one answer."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from dragon import __version__
from dragon.api.answers import answer
from dragon.api.backend import Backend
from dragon.api.requests import (
    CheckRequest,
    DoctorRequest,
    ForwardRequest,
    OfferingRequest,
    OffRequest,
    SlugRequest,
    flag,
    number,
    read,
    read_body,
)
from dragon.api.watch import Watches

API_VERSION = 1
"""The number in the path. Fields may be added under it, never change their meaning."""


class Routes:
    def __init__(self, backend: Backend, watches: Watches) -> None:
        self._backend = backend
        self._watches = watches

    def table(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/version", self.version),
            web.get("/v1/status", self.status),
            web.get("/v1/peers", self.peers),
            web.post("/v1/refresh", self.refresh),
            web.get("/v1/services", self.services),
            web.get("/v1/services/{slug}", self.services),
            web.get("/v1/providers/{slug}", self.providers),
            web.get("/v1/forwards", self.forwards),
            web.post("/v1/forwards", self.forward),
            web.delete("/v1/forwards", self.off),
            web.delete("/v1/forwards/{slug}", self.off),
            web.get("/v1/check/{slug}", self.check),
            web.get("/v1/explain/{slug}", self.explain),
            web.get("/v1/env/{slug}", self.env),
            web.get("/v1/constellation", self.constellation),
            web.get("/v1/doctor", self.doctor),
            web.post("/v1/doctor", self.repair),
            web.post("/v1/offering", self.offering),
            web.post("/v1/reload", self.reload),
        ]

    async def version(self, request: web.Request) -> web.StreamResponse:
        return answer({"version": __version__, "api": API_VERSION})

    async def status(self, request: web.Request) -> web.StreamResponse:
        return await self._listing(request, self._backend.status)

    async def peers(self, request: web.Request) -> web.StreamResponse:
        return await self._listing(request, self._backend.peers)

    async def refresh(self, request: web.Request) -> web.StreamResponse:
        await self._backend.refresh()
        return answer({})

    async def services(self, request: web.Request) -> web.StreamResponse:
        slug = _slug(request) if "slug" in request.match_info else None
        return await self._listing(request, lambda: self._backend.services(slug))

    async def providers(self, request: web.Request) -> web.StreamResponse:
        slug = _slug(request)
        return await self._listing(request, lambda: self._backend.providers(slug))

    async def forwards(self, request: web.Request) -> web.StreamResponse:
        return await self._listing(request, self._backend.forwards)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        wish = read_body(ForwardRequest, await request.read())
        return answer(
            await self._backend.forward(
                wish.slug,
                target=wish.target,
                where=wish.where,
                via=wish.via,
                spread=wish.spread,
                port=wish.port,
                raw=wish.raw,
                strategy=wish.strategy,
                pool=wish.pool,
            )
        )

    async def off(self, request: web.Request) -> web.StreamResponse:
        wish = read(OffRequest, {"slug": request.match_info.get("slug"), "port": number(request.query.get("port"))})
        return answer({"closed": await self._backend.off(wish.slug, wish.port)})

    async def check(self, request: web.Request) -> web.StreamResponse:
        query = {"port": number(request.query.get("port")), "via": request.query.get("via")}
        wish = read(CheckRequest, {"slug": request.match_info["slug"], **query})
        return answer(await self._backend.check(wish.slug, port=wish.port, via=wish.via))

    async def explain(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.explain(_slug(request)))

    async def env(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.env(_slug(request)))

    async def constellation(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.constellation())

    async def doctor(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.doctor())

    async def repair(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.repair(read_body(DoctorRequest, await request.read()).fix))

    async def offering(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.offering(read_body(OfferingRequest, await request.read()).on))

    async def reload(self, request: web.Request) -> web.StreamResponse:
        return answer(await self._backend.reload())

    async def _listing(self, request: web.Request, produce: Any) -> web.StreamResponse:
        if flag(request.query.get("watch")):
            return await self._watches.serve(request, produce)
        return answer(await produce())


def _slug(request: web.Request) -> str:
    return read(SlugRequest, {"slug": request.match_info["slug"]}).slug

"""The running control API: routes, doors, and the check at the door that faces browsers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Middleware

from dragon.api.access import Caller, refusal
from dragon.api.answers import Handler, errors_as_json, failure
from dragon.api.backend import Backend
from dragon.api.requests import MAX_BODY
from dragon.api.routes import Routes
from dragon.api.sockets import BACKLOG, api_token, control_socket, loopback_socket
from dragon.api.watch import PACE, PATIENCE, Watches
from dragon.config import ApiSettings
from dragon.home import Home, write_atomically

ARRIVAL_TURNS = 5
"""Turns of the event loop from the kernel's accept until asyncio has handed a connection over; three, and room."""

SHUTDOWN_TIMEOUT = 2.0
"""Seconds that running requests get when the node stops; watches are ended at once."""


@dataclass(frozen=True, slots=True)
class Doors:
    """Where the API listens: its Unix socket, and the loopback port where that was asked for."""

    socket: Path
    port: int | None


@asynccontextmanager
async def serve_api(
    backend: Backend, home: Home, settings: ApiSettings | None = None, *, pace: float = PACE, patience: float = PATIENCE
) -> AsyncIterator[Doors]:
    """Serve `backend` on the home's control socket, and on TCP where `settings` say so, as long as the context is open.

    Raises `HomeError` (the socket's folder, or another node answers there) and `PortInUse`.
    """
    settings = settings or ApiSettings()
    watches = Watches(backend.on_change, pace, patience)
    async with AsyncExitStack() as stack:
        doors = [stack.enter_context(control_socket(home.control_socket))]
        await asyncio.to_thread(write_atomically, home.control_pointer, f"{home.control_socket}\n".encode())
        stack.callback(home.control_pointer.unlink, missing_ok=True)
        port: int | None = None
        token = ""
        if settings.tcp is not None:
            token = api_token(home.root / "api.token")
            doors.append(stack.enter_context(loopback_socket(settings.tcp)))
            port = doors[-1].getsockname()[1]
        app = web.Application(client_max_size=MAX_BODY, middlewares=[errors_as_json, _door_check(token)])
        app.add_routes(Routes(backend, watches).table())
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_TIMEOUT)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.callback(watches.close)
        for door in doors:
            await web.SockSite(runner, door, backlog=BACKLOG).start()  # it listens anew, with its own idea of a queue
        stack.push_async_callback(_stop_accepting, runner)
        yield Doors(home.control_socket, port)


async def _stop_accepting(runner: web.AppRunner) -> None:
    """Accept nobody more, and let those who were being accepted arrive: they are then closed with the rest, not forgotten."""
    for site in list(runner.sites):
        await site.stop()
    for _ in range(ARRIVAL_TURNS):
        await asyncio.sleep(0)


def _door_check(token: str) -> Middleware:
    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        door = request.transport.get_extra_info("sockname") if request.transport is not None else None
        if isinstance(door, tuple):  # a TCP socket's name; a Unix socket's is its path
            headers = request.headers
            caller = Caller(
                request.method,
                headers.get("Host"),
                headers.get("Origin"),
                headers.get("Authorization"),
                headers.get("Content-Type"),
            )
            if refused := refusal(caller, port=door[1], token=token):
                return failure(refused.status, refused.error, refused.hint)
        return await handler(request)

    return check

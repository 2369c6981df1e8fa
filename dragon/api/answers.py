"""Answers and errors as JSON: `{"error", "hint", "exit_code", "kind"}`, with the HTTP status that fits."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from dragon.errors import (
    AmbiguousNode,
    ConfigError,
    DragonError,
    LocalError,
    NoProvider,
    PortInUse,
    UnknownService,
    UsageError,
)

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_STATUS: tuple[tuple[type[DragonError], HTTPStatus], ...] = (
    (UnknownService, HTTPStatus.NOT_FOUND),
    (AmbiguousNode, HTTPStatus.CONFLICT),
    (UsageError, HTTPStatus.BAD_REQUEST),
    (PortInUse, HTTPStatus.CONFLICT),
    (ConfigError, HTTPStatus.UNPROCESSABLE_ENTITY),
    (NoProvider, HTTPStatus.SERVICE_UNAVAILABLE),
    (LocalError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (DragonError, HTTPStatus.BAD_GATEWAY),
)
"""First match wins; a RemoteError that comes this far is a peer's failure."""


def dumps(document: Any) -> str:
    """Return `document` as JSON on one line; raises `ValueError` for a number that JSON does not know."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def answer(document: Any) -> web.Response:
    """Return the response 200 with `document`."""
    return web.json_response(text=dumps(document))


def error_document(error: DragonError) -> dict[str, Any]:
    """Return what a client is told of `error`; `kind` is its type's name, so that a program can catch what it means."""
    return {
        "error": str(error),
        "hint": error.hint if isinstance(error, LocalError) else "",
        "exit_code": error.exit_code if isinstance(error, LocalError) else 1,
        "kind": type(error).__name__,
    }


def failure(status: int, error: str, hint: str, exit_code: int = 1) -> web.Response:
    """Return the response for an error of ours; `exit_code` is the one of the command that asked."""
    document = {"error": error, "hint": hint, "exit_code": exit_code, "kind": "LocalError"}
    return web.json_response(text=dumps(document), status=status)


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every error of a handler into its JSON; one we did not expect is logged with its traceback, and told as such."""
    try:
        return await handler(request)
    except DragonError as error:
        status = next(status for kind, status in _STATUS if isinstance(error, kind))
        return web.json_response(text=dumps(error_document(error)), status=status)
    except web.HTTPException as error:
        hint = "this node's version may be another than the command's: compare `dragon version`" if error.status == 404 else ""
        return failure(error.status, f"{request.method} {request.path}: {error.reason}", hint, exit_code=2)
    except Exception:
        log.exception("a request to the control API failed: %s %s", request.method, request.path)
        return failure(500, "the node hit an error of its own", "its log has the details: please report them")

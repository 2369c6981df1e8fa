"""One HTTP request to a service at a port of this machine."""

from __future__ import annotations

import http.client
import json
from typing import Any

from dragon.errors import LocalError

TIMEOUT = 5.0
"""Seconds for a connection and for each part of an answer; the managers give a connection as long."""

UNLOADING = 60.0
"""Seconds for a model to leave the memory of a busy machine."""

MAX_ANSWER = 8 << 20
"""Bytes of one answer: an ollama with thousands of models stays below it."""


def ask_json(
    port: int, method: str, path: str, body: object = None, *, accept: str = "application/json", timeout: float = TIMEOUT
) -> Any:
    """Return the JSON that the service answers, None for an answer without content. Raises `LocalError`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    headers = {"Accept": accept, "Connection": "close"}
    data = None
    if body is not None:
        data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
    try:
        connection.request(method, path, body=data, headers=headers)
        response = connection.getresponse()
        content = response.read(MAX_ANSWER)
    except (OSError, http.client.HTTPException) as error:
        raise LocalError(
            f"{method} {path} at port {port}: {error or type(error).__name__}", "test it: dragon me … TEST"
        ) from error
    finally:
        connection.close()
    if not 200 <= response.status < 300:
        raise LocalError(f"{method} {path} at port {port} → {response.status}", "its own log may say more")
    try:
        return json.loads(content) if content.strip() else None
    except ValueError:
        if method == "POST":
            return None  # what was to be done is done; some say so in words
        raise LocalError(
            f"{method} {path} at port {port}: the answer is not JSON", "another program may answer there"
        ) from None

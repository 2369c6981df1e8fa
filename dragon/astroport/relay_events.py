"""The events of some authors from the local relay: one bounded REQ over a WebSocket (NIP-01)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from dragon.astroport.station_keys import KIND
from dragon.errors import LocalError

LOCAL_RELAY = "ws://127.0.0.1:7777"
"""Where a station's strfry listens."""

TIMEOUT = 10.0
"""Seconds for the whole answer: the relay is on this machine."""

MAX_MESSAGE = 128 * 1024
"""Bytes of one message; strfry takes events up to 64 KiB by default."""

MAX_EVENTS = 500
"""Events of one answer: what strfry gives at most by default (maxFilterLimit)."""

MAX_AUTHORS = 500
"""Authors of one filter; more are asked for in further filters of the same size."""

_SUBSCRIPTION = "dragon-keys"


async def station_events(url: str, authors: Sequence[str], since: int) -> list[object]:
    """Return what the relay at `url` has of kind 30850 by `authors` since `since` (Unix seconds), unverified.

    Raises `LocalError` when the relay does not answer in time: an incomplete answer is none.
    """
    import aiohttp

    found: list[object] = []
    try:
        async with (
            asyncio.timeout(TIMEOUT),
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=MAX_MESSAGE, autoping=True) as relay,
        ):
            for start in range(0, len(authors), MAX_AUTHORS):
                batch = list(authors[start : start + MAX_AUTHORS])
                await relay.send_json(
                    ["REQ", _SUBSCRIPTION, {"kinds": [KIND], "authors": batch, "since": since, "limit": MAX_EVENTS}]
                )
                found += await _answer(relay, url)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise LocalError(
            f"the relay {url} does not answer ({error or 'no answer in time'})", "start it; see [constellation] relay"
        ) from error
    return found


async def _answer(relay: object, url: str) -> list[object]:
    """Return the events until EOSE. Anything else of the relay is passed over, within a bound."""
    import aiohttp

    assert isinstance(relay, aiohttp.ClientWebSocketResponse)
    events: list[object] = []
    for _ in range(2 * MAX_EVENTS):
        message = await relay.receive()
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise LocalError(f"the relay {url} ended the answer", "see its log")
        try:
            words = json.loads(message.data)
        except (ValueError, RecursionError):
            raise LocalError(f"what answers at {url} is no NOSTR relay", "see [constellation] relay") from None
        match words:
            case ["EVENT", str(name), event] if name == _SUBSCRIPTION:
                events.append(event)
            case ["EOSE", str(name)] if name == _SUBSCRIPTION:
                return events
            case ["CLOSED", str(name), *reason] if name == _SUBSCRIPTION:
                raise LocalError(f"the relay {url} refused: {str(reason[:1])[:100]}", "see its log")
            case _:
                continue
    raise LocalError(f"the relay {url} does not come to an end", "see its log")

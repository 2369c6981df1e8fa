"""The API test: does what answers at a port behave as the service should? Used here and towards a fresh forward.

By the entry: an HTTP path with accepted codes; for a NOSTR relay (scheme `ws`) the relay's information document (NIP-11) or any
2xx; for `ssh` the identification line of RFC 4253 §4.2; otherwise that a TCP connection is taken.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from dragon.probe.entry import CatalogueEntry, Health
from registry_schema.labels import spell_list

if TYPE_CHECKING:
    import aiohttp

MAX_BODY: Final = 1 << 20
"""Bytes read of an answer. An ollama with hundreds of models says 200 kB; more than this says nothing further about health."""

MAX_BANNER_LINES: Final = 20
"""Lines an SSH server may say before its identification (RFC 4253 allows any number)."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """What one test of one port showed."""

    __test__ = False  # not a pytest class, whatever its name

    ok: bool
    health: Health
    """`passing`, or `critical`: one test knows nothing between them."""
    detail: str
    """For people: the code, the banner, or what went wrong."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the answer tells of the service (ollama: its models)."""
    rtt: float = 0.0
    """Seconds from the first packet to the end of the answer."""
    connected: bool = True
    """False when not even a TCP connection was taken: then nothing listens."""
    timed_out: bool = False
    cut_short: bool = False
    """The other side ended the connection before its answer was complete: a tunnel does that now and then, or refuses so."""


async def test_service(
    entry: CatalogueEntry,
    host: str,
    port: int,
    *,
    timeout: float,
    session: aiohttp.ClientSession | None = None,  # noqa: PT028
) -> TestResult:
    """Return what the test of `entry` shows at `host`:`port`, within `timeout` seconds. Never raises for the other side."""
    if entry.test is not None:
        import aiohttp  # noqa: F401  # the first import takes 0.2 s, which are not the service's
    started = time.monotonic()
    try:
        async with asyncio.timeout(timeout):
            if entry.scheme == "ssh":
                result = await _banner(host, port)
            elif entry.test is not None:
                result = await _http(entry, host, port, session)
            else:
                result = await _connection(host, port)
    except TimeoutError:
        result = replace(_failed(f"no answer within {timeout:g} s"), timed_out=True)
    return replace(result, rtt=time.monotonic() - started)


def _passed(detail: str, labels: Mapping[str, str] | None = None) -> TestResult:
    return TestResult(True, "passing", detail, labels or {})


def _failed(detail: str, *, connected: bool = True) -> TestResult:
    return TestResult(False, "critical", detail, connected=connected)


def _unreachable(error: OSError) -> TestResult:
    return _failed(f"no connection: {error.strerror or error}", connected=False)


async def _connection(host: str, port: int) -> TestResult:
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        return _unreachable(error)
    await _close(writer)
    return _passed("takes connections")


async def _banner(host: str, port: int) -> TestResult:
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=1024)
    except OSError as error:
        return _unreachable(error)
    try:
        for _ in range(MAX_BANNER_LINES):
            line = await reader.readline()
            if line.startswith((b"SSH-2.0-", b"SSH-1.99-")):
                return _passed(line.decode("utf-8", "replace").strip())
            if not line:
                return replace(_failed("no SSH banner: the connection ended"), cut_short=True)
    except (OSError, ValueError) as error:  # ValueError: a line beyond the limit
        return replace(_failed(f"no SSH banner: {error}"), cut_short=isinstance(error, OSError))
    finally:
        await _close(writer)
    return _failed("no SSH banner")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _http(entry: CatalogueEntry, host: str, port: int, session: aiohttp.ClientSession | None) -> TestResult:
    import aiohttp  # 0.2 s and 15 MB that a command line which only parses the catalogue does not need

    async with AsyncExitStack() as stack:
        if session is None:
            session = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)))
        is_relay = entry.scheme in ("ws", "wss")
        scheme = "https" if entry.scheme in ("https", "wss") else "http"
        try:
            async with session.get(
                f"{scheme}://{host}:{port}{entry.test}",
                headers={"Accept": "application/nostr+json" if is_relay else "*/*"},
                allow_redirects=False,  # 302 is an answer of its own here, and a redirect may lead off this machine
                ssl=False,  # a service on loopback signs its certificate itself; the tunnel proves the node
            ) as response:
                body = await _read(response)
        except aiohttp.ClientConnectorError as error:
            return _unreachable(error.os_error)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
            return replace(_failed(f"GET {entry.test}: {error or type(error).__name__}"), cut_short=True)
        except aiohttp.ClientResponseError:  # its own text is several lines with the provider's bytes in them
            return _failed(f"GET {entry.test}: what came back is not HTTP")
        except (aiohttp.ClientError, ValueError) as error:
            return _failed(f"GET {entry.test}: {error or type(error).__name__}")
        code = response.status
        accepted = code in entry.accept if entry.accept else 200 <= code <= 299
        if not accepted:
            return _failed(f"GET {entry.test} → {code}")
        return _passed(f"GET {entry.test} → {code}", read_labels(entry.reads, body))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return at most `MAX_BODY` bytes of the answer: an endless stream (radio) passes by its head."""
    parts: list[bytes] = []
    total = 0
    async for part in response.content.iter_any():
        parts.append(part)
        total += len(part)
        if total >= MAX_BODY:
            response.close()
            break
    return b"".join(parts)


def read_labels(reads: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Return the labels that a JSON answer tells, by the paths of `reads` (`models.*.name`); not JSON tells nothing."""
    if not reads:
        return {}
    try:
        document = json.loads(body)
    except ValueError:
        return {}
    labels: dict[str, str] = {}
    for key, path in reads.items():
        texts = (str(value) for value in _walk(document, path.split(".")) if isinstance(value, (str, int)))
        labels |= spell_list(key, texts)
    return labels


def _walk(value: Any, path: list[str]) -> Iterator[Any]:
    if not path:
        yield value
    elif path[0] == "*" and isinstance(value, list):
        for each in value:
            yield from _walk(each, path[1:])
    elif isinstance(value, dict) and path[0] in value:
        yield from _walk(value[path[0]], path[1:])

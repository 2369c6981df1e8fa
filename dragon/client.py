"""How programs on this machine talk to the running node: a thin synchronous transport, and `Dragon` for async programs.

The transport is http.client over the node's Unix socket, because every command of the CLI pays for its imports (aiohttp costs
0.2 s). Errors arrive as JSON and leave as the types of `dragon.errors`.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, Unpack
from urllib.parse import quote

from dragon import errors
from dragon.errors import DragonError, LocalError, NotRunning
from dragon.home import Home

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

ANSWER_TIMEOUT = 30.0
"""Seconds for an answer of the node: listings take milliseconds, the doctor's checks of a hung Kubo 5 s each."""

FORWARD_TIMEOUT = 180.0
"""Seconds for a forward: the whole cascade, with a dozen dead providers at 10 s each before the one that lives."""

MAX_ANSWER = 256 << 20
"""Bytes of one answer: 10,000 nodes with 8 offers of full labels stay below it."""

CROWDED = 0.01
"""Seconds until another try at a socket before which too many wait: the node takes that many in a few milliseconds."""

THREADS = 32
"""Requests of one `Dragon` at once: a forward may take many seconds, and the next one should not wait for it."""

Document = dict[str, Any]
Answer = TypeVar("Answer")


class ForwardOptions(TypedDict, total=False):
    """How a forward is wished for, in the words of `dragon forward`; what is left out is as there."""

    where: Mapping[str, str] | None
    """Labels that the provider must have."""
    via: str | None
    """The only route: `local`, `ssh6`, `ssh4` or `p2p`."""
    spread: bool
    port: int | None
    """The local port."""
    raw: bool
    strategy: str | None
    """`p2c`, `rotate`, `random` or `first`, where that is not what the node's settings say."""
    pool: int | str | None
    """How many providers are kept warm: a number, or `auto`."""


class Control:
    """The control API of the node of one home. Every call is one connection; all raise `NotRunning` when no node answers."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def status(self) -> Document:
        return self._object("GET", "/v1/status")

    def version(self) -> Document:
        return self._object("GET", "/v1/version")

    def peers(self) -> list[Document]:
        return self._listing("GET", "/v1/peers")

    def refresh(self) -> None:
        self._call("POST", "/v1/refresh", {})

    def services(self, slug: str | None = None) -> list[Document]:
        return self._listing("GET", _path("services", slug))

    def forward(self, slug: str, target: str = "auto", **options: Unpack[ForwardOptions]) -> Document:
        wish = {"slug": slug, "target": target, **options, "where": dict(options.get("where") or {})}
        return self._object("POST", "/v1/forwards", wish, timeout=FORWARD_TIMEOUT)

    def forwards(self) -> list[Document]:
        return self._listing("GET", "/v1/forwards")

    def providers(self, slug: str) -> list[Document]:
        """Return how the providers of `slug` performed, per route; see `dragon.api.Backend.providers`."""
        return self._listing("GET", _path("providers", slug))

    def off(self, slug: str | None = None, *, port: int | None = None) -> int:
        query = "" if port is None else f"?port={port}"
        return int(self._call("DELETE", f"{_path('forwards', slug)}{query}")["closed"])

    def check(self, slug: str, *, port: int | None = None, via: str | None = None) -> Document:
        """Test what `slug` leads to now, opening nothing; see `dragon.api.Backend.check`."""
        query = "&".join(f"{name}={value}" for name, value in (("port", port), ("via", via)) if value is not None)
        return self._object("GET", f"{_path('check', slug)}?{query}")

    def explain(self, slug: str) -> Document:
        return self._object("GET", _path("explain", slug))

    def env(self, slug: str) -> Document:
        return self._object("GET", _path("env", slug))

    def constellation(self) -> Document:
        """Return whom and what a NOSTR sync concerns, after every member was asked; see `dragon.api.Backend.constellation`."""
        return self._object("GET", "/v1/constellation", timeout=FORWARD_TIMEOUT)

    def doctor(self) -> list[Document]:
        return self._listing("GET", "/v1/doctor")

    def repair(self, names: list[str]) -> list[Document]:
        return self._listing("POST", "/v1/doctor", {"fix": names}, timeout=FORWARD_TIMEOUT)

    def offering(self, on: bool) -> Document:
        """Withdraw all offers of the node, or make them again; see `dragon.api.Backend.offering`."""
        return self._object("POST", "/v1/offering", {"on": on})

    def reload(self) -> Document:
        return self._object("POST", "/v1/reload", {})

    def watch(self, listing: str, slug: str | None = None) -> Iterator[Any]:
        """Yield the documents of `peers`, `services`, `providers`, `forwards` or `status`: one now, one on each change.

        Never ends by itself: when the node stops, that is `NotRunning`.
        """
        connection = _Connection(self._home, timeout=None)
        try:
            response = _send(connection, self._home, "GET", f"{_path(listing, slug)}?watch=1", None)
            try:
                while line := response.readline(MAX_ANSWER):
                    yield json.loads(line)
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise NotRunning("the node stopped", "start it again: dragon serve") from error
            raise NotRunning("the node stopped", "start it again: dragon serve")
        finally:
            connection.close()

    def _object(self, method: str, path: str, body: object = None, *, timeout: float = ANSWER_TIMEOUT) -> Document:
        document = self._call(method, path, body, timeout=timeout)
        if not isinstance(document, dict):
            raise _foreign()
        return document

    def _listing(self, method: str, path: str, body: object = None, *, timeout: float = ANSWER_TIMEOUT) -> list[Document]:
        documents = self._call(method, path, body, timeout=timeout)
        if not isinstance(documents, list):
            raise _foreign()
        return documents

    def _call(self, method: str, path: str, body: object = None, *, timeout: float = ANSWER_TIMEOUT) -> Any:
        connection = _Connection(self._home, timeout)
        try:
            response = _send(connection, self._home, method, path, body)
            return json.loads(response.read(MAX_ANSWER))
        except TimeoutError as error:
            raise LocalError(f"the node did not answer within {timeout:.0f} s", "see its log: its Kubo may hang") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise NotRunning(
                f"the node stopped while it answered ({error})", "see its log; start it again: dragon serve"
            ) from error
        finally:
            connection.close()


class _Connection(http.client.HTTPConnection):
    """An HTTP connection to the control socket of a home."""

    def __init__(self, home: Home, timeout: float | None) -> None:
        super().__init__("dragon", timeout=timeout)
        self._home = home

    def connect(self) -> None:
        refused: Path | None = None
        for path in self._home.control_sockets:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            try:
                _enter(self.sock, path)
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                self.sock.close()
            except PermissionError:
                self.sock.close()
                refused = refused or path
            else:
                return _expect_owner(self.sock, path)
        if refused is not None:
            raise NotRunning(
                f"the control socket {refused} belongs to another user",
                "run this as the user who runs the node, or start your own: dragon serve",
            )
        raise NotRunning(f"no node is running for {self._home.root}", "start one: dragon serve")


def _enter(door: socket.socket, path: Path) -> None:
    """Connect, and stand in line where many do so at once: with a time limit a full queue is an error at once (EAGAIN)."""
    timeout = door.gettimeout()
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        try:
            return door.connect(str(path))
        except BlockingIOError:
            if deadline is not None and time.monotonic() >= deadline:
                raise TimeoutError from None
            time.sleep(CROWDED)


def _expect_owner(connected: socket.socket, path: Path) -> None:
    """Refuse a socket that somebody else put where ours would be: the temp folder is everybody's."""
    if not hasattr(socket, "SO_PEERCRED") or os.getuid() == 0:  # root may use everybody's node
        return
    _, owner, _ = struct.unpack("3i", connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    if owner not in (0, os.getuid()):
        raise NotRunning(
            f"the process behind {path} is not yours (uid {owner})", "set XDG_RUNTIME_DIR to a folder that is yours alone"
        )


def _send(connection: _Connection, home: Home, method: str, path: str, body: object) -> http.client.HTTPResponse:
    """Return the response once it is known to be a success; raises the error that the node's JSON names."""
    headers = {"Accept": "application/json"}
    data = None
    if body is not None:
        data = json.dumps(body).encode()
        headers["Content-Type"] = "application/json"
    connection.request(method, path, body=data, headers=headers)
    response = connection.getresponse()
    if response.status < 300:
        return response
    raise _error(response.status, response.read(MAX_ANSWER))


def _error(status: int, data: bytes) -> DragonError:
    try:
        document = json.loads(data)
        message, hint = str(document["error"]), str(document.get("hint", ""))
        code, name = int(document.get("exit_code", 1)), str(document.get("kind", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        return _foreign(status)
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    if isinstance(kind, type) and issubclass(kind, LocalError) and kind.exit_code == code:
        return kind(message, hint)
    kind = {2: errors.UsageError, 3: NotRunning, 4: errors.NoProvider}.get(code, LocalError)
    return kind(message, hint)


def _foreign(status: int = 200) -> LocalError:
    return LocalError(f"the node answered {status} with something unknown", "compare the versions: dragon version")


def _path(listing: str, slug: str | None) -> str:
    return f"/v1/{listing}" if slug is None else f"/v1/{listing}/{quote(slug, safe='')}"


class Dragon:
    """The running node, for async programs:

        async with Dragon() as d, d.forward("ollama") as url:
            ...  # url is http://127.0.0.1:<port>, and leads to the best provider

    Methods return the JSON of the command of the same name, and raise what `dragon.errors` draws: `NotRunning`, `NoProvider` …
    """

    def __init__(self, home: Path | str | None = None) -> None:
        """`home` is the node's DRAGON_HOME; by default the one that the commands use."""
        self._control = Control(Home.locate(Path(home) if home is not None else None))
        self._threads: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Dragon:
        await self._ask(self._control.version)  # a node that does not run is told here
        return self

    async def __aexit__(self, *exception: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False)
            self._threads = None

    async def status(self) -> Document:
        return await self._ask(self._control.status)

    async def peers(self) -> list[Document]:
        return await self._ask(self._control.peers)

    async def services(self, slug: str | None = None) -> list[Document]:
        return await self._ask(lambda: self._control.services(slug))

    async def forwards(self) -> list[Document]:
        return await self._ask(self._control.forwards)

    async def providers(self, slug: str) -> list[Document]:
        return await self._ask(lambda: self._control.providers(slug))

    async def explain(self, slug: str) -> Document:
        return await self._ask(lambda: self._control.explain(slug))

    async def env(self, slug: str) -> dict[str, str]:
        """Return the variables that programs read for `slug`, such as `{"OLLAMA_API_BASE": "http://127.0.0.1:11434"}`."""
        return dict((await self._ask(lambda: self._control.env(slug)))["variables"])

    async def off(self, slug: str | None = None) -> int:
        """Close the forwards of `slug`, or all; return how many there were."""
        return await self._ask(lambda: self._control.off(slug))

    async def open(self, slug: str, target: str = "auto", **options: Unpack[ForwardOptions]) -> Document:
        """Open a forward, or find the one that is open: `{slug, provider, route, host, port, url, reused}`."""
        return await self._ask(lambda: self._control.forward(slug, target, **options))

    @asynccontextmanager
    async def forward(
        self, slug: str, target: str = "auto", *, close: bool = False, **options: Unpack[ForwardOptions]
    ) -> AsyncIterator[str]:
        """Give the URL of a forward for the time of the context.

        The port stays open afterwards, because other programs may have been given the same one, and costs nothing: its tunnel
        closes when idle, and the next use finds it at once. `close=True` closes the one forward that this call opened.
        """
        opened = await self.open(slug, target, **options)
        try:
            yield str(opened["url"])
        finally:
            if close and not opened["reused"]:
                await self._ask(lambda: self._control.off(slug, port=int(opened["port"])))

    async def _ask(self, call: Callable[[], Answer]) -> Answer:
        """Return what `call` does in a thread of our own: the loop's threads resolve names for the whole program."""
        import asyncio  # the commands need none of these, and they cost them 30 ms
        from concurrent.futures import ThreadPoolExecutor

        if self._threads is None:
            self._threads = ThreadPoolExecutor(THREADS, "dragon")
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

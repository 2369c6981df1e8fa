"""The catalogue's test of a service, run through a way that was just opened (design §6: not merely with an open port)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dragon.connect.choice import lacking
from dragon.connect.routes import connect_loopback
from dragon.kubo.types import tcp_port
from dragon.probe import CatalogueEntry, test_service
from registry_schema.labels import values_of

if TYPE_CHECKING:
    import aiohttp

    from dragon.kubo import Kubo

LOOK = 0.01
"""Seconds between two looks at Kubo's streams while a connection without a greeting is being proven."""

SETTLE = 0.05
"""Seconds for which a standing stream is watched: a gate that refuses ends it within a round trip."""


@dataclass(frozen=True, slots=True)
class Answer:
    """`why` is None when it passed. `unfit`: it works, but is not what was wished for. `rtt` in seconds.

    `cut_short`: the connection ended before an answer: the provider's gate does not know us, or Kubo was under load.
    """

    why: str | None
    rtt: float = 0.0
    unfit: bool = False
    cut_short: bool = False


class Trial:
    """Tests services on ports of this machine. One HTTP session, opened with the first test; `close` it."""

    def __init__(self, kubo: Kubo, *, timeout: float) -> None:
        self._kubo = kubo
        self._timeout = timeout
        self._session: aiohttp.ClientSession | None = None

    async def run(
        self,
        entry: CatalogueEntry,
        port: int,
        where: Mapping[str, str],
        *,
        unclaimed: bool = False,
        within: float | None = None,
    ) -> Answer:
        """Return what the test of `entry` says of the service behind `port`, in at most the configured time, or `within`.

        `unclaimed`: a host that a route leads to by itself. Opening the way has shown that something listens there, and nobody
        has said which labels it has, so the service must show all that `where` wants.
        """
        timeout = self._timeout if within is None else min(within, self._timeout)
        if entry.test is None and entry.scheme != "ssh":
            if unclaimed:
                missing = lacking({}, where)
                return Answer(f"nobody can tell whether it has {missing}" if missing else None, unfit=missing is not None)
            return await self._proves_to_stand(port, timeout)
        result = await test_service(entry, "127.0.0.1", port, timeout=timeout, session=self._http())
        if not result.ok:
            return Answer(result.detail, result.rtt, cut_short=result.cut_short)
        told = {key: wish for key, wish in where.items() if unclaimed or any(True for _ in values_of(result.labels, key))}
        missing = lacking(result.labels, told)
        if missing is not None:
            return Answer(f"its service says that it has no {missing}", result.rtt, unfit=True)
        return Answer(None, result.rtt)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            import aiohttp  # the node has it loaded for Kubo; a pure test of this room need not

            # A kept connection would prove what the tunnel was, not what it is.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), trust_env=False)
        return self._session

    async def _proves_to_stand(self, port: int, timeout: float) -> Answer:
        """Test a service that has no greeting: the tunnel's stream must stand, since Kubo's leg accepts in any case."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            connection = await connect_loopback(port)
        except OSError as error:
            return Answer(f"no connection: {error.strerror or error}")
        try:
            own = connection.getsockname()[1]
            async with asyncio.timeout(timeout):
                while True:
                    stands = any(tcp_port(stream.origin) == own for stream in await self._kubo.p2p_streams())
                    try:
                        async with asyncio.timeout(SETTLE if stands else LOOK):
                            first = await loop.sock_recv(connection, 1)
                    except TimeoutError:
                        if stands:
                            return Answer(None, loop.time() - began)
                    else:
                        if first:
                            return Answer(None, loop.time() - began)
                        return Answer("ended the connection at once", cut_short=True)
        except TimeoutError:
            return Answer(f"no tunnel within {timeout:g} s")
        except OSError as error:
            return Answer(f"broke the connection: {error.strerror or error}", cut_short=True)
        finally:
            connection.close()

"""The wire to a daemon's RPC: requests over aiohttp, answers in JSON, and errors in the words of our own tree."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from dragon.errors import KuboRefused, KuboUnreachable
from dragon.kubo.address import ApiAddress
from dragon.kubo.diagnosis import refused, unreachable

LIMIT = 5.0
"""Seconds for a call that needs only the daemon."""


class Wire:
    """One daemon at `address`; `authorization` is the header that its API asks for, if any.

    Every call raises `KuboUnreachable` where nobody answers in time, and `KuboRefused` where the daemon declines, or is none.
    """

    def __init__(self, address: ApiAddress, authorization: str | None) -> None:
        self.address = address
        self.closed = False
        self._authorization = authorization
        self._boundary = secrets.token_hex(16)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """End all connections; every later call raises `KuboUnreachable`."""
        self.closed = True
        if self._session:
            await self._session.close()

    async def call(
        self,
        command: str,
        arguments: Sequence[str] = (),
        options: Mapping[str, str] | None = None,
        *,
        body: bytes | None = None,
        limit: float = LIMIT,
    ) -> bytes:
        """Return the whole answer, which may take `limit` seconds; `body` is sent as a file is."""
        url, parameters = self._request(command, arguments, options or {})
        form = None if body is None else self._multipart(body)
        headers = {"Content-Type": f"multipart/form-data; boundary={self._boundary}"} if form is not None else None
        try:
            async with self._open_session().post(
                url, params=parameters, data=form, headers=headers, timeout=aiohttp.ClientTimeout(total=limit)
            ) as response:
                answer = await response.read()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.unreachable(error) from error
        if response.status != 200:
            raise refused(reason_of(answer), response.status)
        return answer

    async def json(self, command: str, arguments: Sequence[str] = (), **keywords: Any) -> dict[str, Any]:
        """Return the answer to a `call`, which must be a JSON object."""
        return self.parsed(await self.call(command, arguments, **keywords))

    @asynccontextmanager
    async def endless(
        self, command: str, arguments: Sequence[str], options: Mapping[str, str]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give an answer that begins at once and may never end. Who reads it turns what aiohttp raises into `unreachable`."""
        try:
            async with asyncio.timeout(LIMIT):
                response = await self._begun(command, arguments, options, limit=None)
        except TimeoutError as error:
            raise self.unreachable(error) from error
        try:
            yield response
        finally:
            response.close()

    @asynccontextmanager
    async def streaming(
        self, command: str, arguments: Sequence[str], options: Mapping[str, str], *, limit: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Give an answer that is read as it comes, for `limit` seconds at most; leaving it early ends it, and the daemon's
        search for what is still missing."""
        response = await self._begun(command, arguments, options, limit=limit)
        try:
            yield response.content
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.unreachable(error) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:  # also a line longer than any that Kubo means
            raise self.no_kubo() from error
        finally:
            response.close()

    async def _begun(
        self, command: str, arguments: Sequence[str], options: Mapping[str, str], *, limit: float | None
    ) -> aiohttp.ClientResponse:
        """Return an answer of the daemon's once it begins, to be closed by who reads it; all of it may take `limit` seconds."""
        url, parameters = self._request(command, arguments, options)
        timeout = aiohttp.ClientTimeout(total=limit, sock_connect=LIMIT)
        try:
            response = await self._open_session().post(url, params=parameters, timeout=timeout)
            if response.status == 200:
                return response
            async with response:
                raise refused(reason_of(await response.read()), response.status)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise self.unreachable(error) from error

    def parsed(self, answer: bytes) -> dict[str, Any]:
        """Return a JSON object. Raises `KuboRefused` where `answer` is none."""
        try:
            value = json.loads(answer)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise self.no_kubo()
        return value

    def unreachable(self, error: Exception) -> KuboUnreachable:
        """Return what is to be raised for an error of the connection."""
        if isinstance(error, TimeoutError):
            return unreachable(self.address, "no answer in time")
        return unreachable(self.address, getattr(error, "strerror", None) or str(error) or type(error).__name__)

    def no_kubo(self) -> KuboRefused:
        """Return what is to be raised for an answer that Kubo never gives."""
        return KuboRefused(f"{self.address} does not answer as Kubo does", "check [kubo] api in the config")

    def _request(self, command: str, arguments: Sequence[str], options: Mapping[str, str]) -> tuple[str, list[tuple[str, str]]]:
        return f"{self.address.url}/api/v0/{command}", [*(("arg", each) for each in arguments), *options.items()]

    def _multipart(self, body: bytes) -> bytes:
        edge = self._boundary.encode()
        disposition = b'Content-Disposition: form-data; name="file"; filename="data"\r\n'
        kind = b"Content-Type: application/octet-stream\r\n"
        return b"--%b\r\n%b%b\r\n%b\r\n--%b--\r\n" % (edge, disposition, kind, body, edge)

    def _open_session(self) -> aiohttp.ClientSession:
        if self.closed:
            raise unreachable(self.address, "the client is closed")
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self.address.socket:
                connector = aiohttp.UnixConnector(self.address.socket, limit=0)
            else:
                connector = aiohttp.TCPConnector(limit=0)
            headers = {"Authorization": self._authorization} if self._authorization else None
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, cookie_jar=aiohttp.DummyCookieJar())
        return self._session


def reason_of(answer: bytes) -> str:
    """Return Kubo's own words out of an error answer, which is JSON or plain text."""
    try:
        value = json.loads(answer)
    except ValueError:
        return answer[:300].decode("utf-8", "replace")
    return str(value.get("Message", "")) if isinstance(value, dict) else str(value)[:300]

"""The calls that are rare: keys, files, names, configuration; through ipfshttpclient, extended in its own idiom.

ipfshttpclient 0.8.0a2 knows nothing newer than Kubo 0.8: it has no `p2p` and no `key/sign`, and sends pubsub topics
un-encoded, which Kubo refuses since 0.11. The sections below add that the way its own sections are written. It blocks, so it
runs in threads of its own: a hung daemon then never blocks the loop's default executor (and name resolution with it).
This module is imported with the first such call: it and what it brings cost 7 MB.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import ipfshttpclient
from ipfshttpclient import exceptions, multipart
from ipfshttpclient.client import base, key, pubsub, swarm

from dragon.errors import KuboRefused
from dragon.kubo import multibase
from dragon.kubo.address import ApiAddress
from dragon.kubo.diagnosis import refused, unreachable
from dragon.kubo.hangup import Hangup

Result = TypeVar("Result")

THREADS = 4
"""More threads gain nothing: the library does about 850 calls a second at 1 or at 16 (KUBO.md)."""

LIMIT = 5.0
"""Seconds for a call that needs only the daemon."""

SLOW_LIMIT = 120.0
"""Seconds for what may walk the public DHT (publishing names), or takes in a whole directory."""

SLOW_CALLS = 2
"""Slow calls at a time, so that half of the threads always remain for signatures."""


class P2PSection(base.SectionBase):  # type: ignore[misc]
    """`ipfs p2p`: libp2p stream mounting."""

    @base.returns_no_item  # type: ignore[untyped-decorator]
    def listen(self, protocol: str, target: str, report_peer_id: bool = False, **kwargs: Any) -> Any:
        kwargs.setdefault("opts", {})["report-peer-id"] = str(report_peer_id).lower()
        return self._client.request("/p2p/listen", (protocol, target), decoder="json", **kwargs)

    @base.returns_no_item  # type: ignore[untyped-decorator]
    def forward(self, protocol: str, listen: str, target: str, **kwargs: Any) -> Any:
        return self._client.request("/p2p/forward", (protocol, listen, target), decoder="json", **kwargs)

    def close(self, all: bool = False, **kwargs: Any) -> int:
        """Close by `protocol`, `listen_address`, `target_address`, or everything; return how many.

        The answer is a bare integer, which the library's JSON decoder does not expect: it is read as text.
        """
        names = ("protocol", "listen_address", "target_address")
        opts = {name.replace("_", "-"): kwargs.pop(name) for name in names if kwargs.get(name) is not None}
        kwargs.setdefault("opts", {}).update(opts, all=str(all).lower())
        return int(self._client.request("/p2p/close", **kwargs))

    @base.returns_single_item(base.ResponseBase)  # type: ignore[untyped-decorator]
    def ls(self, **kwargs: Any) -> Any:
        return self._client.request("/p2p/ls", decoder="json", **kwargs)


class KeySection(key.Section):  # type: ignore[misc]
    """`ipfs key` with the signatures of newer daemons."""

    def sign(self, data: bytes, key_name: str = "self", **kwargs: Any) -> bytes:
        """Return the raw signature of a key over `libp2p-key signed message:` + `data`."""
        stream = multipart.BytesFileStream(data)
        kwargs.setdefault("opts", {})["key"] = key_name
        body = b"".join(stream.body())  # a generator would be sent in chunks, a third slower
        answer = self._client.request("/key/sign", decoder="json", data=body, headers=stream.headers(), **kwargs)
        return multibase.decode(answer[0]["Signature"])


class PubsubSection(pubsub.Section):  # type: ignore[misc]
    """`ipfs pubsub` as Kubo speaks it since 0.11: topics in multibase, data as a file."""

    @base.returns_no_item  # type: ignore[untyped-decorator]
    def publish(self, topic: str, payload: bytes, **kwargs: Any) -> Any:
        stream = multipart.BytesFileStream(payload)
        args = (multibase.encode(topic.encode()),)
        return self._client.request("/pubsub/pub", args, decoder="json", data=stream.body(), headers=stream.headers(), **kwargs)

    def ls(self, **kwargs: Any) -> list[str]:
        answer = self._client.request("/pubsub/ls", decoder="json", **kwargs)
        return [multibase.decode(topic).decode() for topic in answer[0]["Strings"] or ()]

    def peers(self, topic: str | None = None, **kwargs: Any) -> list[str]:
        args = (multibase.encode(topic.encode()),) if topic is not None else ()
        answer = self._client.request("/pubsub/peers", args, decoder="json", **kwargs)
        return list(answer[0]["Strings"] or ())

    def subscribe(self, topic: str, discover: bool = False, **kwargs: Any) -> Any:
        args = (multibase.encode(topic.encode()),)
        return pubsub.SubChannel(self._client.request("/pubsub/sub", args, stream=True, decoder="json", **kwargs))


class SwarmSection(swarm.Section):  # type: ignore[misc]
    """`ipfs swarm` with the peering of newer daemons."""

    @base.returns_single_item(base.ResponseBase)  # type: ignore[untyped-decorator]
    def peering_add(self, address: str, **kwargs: Any) -> Any:
        return self._client.request("/swarm/peering/add", (address,), decoder="json", **kwargs)


class Client(ipfshttpclient.Client):  # type: ignore[misc]
    """ipfshttpclient's client with what Kubo has learnt since."""

    key = base.SectionProperty(KeySection)
    p2p = base.SectionProperty(P2PSection)
    pubsub = base.SectionProperty(PubsubSection)
    swarm = base.SectionProperty(SwarmSection)


class Tree(multipart.StreamBase, multipart.StreamFileMixin):  # type: ignore[misc]
    """A directory for `add`: relative path (with `/`) → its bytes, or the file they are read from while they are sent.

    A file on disk that is gone, or no plain file any more, is sent empty: what is announced cannot be taken back.
    """

    def __init__(self, files: Mapping[str, bytes | Path]) -> None:
        super().__init__("files")
        self._files = files

    def _body(self) -> Iterator[bytes]:
        folders: set[str] = set()
        yield from self._gen_file("d", content_type="application/x-directory")
        for name, content in sorted(self._files.items(), key=lambda item: item[0].split("/")):
            parts = name.split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    yield from self._gen_file(f"d/{folder}", content_type="application/x-directory")
            with _opened(content) as file:
                yield from self._gen_file(f"d/{name}", file=file, content_type="application/octet-stream")
        yield from self._gen_end()


def _opened(content: bytes | Path) -> BinaryIO:
    """Open without following a link: what another program puts there meanwhile must not lead anywhere else."""
    if isinstance(content, bytes):
        return io.BytesIO(content)
    try:
        descriptor = os.open(content, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return io.BytesIO()
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return io.BytesIO()
    return os.fdopen(descriptor, "rb")


class Administration:
    """The client above, called from an event loop."""

    def __init__(self, address: ApiAddress, authorization: str | None) -> None:
        self._address = address
        headers = {"Authorization": authorization} if authorization else {}
        self._client = Client(address.multiaddr, headers=headers, timeout=LIMIT, session=True)
        session = self._client._client._session
        session.trust_env = False  # a proxy in the environment is not for the daemon
        for adapter in session.adapters.values():
            adapter.poolmanager.connection_pool_kw.pop("strict", None)  # urllib3 2 warns about it with every call
        self._hangup = Hangup()
        self._hangup.watch(session)
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="kubo-rpc")
        self._slow = asyncio.Semaphore(SLOW_CALLS)

    async def run(self, call: Callable[[Client], Result]) -> Result:
        """Return `call(client)` from a thread; its failures become `KuboError`s."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._explained, call)

    async def run_slowly(self, call: Callable[[Client], Result]) -> Result:
        async with self._slow:
            return await self.run(call)

    def _explained(self, call: Callable[[Client], Result]) -> Result:
        try:
            return call(self._client)
        except exceptions.ErrorResponse as error:
            raise refused(str(error)) from error
        except exceptions.StatusError as error:
            response = getattr(error.original, "response", None)
            raise refused(str(error), getattr(response, "status_code", 500)) from error
        except exceptions.TimeoutError as error:
            raise unreachable(self._address, "no answer in time") from error
        except (exceptions.CommunicationError, OSError) as error:  # requests' own errors are OSErrors
            raise unreachable(self._address, "connection refused or broken") from error
        except exceptions.EncoderError as error:
            raise KuboRefused(f"Kubo's answer cannot be read: {error}") from error

    async def close(self) -> None:
        """End the calls under way, and close the connections."""
        self._hangup.now()
        await asyncio.to_thread(self._executor.shutdown, cancel_futures=True)
        self._client.close()

    async def sign(self, data: bytes) -> bytes:
        return await self.run(lambda client: client.key.sign(data))

    async def add_directory(self, files: Mapping[str, bytes | Path]) -> str:
        def add(client: Client) -> str:
            stream = Tree(files)
            answer = client._client.request(
                "/add",
                decoder="json",
                # raw leaves would make an empty file an empty block, for which bitswap waits for ever (seen with 0.43)
                opts={"recursive": "true", "cid-version": "1", "raw-leaves": "false", "pin": "true"},
                data=stream.body(),
                headers=stream.headers(),
                timeout=SLOW_LIMIT,
            )
            return next(str(item["Hash"]) for item in reversed(answer) if item["Name"] == "d")

        return await self.run_slowly(add)

    async def unpin(self, cid: str) -> None:
        try:
            await self.run(lambda client: client.pin.rm(f"/ipfs/{cid}"))
        except KuboRefused as error:
            if "not pinned" not in str(error):
                raise

    async def name_publish(self, cid: str, *, lifetime: str, ttl: str, key: str) -> None:
        await self.run_slowly(
            lambda client: client.name.publish(
                f"/ipfs/{cid}", resolve=False, lifetime=lifetime, ttl=ttl, key=key, allow_offline=True, timeout=SLOW_LIMIT
            )
        )

    async def key_id(self, name: str) -> str:
        """Return the IPNS name of the key called `name`, which is made (Ed25519) where there is none."""

        def find_or_make(client: Client) -> str:
            for each in client.key.list()["Keys"]:
                if each["Name"] == name:
                    return str(each["Id"])
            return str(client.key.gen(name, "ed25519", size=-1)["Id"])

        return await self.run(find_or_make)

    async def config(self) -> dict[str, Any]:
        """Return the daemon's configuration as it is on disk, without the private key."""
        answer = await self.run(lambda client: client.config.get())
        return dict(answer.as_json()) if hasattr(answer, "as_json") else dict(answer)

    async def config_set(self, name: str, value: Any) -> None:
        """Set one key of the daemon's configuration on disk; most keys count from its next start."""

        def set_json(client: Client) -> None:
            client._client.request("/config", (name, json.dumps(value)), decoder="json", opts={"json": "true"})

        await self.run(set_json)


__all__ = ["Administration", "Client"]

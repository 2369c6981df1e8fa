"""The tunnels of the engine in memory: real loopback sockets with Kubo's own manners (no half-close, the peer-id line)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass

from dragon.errors import KuboRefused
from dragon.kubo.types import LOOPBACK, P2PEntry, P2PStream, loopback_target, tcp_port


@dataclass(slots=True)
class Tunnel:
    """One entry of `p2p ls` with what makes it work."""

    entry: P2PEntry
    report_peer_id: bool = False
    server: asyncio.Server | None = None


class FakeTunnels:
    """Those of one node. `dial` returns the listener of that name at another node, None where it is not reached.

    What each method does is written at `dragon.kubo.types.Kubo`.
    """

    def __init__(self, node_id: str, dial: Callable[[str, str], Tunnel | None]) -> None:
        self._node_id = node_id
        self._dial = dial
        self._tunnels: list[Tunnel] = []
        self._streams: dict[str, tuple[P2PStream, asyncio.Task[None]]] = {}
        self._next_stream = 0

    async def forget(self) -> None:
        """Close everything, and end all streams."""
        for tunnel in self._tunnels:
            await _close_server(tunnel)
        self._tunnels.clear()
        tasks = [task for _, task in self._streams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def listen(self, protocol: str, target: str, *, report_peer_id: bool = False) -> None:
        _check_protocol(protocol)
        if tcp_port(target) is None:
            raise KuboRefused("only tcp targets are supported")
        if self.listener(protocol):
            raise KuboRefused("listener already registered")
        self._tunnels.append(Tunnel(P2PEntry(protocol, f"/p2p/{self._node_id}", target), report_peer_id))

    async def forward(self, protocol: str, listen: str, node_id: str) -> None:
        _check_protocol(protocol)
        port = tcp_port(listen)
        if port is None:
            raise KuboRefused("the fake forwards tcp only")

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self._next_stream += 1
            id = str(self._next_stream)
            task = asyncio.create_task(self._carry(protocol, node_id, reader, writer))
            origin = loopback_target(writer.get_extra_info("peername")[1])
            self._streams[id] = (P2PStream(id, protocol, origin, entry.target), task)
            task.add_done_callback(lambda _: self._streams.pop(id, None))
            task.add_done_callback(lambda _: writer.transport.abort())  # also when it was cancelled before its first step

        try:
            door = socket.create_server((LOOPBACK, port))
        except OSError as error:
            raise KuboRefused(f"listen tcp4 {LOOPBACK}:{port}: bind: {error.strerror}") from None
        try:
            server = await asyncio.start_server(connected, sock=door)
        except BaseException:  # cancelled between its listening and its return: nobody else could close it
            asyncio.get_running_loop().remove_reader(door)
            door.close()
            raise
        entry = P2PEntry(protocol, loopback_target(server.sockets[0].getsockname()[1]), f"/p2p/{node_id}")
        self._tunnels.append(Tunnel(entry, server=server))

    async def close(self, *, protocol: str | None = None, listen: str | None = None, target: str | None = None) -> int:
        if protocol is None and listen is None and target is None:
            raise ValueError("name what is to be closed")
        wanted = (protocol, listen, target)
        closing = [
            tunnel
            for tunnel in self._tunnels
            if all(
                given is None or given == found
                for given, found in zip(wanted, (tunnel.entry.protocol, tunnel.entry.listen, tunnel.entry.target), strict=True)
            )
        ]
        for tunnel in closing:
            self._tunnels.remove(tunnel)
            await _close_server(tunnel)
        return len(closing)

    def ls(self) -> list[P2PEntry]:
        return [tunnel.entry for tunnel in self._tunnels]

    def streams(self) -> list[P2PStream]:
        return [stream for stream, _ in self._streams.values()]

    async def stream_close(self, id: str) -> None:
        if id in self._streams:
            task = self._streams[id][1]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def listener(self, protocol: str) -> Tunnel | None:
        """Return what listens here under this name, if anything does."""
        return next((each for each in self._tunnels if each.entry.is_listener and each.entry.protocol == protocol), None)

    async def _carry(self, protocol: str, node_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Splice one connection to the remote's target; the first end-of-file in one direction closes both."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_close_writer, writer)
            listener = self._dial(node_id, protocol)
            port = tcp_port(listener.entry.target) if listener else None
            if listener is None or port is None:
                return
            try:
                far_reader, far_writer = await asyncio.open_connection(LOOPBACK, port)
            except OSError:
                return
            stack.push_async_callback(_close_writer, far_writer)
            if listener.report_peer_id:
                far_writer.write(f"{self._node_id}\n".encode())
            directions = [asyncio.create_task(_pump(reader, far_writer)), asyncio.create_task(_pump(far_reader, writer))]
            try:
                await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for direction in directions:
                    direction.cancel()
                await asyncio.gather(*directions, return_exceptions=True)


def _check_protocol(protocol: str) -> None:
    if not protocol.startswith("/x/"):
        raise KuboRefused("protocol name must be within '/x/' namespace")


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _close_server(tunnel: Tunnel) -> None:
    if tunnel.server:
        tunnel.server.close()
        tunnel.server = None
        await asyncio.sleep(0)


async def _close_writer(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()

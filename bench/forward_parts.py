"""The processes of the `forward` benchmark: a service under load, a provider with its gate, a consumer with its forwards, and
a relay on asyncio streams to compare with. Each is a process of its own, as in reality; `python -m bench.forward_parts KIND …`.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp

from dragon.config import ConnectSettings
from dragon.connect import ForwardRequest, KuboOwner
from dragon.kubo.client import KuboClient
from dragon.kubo.types import loopback_target, tcp_port
from dragon.probe import load_catalogue
from registry_schema import open_envelope, protocol_name
from tests.unit.connect import swarm

PLAIN, GATED, HTTP = "plain", "gated", "ollama"
BLOCK = 1 << 20


def service() -> None:
    """One letter chooses: `e` echoes, `d` + 8 bytes sends so many bytes, `u` + 8 bytes takes so many and says so."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        _say({"port": listener.getsockname()[1]})
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    block = bytes(BLOCK)
    try:
        with connection:
            kind = connection.recv(1)
            if kind == b"e":
                while data := connection.recv(65536):
                    connection.sendall(data)
                return
            left = int.from_bytes(connection.recv(8, socket.MSG_WAITALL), "big")
            if kind == b"d":
                while left:
                    left -= connection.send(block[:left] if left < BLOCK else block)
            else:
                taken = bytearray(BLOCK)
                while left:
                    left -= connection.recv_into(taken)
                connection.sendall(b"k")
            connection.recv(1)
    except OSError:
        return


async def streams(target: int) -> None:
    """The relay as one writes it with asyncio streams."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    _say({"port": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


async def provider(api: str, load_port: int, http_port: int) -> None:
    """Offers the service twice, openly and behind the gate, and an HTTP service; says its envelope."""
    catalogue = load_catalogue(overrides={PLAIN: {"port": load_port, "access": "public"}, GATED: {"port": load_port}})
    async with KuboClient(api) as kubo:
        owner = KuboOwner(lambda: tcp_port(api))
        with tempfile.TemporaryDirectory(prefix="dragon-bench-") as folder:
            async with swarm.provider(kubo, Path(folder), "bench", catalogue=catalogue, is_kubo=owner) as node:
                await node.offer(PLAIN, load_port)
                await node.offer(GATED, load_port)
                await node.offer(HTTP, http_port)
                _say({"node_id": node.node_id, "envelope": (await node.envelope()).hex()})
                await _commands({})


async def consumer(api: str, envelope: str) -> None:
    """Opens forwards to the provider; measures `warm N`, `cold N` and `by-hand N` in milliseconds on request."""
    data = bytes.fromhex(envelope)
    now_ms = time.time_ns() // 1_000_000
    node_id = open_envelope(data, swarm=swarm.SWARM, now_ms=now_ms).node
    settings = ConnectSettings(idle_seconds=0.001)
    async with KuboClient(api) as kubo, aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        with tempfile.TemporaryDirectory(prefix="dragon-bench-") as folder:
            async with swarm.consumer(kubo, Path(folder), settings=settings) as me:
                me.view.admit(data, carrier=node_id, source="pubsub", heard_at=time.monotonic(), now_ms=now_ms)
                ports = {slug: (await me.forwards.forward(ForwardRequest(slug))).port for slug in (PLAIN, GATED, HTTP)}
                for slug in (PLAIN, GATED):
                    ports[f"{slug} spread"] = (await me.forwards.forward(ForwardRequest(slug, spread=True))).port

                async def warm(count: int) -> list[float]:
                    await me.forwards.forward(ForwardRequest(HTTP))
                    return [await _timed(lambda: me.forwards.forward(ForwardRequest(HTTP))) for _ in range(count)]

                async def cold(count: int) -> list[float]:
                    times = []
                    for _ in range(count):
                        await me.forwards.off(HTTP)
                        await asyncio.sleep(0.01)
                        await me.forwards.look()  # closes the idle leg: what follows opens everything anew
                        times.append(await _timed(lambda: me.forwards.forward(ForwardRequest(HTTP))))
                    return times

                async def by_hand(count: int) -> list[float]:
                    async def once() -> None:
                        await kubo.p2p_forward(protocol_name(HTTP, node_id), loopback_target(port), node_id)
                        async with session.get(f"http://127.0.0.1:{port}/api/tags") as response:
                            await response.read()

                    times = []
                    for _ in range(count):
                        with socket.socket() as probe:
                            probe.bind(("127.0.0.1", 0))
                            port = probe.getsockname()[1]
                        times.append(await _timed(once))
                        await kubo.p2p_close(listen=loopback_target(port))
                    return times

                _say(ports)
                await _commands({"warm": warm, "cold": cold, "by-hand": by_hand})


async def _timed(work: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await work()
    return (time.perf_counter() - started) * 1000


async def _commands(known: dict[str, Callable[[int], Awaitable[list[float]]]]) -> None:
    """Answer `NAME COUNT` lines on standard input until it ends."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, count = line.split()
        _say(await known[name](int(count)))


def _say(value: object) -> None:
    print(json.dumps(value), flush=True)


def main(words: list[str]) -> None:
    match words:
        case ["service"]:
            service()
        case ["streams", target]:
            asyncio.run(streams(int(target)))
        case ["provider", api, load_port, http_port]:
            asyncio.run(provider(api, int(load_port), int(http_port)))
        case ["consumer", api, envelope]:
            asyncio.run(consumer(api, envelope))
        case _:
            raise SystemExit(f"not a part: {words}")


if __name__ == "__main__":
    main(sys.argv[1:])

"""Tiny real services in processes of their own, with a process name of the test's choice.

    with start_service("http", name="ollama", models=["llama3.2:latest"], home=tmp_path) as service:
        service.port, service.pid, service.stop(), service.kill(), service.freeze(), service.thaw()

The process runs through a link of that name to the interpreter, so the kernel itself calls it `ollama` (as pgrep sees it).
Kinds: `http` (the paths below, NIP-11 for who asks for it, web sockets that echo), `echo` (sends back what comes),
`ssh` (an SSH banner, then silence), `silent` (takes connections, says nothing), `source` (sends zeros for ever).

HTTP paths: `/whoami` → `{"name", "pid", "port", "requests"}` · `/api/tags` → the models in ollama's shape · `/bytes/N` → N
bytes · `/sleep/S` → answers after S seconds · `/status/CODE` → that code · `POST /echo` → the body · any other path → 200
"name", unless the service was started with `paths` (then 404). `delay` holds back every answer, `status` replaces every code.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

KINDS = ("http", "echo", "ssh", "silent", "source")
START_SECONDS = 30.0
"""Bound of a start on a machine that is busy with everything else."""


@dataclass
class RunningService:
    """A service in its own process. Ends with the `with` block, or with `stop`."""

    kind: str
    name: str
    port: int
    process: subprocess.Popen[str] = field(repr=False)
    home: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """End it (SIGTERM, SIGKILL after a while), collect it. May be called again."""
        self.thaw()
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with SIGKILL: its port closes, its connections are reset."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """Stop it where it is: the port stays open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def _end(self, number: int) -> None:
        self._signal(number)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()

    def __enter__(self) -> RunningService:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()


def start_service(
    kind: str = "http",
    *,
    home: Path,
    name: str = "service",
    port: int = 0,
    host: str = "127.0.0.1",
    models: Sequence[str] = (),
    paths: Sequence[str] = (),
    delay: float = 0.0,
    status: int = 200,
    enter: Sequence[str] = (),
) -> RunningService:
    """Start a service and return it once it listens; `port` 0 takes a free one. `home` is an own folder for its link, `enter`
    the host it runs on (`testbed.netns`).

    It ends with its parent too: it reads its standard input and leaves at the end of it.
    """
    folder = home / f"service-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / name
    if not link.exists():
        link.symlink_to(Path(sys.executable).resolve())
    options = [
        "--kind",
        kind,
        "--name",
        name,
        "--port",
        str(port),
        "--host",
        host,
        "--delay",
        str(delay),
        "--status",
        str(status),
    ]
    for model in models:
        options += ["--model", model]
    for path in paths:
        options += ["--path", path]
    process = subprocess.Popen(
        [*enter, str(link), "-I", "-S", str(Path(__file__).resolve()), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    service = RunningService(kind, name, port, process, home)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().split()
        if line[:1] != ["listening"]:
            raise RuntimeError(f"the service {name} did not start: {' '.join(line) or 'it ended'}")
        service.port = int(line[1])
    except BaseException:
        service.kill()
        raise
    return service


# --- the program itself: standard library only, started by path -------------------------------------------------------


class Program:
    """One service inside its process."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.port = 0
        self.requests = 0
        self.open: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        server = await asyncio.start_server(self.serve, self.options.host, self.options.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        print(f"listening {self.port}", flush=True)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, ended.set)
        if not self.options.detached:
            loop.add_reader(0, lambda: ended.set() if not os.read(0, 1024) else None)
        await ended.wait()
        server.close()
        for writer in list(self.open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            await getattr(self, self.options.kind)(reader, writer)
        except (OSError, EOFError, asyncio.IncompleteReadError):
            pass  # the caller left
        finally:
            self.open.discard(writer)
            writer.close()

    async def echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()

    async def ssh(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"SSH-2.0-{self.options.name}_1.0\r\n".encode())
        await reader.read()

    async def silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def source(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        zeros = bytes(1 << 16)
        while True:
            writer.write(zeros)
            await writer.drain()

    async def http(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            method, target, _ = line.decode("latin-1").split(" ", 2)
            headers: dict[str, str] = {}
            while (header := (await reader.readline()).strip()) != b"":
                key, _, value = header.decode("latin-1").partition(":")
                headers[key.strip().lower()] = value.strip()
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.requests += 1
            await asyncio.sleep(self.options.delay)
            if headers.get("upgrade", "").lower() == "websocket":
                await self.web_socket(reader, writer, headers["sec-websocket-key"])
                return
            status, kind, content = await self.answer(method, target.partition("?")[0], headers, body)
            status = self.options.status if self.options.status != 200 else status
            content = b"" if status == 204 else content
            writer.write(f"HTTP/1.1 {status} {'OK' if status < 400 else 'No'}\r\nContent-Type: {kind}\r\n"
                         f"Content-Length: {len(content)}\r\n\r\n".encode() + content)  # fmt: skip
            await writer.drain()
            if headers.get("connection", "").lower() == "close":
                return

    async def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        def as_json(value: Any, kind: str = "application/json") -> tuple[int, str, bytes]:
            return 200, kind, json.dumps(value).encode()

        options = self.options
        if path == "/" and "nostr" in headers.get("accept", "") and not options.path:
            return as_json({"name": options.name, "supported_nips": [1, 11, 77]}, "application/nostr+json")
        if path == "/whoami":
            return as_json({"name": options.name, "pid": os.getpid(), "port": self.port, "requests": self.requests})
        if path == "/api/tags" and not options.path:
            return as_json({"models": [{"name": model, "model": model, "size": 1} for model in options.model]})
        if path == "/echo" and method == "POST":
            return 200, "application/octet-stream", body
        first, _, rest = path[1:].partition("/")
        if first == "bytes" and rest.isdecimal():
            return 200, "application/octet-stream", bytes(int(rest))
        if first == "sleep":
            await asyncio.sleep(float(rest))
            return 200, "text/plain", b"awake"
        if first == "status" and rest.isdecimal():
            return int(rest), "text/plain", b"as you say"
        if options.path and path not in options.path:
            return 404, "text/plain", b"no such thing"
        return 200, "text/plain", options.name.encode()

    async def web_socket(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
        """Echo text and binary frames (RFC 6455)."""
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                     b"Sec-WebSocket-Accept: " + base64.b64encode(digest) + b"\r\n\r\n")  # fmt: skip
        while True:
            first, second = await reader.readexactly(2)
            size = second & 127
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            mask = await reader.readexactly(4) if second & 128 else bytes(4)
            data = bytes(byte ^ mask[place % 4] for place, byte in enumerate(await reader.readexactly(size)))
            head = bytes([first])
            length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2, "big") if size < 65536 else (
                b"\x7f" + size.to_bytes(8, "big"))  # fmt: skip
            writer.write(head + length + data)
            await writer.drain()
            if first & 15 == 8:  # close, echoed
                return


def main() -> None:
    parser = argparse.ArgumentParser(description="a tiny service for tests")
    parser.add_argument("--kind", choices=KINDS, default="http")
    parser.add_argument("--name", default="service")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--detached", action="store_true", help="do not end with standard input")
    parser.add_argument("--path", action="append", default=[], help="the only paths that are answered with 200")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Program(parser.parse_args()).run())


if __name__ == "__main__":
    main()

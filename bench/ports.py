"""A service whose ports open and close on request: `open PORT…`, `close`, one line each on standard input.

Answers `opened SECONDS` and `closed SECONDS`: when it was done, on the monotonic clock, which all processes here share.
Speaks HTTP as an ollama with one model does. Standard library only, run by its path: a process of ours would not be offered.
"""

from __future__ import annotations

import asyncio
import sys
import time

BODY = b'{"models": [{"name": "llama3.2:latest"}]}'
ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass  # somebody who only looked whether the port is open
    writer.close()


async def main() -> None:
    servers: list[asyncio.Server] = []
    while line := await asyncio.to_thread(sys.stdin.readline):
        match line.split():
            case ["open", *ports]:
                servers += [await asyncio.start_server(answer, "127.0.0.1", int(port)) for port in ports]
                print(f"opened {time.monotonic()!r}", flush=True)
            case ["close"]:
                for server in servers:
                    server.close()
                servers.clear()
                print(f"closed {time.monotonic()!r}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())

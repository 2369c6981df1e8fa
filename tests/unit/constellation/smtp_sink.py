"""A mail server that takes everything and keeps it, in a thread of its own: just enough of RFC 5321 for smtplib."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage


@dataclass
class Sink:
    port: int = 0
    refuse: str = ""
    """A reply that every RCPT gets instead of 250."""
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    mails: list[EmailMessage] = field(default_factory=list)

    async def converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 sink\r\n")
        while line := (await reader.readline()).decode().strip():
            word, argument = line[:4].upper(), line[4:].strip()
            answer = {"QUIT": "221 bye", "DATA": "354 go on"}.get(word, "250 ok")
            if word == "MAIL":
                self.sender = argument.partition("<")[2].partition(">")[0]
            elif word == "RCPT":
                self.recipients.append(argument.partition("<")[2].partition(">")[0])
                answer = self.refuse or answer
            writer.write(f"{answer}\r\n".encode())
            if word == "DATA":
                data = (await reader.readuntil(b"\r\n.\r\n"))[:-5].replace(b"\r\n..", b"\r\n.")
                mail = message_from_bytes(data, policy=policy.default)
                assert isinstance(mail, EmailMessage)
                self.mails.append(mail)
                writer.write(b"250 taken\r\n")
            if word == "QUIT":
                break
        writer.close()
        await writer.wait_closed()


@contextmanager
def smtp_sink(refuse: str = "") -> Iterator[Sink]:
    sink, ready, loop = Sink(refuse=refuse), threading.Event(), asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with await asyncio.start_server(sink.converse, "127.0.0.1", 0) as server:
            sink.port = server.sockets[0].getsockname()[1]
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(30)
    yield sink
    loop.call_soon_threadsafe(stop.set)
    thread.join(30)
    loop.close()

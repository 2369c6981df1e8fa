"""A double of one program: strfry's command line tool, which no package registry has. It stores into a relay of the test bed.

    tool = install(folder, relay)      # folder/strfry, executable, to be given to the product as `strfry`

It knows what the product uses: `import [--no-verify]` reads one event a line from standard input and writes strfry's summary
to standard error; `scan [--count] FILTER` prints what matches. Like the real one it ends with 1 at a line that is no event,
writes down nothing of the lines before it in that batch, must be run in its own folder (where its configuration lies: here
`relay.json`), and may write beside a running relay. What it does behind that is the test's own: events go to khatru past its
WebSocket (`POST /import`), to any other relay through it. Every call is noted in `calls.jsonl`.

The real program's behaviour is a fact to be looked up with the real one; this proves what the product does around it.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import sys
from pathlib import Path

TYPE_CHECKING = False  # typing takes as long to import as all the rest
if TYPE_CHECKING:
    from typing import Any

    from tests.testbed.relays import Relay

ROOT = Path(__file__).parents[2]


def install(folder: Path, relay: Relay) -> Path:
    """Write the program into `folder`, storing into `relay`; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "relay.json").write_text(json.dumps({"port": relay.port, "kind": relay.kind}))
    program = folder / "strfry"
    bare = " -IS" if relay.kind == "khatru" else ""  # without site packages it starts as fast as a compiled program, nearly
    program.write_text(
        f"#!{sys.executable}{bare}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.testbed.strfry_tool import main\nsys.exit(main(sys.argv[1:]))\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def calls(program: Path) -> list[dict[str, Any]]:
    """Return the calls so far: `{"words": […], "lines": N}`."""
    path = program.with_name("calls.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(words: list[str]) -> int:
    try:
        relay = json.loads(Path("relay.json").read_text())
    except FileNotFoundError:
        print("unable to open config file ./strfry.conf", file=sys.stderr)
        return 1
    if words[:1] == ["import"]:
        return _import(relay, verify="--no-verify" not in words, words=words)
    if words[:1] == ["scan"]:
        return _scan(relay, json.loads(words[-1]), count="--count" in words)
    print("usage: strfry (import | scan) …", file=sys.stderr)
    return 1


def _import(relay: dict[str, Any], *, verify: bool, words: list[str]) -> int:
    lines = sys.stdin.buffer.read().splitlines()
    with Path("calls.jsonl").open("a") as notes:
        notes.write(json.dumps({"words": words, "lines": len(lines), "parent": os.getppid()}) + "\n")
    for line in lines:
        try:
            good = isinstance(json.loads(line)["id"], str)
        except (ValueError, TypeError, KeyError):
            good = False
        if not good:
            print("strfry error: malformed JSON", file=sys.stderr)
            return 1
    if relay["kind"] == "khatru":
        answer = _post(relay, "/import?verify" if verify else "/import", b"\n".join(lines))
        added, present, refused = map(int, answer.split())
    else:
        added, present, refused = _offer(relay, lines)
    print(f"Processed {len(lines)} lines. {added} added, {refused} rejected, {present} dups", file=sys.stderr)
    return 0


def _offer(relay: dict[str, Any], lines: list[bytes]) -> tuple[int, int, int]:
    import asyncio

    from tests.testbed.relays import publish

    refused = asyncio.run(publish(f"ws://127.0.0.1:{relay['port']}", [json.loads(line) for line in lines]))
    present = sum(": duplicate" in each for each in refused)
    return len(lines) - len(refused), present, len(refused) - present


def _scan(relay: dict[str, Any], wanted: dict[str, Any], *, count: bool) -> int:
    if relay["kind"] == "khatru":
        found = _post(relay, "/scan", json.dumps(wanted).encode()).splitlines()
    else:
        import asyncio

        from tests.testbed.relays import read

        events = asyncio.run(read(f"ws://127.0.0.1:{relay['port']}", wanted))
        found = [json.dumps(event, separators=(",", ":")).encode() for event in events]
    print(len(found) if count else b"\n".join(found).decode())
    return 0


def _post(relay: dict[str, Any], path: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.0\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", relay["port"]), timeout=120) as connection:
        connection.sendall(head.encode() + body)
        with connection.makefile("rb") as answer:
            status = answer.readline()
            while answer.readline().strip():
                pass
            content: bytes = answer.read()
    assert b" 200 " in status, status
    return content


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

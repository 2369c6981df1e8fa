"""How many events a relay holds: by the `scan` of strfry, or by NIP-45 where the relay counts."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

from dragon.constellation.relay import Patience, RelayFailed, connected

PATIENCE = 10.0
"""Seconds for the count: strfry counts a million in one."""

QUICK = Patience(connect=3.0, document=2.0, progress=5.0)


async def count_events(url: str | None, tool: Path | None) -> int | None:
    """Return how many events our relay holds; None where it cannot be told. Raises nothing."""
    if tool is not None:
        with suppress(OSError, TimeoutError, ValueError):
            return await _scanned(tool)
    if url is not None:
        with suppress(RelayFailed, TimeoutError):
            return await _counted(url)
    return None


async def _scanned(tool: Path) -> int:
    process = await asyncio.create_subprocess_exec(
        tool, "scan", "--count", "{}", cwd=tool.parent,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE):
            told, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return int(told.decode(errors="replace").split()[-1] if told.split() else "")


async def _counted(url: str) -> int | None:
    async with asyncio.timeout(PATIENCE), connected(url, QUICK) as relay:
        name = relay.name()
        await relay.send("COUNT", name, {})
        while True:
            frame = await relay.next()
            if frame.verb == "COUNT" and frame.sub == name and frame.words and isinstance(frame.words[0], dict):
                number = frame.words[0].get("count")
                return number if isinstance(number, int) and number >= 0 else None
            if frame.verb in ("CLOSED", "NOTICE"):
                return None

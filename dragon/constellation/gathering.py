"""Asking every member of the constellation for its authors, at once and within bounds; and answering the same question."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence

from dragon.constellation.lists import MOST_PAGES, MOST_PER_NODE, QUESTION, Told, asked_page, page_of, read_page
from dragon.errors import DragonError, ProtocolError
from registry_schema import codec

AT_ONCE = 8
"""Nodes asked at the same time: each is one tunnel for some ten milliseconds."""

PATIENCE = 15.0
"""Seconds for one node: a dial that hangs is given up by then; the run goes on without that list."""

PATIENCE_WITH_ALL = 40.0
"""Seconds for all of them together: a hundred nodes that hang must not hold up a run that others would serve."""

REMEMBERED = 1_000
"""Nodes whose last list is kept for when they do not answer: 5,000 keys of 32 bytes each at most, usually some dozens."""

Ask = Callable[[str, str, codec.Value], Awaitable[codec.Value]]
"""`(node id, question, body) -> answer`: the asking half of the exchange."""


class Gathering:
    """Both halves of the question. `own` is our ranked list at this moment, `is_member` whom we answer."""

    def __init__(self, ask: Ask, own: Callable[[], Awaitable[Sequence[str]]], is_member: Callable[[str], bool]) -> None:
        self._ask = ask
        self._own = own
        self._is_member = is_member
        self._last: dict[str, tuple[str, ...]] = {}

    async def answer(self, caller: str, body: codec.Value) -> codec.Value:
        """Answer `caller`, who asked for one page of our list. A `ProtocolError` for a question that is none."""
        if not self._is_member(caller):
            return {"refused": "only members of the swarm are told"}
        try:
            number = asked_page(body)
        except ValueError as error:
            raise ProtocolError(str(error)) from None
        return page_of(await self._own(), number)

    async def ask_all(self, nodes: Iterable[tuple[str, str]]) -> list[Told]:
        """Return what each of `nodes`, pairs of id and alias, says, in their order. A node that fails costs nobody else."""
        turn = asyncio.Semaphore(AT_ONCE)
        until = asyncio.get_running_loop().time() + PATIENCE_WITH_ALL

        async def one(node_id: str, alias: str) -> Told:
            async with turn:
                return await self._told(node_id, alias, until)

        return list(await asyncio.gather(*(one(node_id, alias) for node_id, alias in nodes)))

    async def _told(self, node_id: str, alias: str, until: float) -> Told:
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at(min(now + PATIENCE, until)):
                keys = await self._whole(node_id)
        except TimeoutError:
            return Told(node_id, alias, self._last.get(node_id, ()), "no answer in time")
        except (DragonError, ValueError) as error:
            return Told(node_id, alias, self._last.get(node_id, ()), str(error))
        self._last.pop(node_id, None)
        self._last[node_id] = keys
        while len(self._last) > REMEMBERED:
            del self._last[next(iter(self._last))]
        return Told(node_id, alias, keys)

    async def _whole(self, node_id: str) -> tuple[str, ...]:
        """Return the list of one node, page after page; one that changes meanwhile is read once more from the start."""
        for _ in range(2):
            keys: list[str] = []
            version = b""
            for number in range(MOST_PAGES):
                page = read_page(await self._ask(node_id, QUESTION, {"page": number}))
                if version and page.version != version:
                    break
                version = page.version
                keys += page.keys
                if not page.keys or len(keys) >= page.total:
                    return tuple(keys[:MOST_PER_NODE])
            else:
                return tuple(keys[:MOST_PER_NODE])
        raise ValueError("its list changes faster than it is read")

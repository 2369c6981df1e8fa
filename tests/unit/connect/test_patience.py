"""Who is tested while somebody waits: nobody too early, one test for all, and none for a client that has not asked anything."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from dragon.connect.finder import Found
from dragon.connect.patience import Patience
from dragon.connect.reach import Reach
from dragon.connect.routes import LocalRoute
from dragon.errors import KuboUnreachable
from dragon.probe import CatalogueEntry, Survey
from tests.unit.connect.sockets import until


def found(node: str = "a", scheme: Any = "http") -> Found:
    entry = CatalogueEntry(slug="ollama", port=1, label="x", scheme=scheme)
    return Found(node, node, "ollama", entry, LocalRoute(Survey), Reach(node, "ollama", "p2p"), "")


class Asked:
    def __init__(self) -> None:
        self.of: list[str] = []
        self.may_end = asyncio.Event()

    async def __call__(self, provider: Found) -> None:
        self.of.append(provider.node_id)
        await self.may_end.wait()


async def test_one_test_for_all_who_wait_and_none_after_the_wait() -> None:
    asked = Asked()
    patience = Patience(asked, first=0.001)
    one, two = found("a"), found("b")
    with patience.waiting(one, b"GET"), patience.waiting(one, b"POST"), patience.waiting(two, b"GET"):
        await until(lambda: len(asked.of) == 2)
        await asyncio.sleep(0.02)  # further looks at a provider that is being asked already
        assert sorted(asked.of) == ["a", "b"]
        asked.may_end.set()
        await until(lambda: asked.of.count("a") > 1)  # it passed and is still silent: asked again, later and later
    count = len(asked.of)
    await asyncio.sleep(0.02)
    assert len(asked.of) == count
    await patience.close()


@pytest.mark.parametrize(("scheme", "said", "tested"), [("http", b"", False), ("ssh", b"", True), ("tcp", b"x", True)])
async def test_only_an_answer_that_is_due_is_missed(scheme: str, said: bytes, tested: bool) -> None:
    asked = Asked()
    patience = Patience(asked, first=0.001)
    with patience.waiting(found(scheme=scheme), said):
        await asyncio.sleep(0.02)
        assert bool(asked.of) is tested
    await patience.close()


async def test_what_the_client_says_later_counts() -> None:
    asked = Asked()
    patience = Patience(asked, first=0.001)
    said = bytearray()
    with patience.waiting(found(), said):
        said += b"GET"
        await until(lambda: asked.of)
    await patience.close()


async def test_a_test_that_breaks_is_told_and_forgotten(caplog: pytest.LogCaptureFixture) -> None:
    async def breaks(provider: Found) -> None:
        raise KuboUnreachable("Kubo does not answer", "start it")

    patience = Patience(breaks, first=0.001)
    with caplog.at_level(logging.ERROR), patience.waiting(found(), b"GET"):
        await until(lambda: len(caplog.records) >= 2)
    await patience.close()

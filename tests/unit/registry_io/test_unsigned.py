"""What nobody signed changes nothing in what the registry does: no contact, no pace, no store. DESIGN §7, rule 6."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from dragon.kubo.fake import FakeNetwork
from dragon.registry.verdict import Admitted
from tests.unit.registry_io.support import Member, Shared, Signer


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


async def test_it_is_not_looked_for_does_not_slow_beats_and_is_not_stored(tmp_path: Path, stack: AsyncExitStack) -> None:
    member = Member(FakeNetwork(), tmp_path, seed=1)
    time = Shared([member.clock])
    await stack.enter_async_context(member.running())
    await time.until(lambda: member.registry.status()["published"]["sequence"])
    stored = dict(member.store.held)
    for number in range(20):
        manifest = Signer(number).manifest(member.clock.now_ms(), ["ollama"])
        verdict = member.view.learn(manifest, at=member.clock.now, now_ms=member.clock.now_ms(), usable=True)
        assert isinstance(verdict, Admitted)
    assert len(member.view.members(member.clock.now)) == 21
    assert member.registry._publisher._live(member.clock.now) == 1
    await time.run(12 * 3600 + 60, step=600)
    silent = [node.node_id for node in member.view.nodes(member.clock.now) if node.state == "silent"]
    assert len(silent) == 20
    assert member.registry._remembered() == []
    assert member.store.held.keys() == stored.keys()

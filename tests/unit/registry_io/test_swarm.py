"""Two and three registries in one loop: what one says, the others see; what was lost is repaired; nothing speaks in vain."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

from dragon.kubo.fake import FakeNetwork
from tests.unit.registry_io.support import Member, Shared


async def test_what_one_says_the_others_see(tmp_path: Path) -> None:
    network = FakeNetwork()
    members = [Member(network, tmp_path, seed=seed) for seed in range(3)]
    time = Shared(member.clock for member in members)
    async with AsyncExitStack() as stack:
        for member in members:
            await stack.enter_async_context(member.running())
        await time.until(lambda: all(one.sees(other) for one in members for other in members))
        members[0].offer("ollama")
        await time.until(lambda: all(member.sees(members[0], "ollama") for member in members))

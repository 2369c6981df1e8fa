"""A station's files, kept: whatever changes or vanishes, with one warning for what cannot be, and whatever the clock does."""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dragon.astroport.laying import Laid
from dragon.astroport.upkeep import FACTS_EVERY, RETRY, Upkeep
from dragon.astroport.zen import Zen
from dragon.home import Home
from dragon.kubo.fake import FakeNetwork
from dragon.probe import load_catalogue
from registry_schema import Offer, make_offer
from tests.unit.registry_io.support import Member, Shared

YEAR_MS = 365 * 86_400_000


class Offers:
    """What the station offers, and who wants to know."""

    paused = False

    def __init__(self, member: Member) -> None:
        self._member = member
        self._callbacks: list[Callable[[], None]] = []

    def offers(self) -> tuple[Offer, ...]:
        return self._member.offers

    def on_change(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    def set(self, *slugs: str) -> None:
        self._member.offers = tuple(make_offer(slug, self._member.id, 1234) for slug in sorted(slugs))
        for callback in self._callbacks:
            callback()


class World:
    """One station, another node beside it, and time that the test moves."""

    def __init__(self, folder: Path) -> None:
        network = FakeNetwork()
        self.zen = Zen(folder / "home" / ".zen")
        self.zen.game.mkdir(parents=True)
        (folder / "dragon").mkdir()
        self.one, self.other = (Member(network, folder, seed=seed) for seed in (1, 2))
        self.offers = Offers(self.one)
        self.passes: list[tuple[Laid, Laid]] = []
        self.renewed = 0
        catalogue = load_catalogue()
        self.upkeep = Upkeep(
            self.zen, self.one.id, Home(folder / "dragon"), {"HOME": str(folder / "home")}, kubo=self.one.kubo,
            view=self.one.view, serving=self.offers, registry=self.one.registry, catalogue=lambda: catalogue,
            renew=self.renew, clock=self.one.clock,
        )  # fmt: skip
        self.upkeep.on_laid(lambda balise, cache: self.passes.append((balise, cache)))
        self.time = Shared([self.one.clock, self.other.clock])
        self.balise = self.zen.balise(self.one.id)
        self.cached = self.zen.swarm / self.other.id

    async def renew(self) -> None:
        self.renewed += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[World]:
        async with self.one.running(), self.other.running():
            await self.upkeep.learn()
            task = asyncio.create_task(self.upkeep.run())
            try:
                yield self
            finally:
                task.cancel()
                (ended,) = await asyncio.gather(task, return_exceptions=True)
                assert isinstance(ended, asyncio.CancelledError), ended

    async def until(self, condition: Callable[[], object]) -> None:
        await self.time.until(condition)


def wipe(folder: Path) -> None:
    """Remove a folder into which somebody may be writing just now."""
    for _ in range(100):
        try:
            return shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return None
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
    raise AssertionError(f"{folder} could not be removed")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path).running() as world:
        world.offers.set("ollama")
        world.other.offer("comfyui")
        await world.until(lambda: (world.balise / "x_ollama.sh").exists() and (world.cached / "x_comfyui.sh").exists())
        yield world


async def test_what_goes_takes_its_files_with_it(world: World) -> None:
    world.offers.set()
    world.other.offer()
    await world.until(lambda: not (world.balise / "x_ollama.sh").exists() and not (world.cached / "x_comfyui.sh").exists())
    assert (world.balise / "12345.json").exists()


async def test_whatever_is_taken_away_is_laid_again(world: World) -> None:
    def tmp() -> None:
        wipe(world.zen.tmp)

    def script() -> None:
        (world.balise / "x_ollama.sh").unlink()

    def cached() -> None:
        wipe(world.cached)

    for take in (script, cached, tmp):
        take()
        await world.until(lambda: (world.balise / "x_ollama.sh").exists() and (world.cached / "x_comfyui.sh").exists())


async def test_a_place_that_cannot_be_written_is_told_once_and_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    wipe(world.zen.root)
    await world.until(lambda: {"balise", "swarm cache"} <= world.upkeep.problems.keys())
    await world.time.run(3 * RETRY)
    assert len([record for record in caplog.records if record.message.startswith("balise: ")]) == 1
    assert "is missing" in world.upkeep.problems["balise"]
    world.zen.game.mkdir(parents=True)
    await world.until(lambda: (world.balise / "x_ollama.sh").exists() and not world.upkeep.problems)


@pytest.mark.parametrize("jump", [YEAR_MS, -YEAR_MS], ids=["forward", "back"])
async def test_after_a_jump_of_the_clock_the_station_is_the_same(world: World, jump: int) -> None:
    moats = world.balise / "_MySwarm.moats"
    before = int(moats.read_text())
    world.one.clock.skew_ms += jump
    await world.until(lambda: abs(int(moats.read_text()) - before - jump // 1000) < 600)
    assert (world.balise / "x_ollama.sh").exists()
    world.one.clock.skew_ms -= jump
    await world.until(lambda: abs(int(moats.read_text()) - before) < 600)
    assert (world.balise / "x_ollama.sh").exists()
    await world.until((world.cached / "x_comfyui.sh").exists)  # meanwhile its clock looked wrong to us, or ours to it


async def test_beats_alone_are_told_to_nobody(world: World) -> None:
    await world.time.run(FACTS_EVERY + 10, step=1)  # facts include what was laid first
    told = len(world.passes)
    await world.time.run(600, step=1)
    assert len(world.passes) == told


async def test_facts_are_read_again_by_the_minute_and_on_a_reload(world: World) -> None:
    learned: list[str] = []
    world.upkeep.on_learned(lambda: learned.append(world.upkeep.facts.paf))
    world.zen.programs.mkdir()
    world.zen.env_file.write_text("PAF=21\n")
    await world.time.run(FACTS_EVERY + 1, step=1)
    assert learned == ["21"]
    world.zen.env_file.write_text("PAF=22\n")
    world.upkeep.reload()
    await world.until(lambda: learned == ["21", "22"])


async def test_leaving_takes_the_scripts_and_leaves_the_station(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.running():
        world.offers.set("ollama")
        await world.until(lambda: (world.balise / "x_ollama.sh").exists() and (world.balise / "dragon.manifest").exists())
    await world.upkeep.leave()
    assert not (world.balise / "x_ollama.sh").exists()
    assert not (world.balise / "dragon.manifest").exists(), "nobody signs for it any more"
    assert (world.balise / "12345.json").exists()


async def test_what_the_station_s_list_hides_is_applied_without_being_asked(world: World) -> None:
    world.zen.programs.mkdir()
    for number, private in enumerate(("qdrant ollama npm", "qdrant"), 1):
        world.zen.env_file.write_text(f'DRAGON_PRIVATE_SERVICES="{private}"\n')
        await world.until(lambda: world.renewed == number)  # noqa: B023
    world.zen.env_file.write_text('DRAGON_PRIVATE_SERVICES="qdrant"\nPAF=3\n')
    await world.until(lambda: world.upkeep.facts.paf == "3")
    assert world.renewed == 2, "nothing else is a reason"

"""Follow lists asked of a real relay, and the list of friends that is kept beside a station's own lines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragon.constellation.follows import find_circle, followed, keep_friends
from dragon.constellation.friends import LONGEST_LIST, Circle
from dragon.constellation.places import Places
from dragon.constellation.prerequisites import OTHER_RUN, missing, needs
from dragon.constellation.relay import Patience, RelayFailed
from dragon.errors import HomeError
from tests.testbed.backend import a_constellation
from tests.testbed.events import Author, authors
from tests.testbed.ports import free_port
from tests.testbed.relays import Relay
from tests.unit.constellation.relays import Bad, bad_relay
from tests.unit.constellation.test_lock import FLOCK_AND_PID, held_by

NOW = int(time.time())
QUICK = Patience(connect=3, document=2, progress=5)


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    with Relay("sdk", tmp_path_factory.mktemp("relay")) as running:
        yield running


async def test_friends_and_theirs_are_found_by_the_newest_sound_lists(relay: Relay) -> None:
    anna, bert, carl, dora, old = authors("follows", 5)
    crowd = authors("crowd", 150)  # more than one question holds
    await asyncio.to_thread(
        relay.load,
        [
            anna.follows([old], created_at=NOW - 500),
            anna.follows([bert, carl], created_at=NOW - 100),
            carl.follows([dora, anna], created_at=NOW - 100),
            *(person.follows([carl], created_at=NOW - 100) for person in crowd),
        ],
    )
    people = [anna.pubkey, *(person.pubkey for person in crowd)]
    found = await find_circle(relay.url, people, QUICK)
    assert found == Circle((carl.pubkey, bert.pubkey), (dora.pubkey,))


async def test_a_relay_that_is_away_is_told() -> None:
    with pytest.raises(RelayFailed):
        await find_circle(f"ws://127.0.0.1:{free_port()}", ["ab" * 32], QUICK)


async def test_a_relay_that_refuses_is_told_and_takes_no_friends_away() -> None:
    """An empty answer would empty the list that the relay's write policy reads."""

    async def refusing(bad: Bad, message: list[Any]) -> None:
        await bad.say("CLOSED", message[1], "error: too busy")

    async with bad_relay(refusing) as url:
        with pytest.raises(RelayFailed, match="too busy"):
            await find_circle(url, ["ab" * 32], QUICK)


def test_tags_that_name_nobody_are_passed_over() -> None:
    keys = [Author(f"t{number}").pubkey for number in range(3)]
    tags = [["p", keys[0], "wss://x"], ["p"], ["e", keys[1]], ["p", "x"], ["p", keys[2].upper()], ["p", keys[0]], []]
    assert followed(tags) == [keys[0], keys[2]]
    assert len(followed(["p", f"{number:064x}"] for number in range(100_000))) == LONGEST_LIST


A, B, C, D = (letter * 64 for letter in "abcd")


def test_elsewhere_the_friends_are_a_file_of_our_own(tmp_path: Path) -> None:
    places = Places(tmp_path)
    places.root.mkdir()
    assert keep_friends(places, Circle((A,), (B,))) == 2
    assert places.friends.read_text() == f"{A}\n{B}\n"
    keep_friends(places, Circle((B,)))
    assert places.friends.read_text() == f"{B}\n"


def test_on_a_station_its_own_lines_stay_and_only_ours_come_and_go(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path / "zen")
    places.root.mkdir()
    (tmp_path / "zen" / "strfry").mkdir(parents=True)
    places.friends.write_text(f"{A}\n# a note\n{B.upper()}\n")
    keep_friends(places, Circle((B, C)))
    assert places.friends.read_text() == f"{A}\n# a note\n{B.upper()}\n{C}\n"
    before = places.friends.stat().st_mtime_ns
    keep_friends(places, Circle((B, C)))
    assert places.friends.stat().st_mtime_ns == before, "written only when something changes"
    keep_friends(places, Circle((D,)))
    assert places.friends.read_text() == f"{A}\n# a note\n{B.upper()}\n{D}\n", "theirs stays, also where we found it too"
    keep_friends(places, Circle())
    assert places.friends.read_text() == f"{A}\n# a note\n{B.upper()}\n"


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(HomeError):
        keep_friends(Places(tmp_path / "none"), Circle((A,)))


# -- what a run needs -------------------------------------------------------------------------------------------------


async def test_on_a_machine_that_has_everything_nothing_is_missing(relay: Relay, tmp_path: Path) -> None:
    facts = a_constellation(
        authors={"own": 1, "total": 2, "left_out": 0, "nodes": []},
        peers=[{"id": "x", "alias": "x", "trust": "signed", "relay": ""}],
        local={"url": relay.url, "tool": None},
    )
    found = await needs(facts, Places(tmp_path), quick=QUICK)
    assert missing(found) == []
    assert all(not need.how for need in found)


async def test_each_lack_says_how_to_get_what_is_missing(tmp_path: Path) -> None:
    zen = tmp_path / "zen"
    zen.mkdir()
    facts = a_constellation(local={"url": f"ws://127.0.0.1:{free_port()}", "tool": None})
    places = Places(tmp_path / "file" / "home", zen)
    (tmp_path / "file").write_text("")
    places_lock = Places(tmp_path, zen).locks[0]
    lacking = missing(await needs(facts, places, quick=QUICK))
    assert [need.name for need in lacking] == [
        "local relay", "import program", "people", "peers", "folder constellation", "folder strfry",
    ]  # fmt: skip
    assert all(need.how for need in lacking)
    notes = [need for need in await needs(facts, places, quick=QUICK) if not need.ok and not need.essential]
    assert [need.name for need in notes] == ["station"]
    places_lock.parent.mkdir()
    with held_by(FLOCK_AND_PID, places_lock) as other:
        lacking = missing(await needs(facts, Places(tmp_path, zen), quick=QUICK))
        (run,) = [need for need in lacking if need.name == OTHER_RUN]
        assert str(other.pid) in run.detail


async def test_without_any_relay_the_setting_is_named(tmp_path: Path) -> None:
    found = await needs(a_constellation(), Places(tmp_path), quick=QUICK)
    (need,) = [need for need in found if need.name == "local relay"]
    assert (need.ok, "[constellation] relay" in need.how) == (False, True)

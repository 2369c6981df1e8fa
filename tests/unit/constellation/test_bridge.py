"""The bridge finds exactly the differences of two sets, whoever lacks what and however little an answer may hold."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragon.constellation.bridge import MAX_IDLE, Bridge, Side
from dragon.constellation.negentropy import END, START, Bound, Mode, Range, encode
from dragon.errors import ProtocolError
from tests.unit.constellation.responder import Item, Responder

numbers = st.sets(st.integers(0, 3000), max_size=120)


def items(chosen: set[int]) -> set[Item]:
    """Items with few different times, so that bounds often fall between the ids of one second."""
    return {(number % 30, hashlib.sha256(b"%d" % number).digest()) for number in chosen}


sets = numbers.map(items)


def cross(bridge: Bridge, ours: Responder, theirs: Responder, rounds: int = 2000) -> int:
    """Carry messages until the bridge has no more; return the bytes that went to and from the peer."""
    carried = 0
    while side := bridge.turn:
        rounds -= 1
        assert rounds, "it does not end"
        message = bridge.ask(side)
        answer = (ours if side == "ours" else theirs).answer(message)
        if side == "theirs":
            carried += len(message) + len(answer)
        bridge.answer(side, answer)
    return carried


def many(count: int, seed: int = 1) -> list[Item]:
    rng = random.Random(seed)
    return [(rng.randrange(10**6), hashlib.sha256(b"%d %d" % (seed, number)).digest()) for number in range(count)]


@given(sets, sets, sets, st.sampled_from([None, 40, 300, 2000]), st.sampled_from([100, 1000, 48_000]))
def test_the_differences_are_exact(both: set[Item], left: set[Item], right: set[Item], frame: int | None, message: int) -> None:
    ours, theirs = both | left, both | right
    bridge = Bridge(want_have=True, message_size=message)
    cross(bridge, Responder(ours, frame), Responder(theirs, frame))
    assert sorted(bridge.found.need) == sorted(name for _, name in theirs - ours)
    assert sorted(bridge.found.have) == sorted(name for _, name in ours - theirs)


@given(sets, sets, st.sampled_from([None, 40, 300]))
def test_what_we_lack_is_found_without_asking_for_the_rest(both: set[Item], right: set[Item], frame: int | None) -> None:
    bridge = Bridge()
    cross(bridge, Responder(both, frame), Responder(both | right, frame))
    assert sorted(bridge.found.need) == sorted(name for _, name in right - both)
    assert bridge.found.have == []


@pytest.mark.parametrize("frame", [None, 5000])
@pytest.mark.parametrize(("here", "there"), [(0, 0), (0, 3000), (3000, 0), (20_000, 20_000), (1, 1), (31, 33)])
def test_sizes(here: int, there: int, frame: int | None) -> None:
    """Sets that share nothing, or are empty, or lie at the border between lists and fingerprints."""
    ours, theirs = set(many(here, 1)), set(many(there, 2))
    bridge = Bridge()
    cross(bridge, Responder(ours, frame), Responder(theirs, frame))
    assert set(bridge.found.need) == {name for _, name in theirs}
    assert bridge.ours_empty == (here == 0)


def test_equal_sets_cost_one_small_message() -> None:
    everything = many(50_000)
    theirs = Responder(everything)
    assert cross(Bridge(), Responder(everything), theirs) < 1000
    assert theirs.asked == 1


def test_one_percent_of_difference_costs_a_small_part_of_the_ids() -> None:
    everything = many(50_000)
    bridge = Bridge()
    carried = cross(bridge, Responder(item for number, item in enumerate(everything) if number % 100), Responder(everything))
    assert len(bridge.found.need) == 500
    assert carried < len(everything) * 32 / 3


def test_messages_keep_to_their_size() -> None:
    ours, theirs = Responder(many(20_000, 1), 60_000), Responder(many(20_000, 2), 60_000)
    bridge = Bridge(want_have=True, message_size=4000)
    while side := bridge.turn:
        message = bridge.ask(side)
        assert len(message) <= 4000 + 1
        bridge.answer(side, (ours if side == "ours" else theirs).answer(message))


def opened() -> tuple[Bridge, Side]:
    """A bridge whose peer is asked about one list of two ids, below time 100."""
    bridge = Bridge()
    bridge.ask("ours")
    bridge.answer("ours", encode([Range(START, Bound(100), Mode.ID_LIST, ids=(b"a" * 32, b"b" * 32))]))
    assert bridge.turn == "theirs"
    bridge.ask("theirs")
    return bridge, "theirs"


@pytest.mark.parametrize(
    ("said", "trouble"),
    [
        ([Range(Bound(200), Bound(300), Mode.ID_LIST, ids=(b"c" * 32,))], "not asked for"),
        ([Range(START, Bound(101), Mode.ID_LIST, ids=(b"c" * 32,))], "not asked for"),
        ([Range(Bound(50), Bound(150), Mode.ID_LIST)], "not asked for"),
        ([Range(START, Bound(200), Mode.FINGERPRINT, b"f" * 16), Range(Bound(200), END, Mode.ID_LIST)], "not asked for"),
    ],
)
def test_answers_to_other_questions_are_refused(said: list[Range], trouble: str) -> None:
    bridge, side = opened()
    with pytest.raises(ProtocolError, match=trouble):
        bridge.answer(side, encode(said))


def test_a_relay_that_says_nothing_for_ever_is_given_up() -> None:
    bridge, side = opened()
    nothing = encode([Range(START, END, Mode.FINGERPRINT, b"f" * 16)])
    for _ in range(MAX_IDLE):
        bridge.answer(side, nothing)
        assert bridge.turn == "theirs"
        bridge.ask("theirs")
    with pytest.raises(ProtocolError, match="without saying anything"):
        bridge.answer(side, nothing)


def test_a_list_that_comes_in_two_answers() -> None:
    bridge, side = opened()
    bridge.answer(side, encode([
        Range(START, Bound(50), Mode.ID_LIST, ids=(b"a" * 32, b"c" * 32)), Range(Bound(50), END, Mode.FINGERPRINT, b"f" * 16),
    ]))  # fmt: skip
    assert bridge.found.need == [b"c" * 32]
    bridge.ask("theirs")
    bridge.answer(side, encode([Range(Bound(50), Bound(100), Mode.ID_LIST, ids=(b"b" * 32, b"d" * 32))]))
    assert bridge.found.need == [b"c" * 32, b"d" * 32]
    assert bridge.turn is None
